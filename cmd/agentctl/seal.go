// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

const sealUsage = `Usage: agentctl seal --name NAME [flags] FILE
       agentctl seal --what-if [--name NAME]

Store a secret of the calling application. It opens only on this chip, for this
launch, and for this system unit and user. The secret is read from FILE ("-" is
standard input), never from an argument.

  --name NAME              name that the application chooses, to unseal it by
  --associated-data FILE   data that unseal requires again
  --require-digest         from now on give this application its keys only while it
                           is measured as it is now, or as authorised later
  --what-if                seal nothing; say what would lock it out

Exit codes: 7 not an application's unit and user, 8 the store cannot be opened.

Examples:
  agentctl seal --what-if
  agentctl seal --name db-password /run/credentials/db-password
`

// maxSecretFile is more than the limit for a secret, so that the agent names the limit.
const maxSecretFile = sealing.MaxSecret + 1

func sealCommand(t *terminal, s *sockets) *cobra.Command {
	var name, associated string
	var digest, whatIf bool
	file := func(c *cobra.Command, args []string) error {
		if whatIf {
			return arguments()(c, args)
		}
		return arguments("FILE")(c, args)
	}
	c := command("seal", sealUsage, file, func(c *cobra.Command, args []string) error {
		if whatIf {
			return t.printContract(s.clientSocket().Contract(c.Context(), name))
		}
		if name == "" {
			return misuse(errors.New("--name is missing")).withHint(helpHint(c))
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		r := api.SealRequest{Name: name, RequireDigest: digest}
		var err error
		if r.AssociatedData, err = t.readAssociated(associated); err != nil {
			return err
		}
		if r.Data, err = t.readInput(args[0], maxSecretFile); err != nil {
			return err
		}
		defer clear(r.Data)
		sealed, err := s.clientSocket().Seal(c.Context(), r)
		return present(t, sealed, err, func() {
			fmt.Fprintf(t.out, "sealed %q, %d bytes\n", sealed.Name, sealed.Bytes)
		})
	})
	c.Flags().StringVar(&name, "name", "", "")
	c.Flags().StringVar(&associated, "associated-data", "", "")
	c.Flags().BoolVar(&digest, "require-digest", false, "")
	c.Flags().BoolVar(&whatIf, "what-if", false, "")
	return c
}

const unsealUsage = `Usage: agentctl unseal --name NAME [flags]
       agentctl unseal --name NAME --discard

Open a secret that the calling application has sealed. It goes as it is to standard
output, or to a file of mode 0600.

  --name NAME              the name it was sealed by
  --associated-data FILE   the data that was given to seal
  --out FILE               instead of standard output
  --discard                do not open it, delete it for good

Exit codes: 1 no such secret, 7 not this application's unit, user or digest, 8 the
secret cannot be opened: the error says why, and nothing is deleted.

Examples:
  agentctl unseal --name db-password --out /run/billing/db-password
`

func unsealCommand(t *terminal, s *sockets) *cobra.Command {
	var name, associated, out string
	var discard bool
	c := command("unseal", unsealUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if name == "" {
			return misuse(errors.New("--name is missing")).withHint(helpHint(c))
		}
		if discard {
			if err := s.clientSocket().Discard(c.Context(), name); err != nil {
				return failed(err)
			}
			return nil
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		r := api.UnsealRequest{Name: name}
		var err error
		if r.AssociatedData, err = t.readAssociated(associated); err != nil {
			return err
		}
		b, err := s.clientSocket().Unseal(c.Context(), r)
		if err != nil {
			return failed(err)
		}
		defer clear(b)
		return t.writeSecretOutput(out, b)
	})
	c.Flags().StringVar(&name, "name", "", "")
	c.Flags().StringVar(&associated, "associated-data", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	c.Flags().BoolVar(&discard, "discard", false, "")
	return c
}

func (t *terminal) readAssociated(name string) ([]byte, error) {
	if name == "" {
		return nil, nil
	}
	return t.readInput(name, sealing.MaxAssociatedData)
}

// printContract prints a contract. If the blob does not open, the exit code is 8.
func (t *terminal) printContract(c *api.Contract, err error) error {
	err = present(t, c, err, func() { fmt.Fprint(t.out, clean(c.Text)) })
	if err == nil && c.Code != "" {
		return &exitError{code: exitSealed, err: fmt.Errorf("it does not open: %s", c.Reason), hint: c.Code.Info().Hint}
	}
	return err
}
