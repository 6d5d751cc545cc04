// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/secret"
)

const secretUsage = `Usage: agentctl secret COMMAND

Secrets that root provisions for applications. systemd hands them to the unit of the
application, as credentials (LoadCredential=), so the program need not be changed. No
command and no request shows one again.

  put              store a new secret
  rotate           replace its content; the old one stays until the new one is durable
  list             names and sizes
  remove           delete it

A relying party hands a secret to an application after it verified the evidence of the
machine; the machine gets files, and gives some back (docs/delivery.md):

  challenge        relying party: begin a delivery
  ticket           machine: make a ticket for that challenge, with evidence
  send             relying party: verify the ticket, and encrypt the secret to it; or do
                   all over one connection
  receive          machine: store the secret, and make a receipt
  receipt          relying party: verify the receipt
  serve            machine: listen for "send --to HOST:PORT", as a service

"agentctl app enable UNIT --credential NAME" has the unit load it.

Exit codes: 1 no such application or secret, 7 not root, 8 the store cannot be opened.

Examples:
  agentctl secret put --app billing db-password < password
  agentctl app enable billing.service --credential db-password
`

const secretPutUsage = `Usage: agentctl secret put --app APP NAME [FILE]

Store a new secret for an application, sealed as what it seals itself. The secret is
FILE, or else standard input, byte for byte: a line feed at its end is part of it. On a
terminal it is one line, without its end, which is not shown.

  --app APP   application that it is for; required

NAME is that of the credential: letters, digits and _.-+@, at most 200.

Exit codes: 1 there is one of that name, or no such application, 8 the store cannot be
opened.

Examples:
  agentctl secret put --app billing db-password /root/password
  openssl rand -hex 32 | tr -d '\n' | agentctl secret put --app billing token
`

const secretRotateUsage = `Usage: agentctl secret rotate --app APP NAME [FILE]

Replace the content of a secret by FILE, or by standard input. The old content stays
until the new one is durable. Units that run keep the old one: restart them.

  --app APP   application that it is for; required

Exit codes: 1 no such secret, 8 the store cannot be opened.

Examples:
  agentctl secret rotate --app billing db-password /root/password
`

const secretListUsage = `Usage: agentctl secret list [--app APP] [--json]

List the secrets that root provisioned, without their content.

  --app APP   those of one application

Examples:
  agentctl secret list
`

const secretRemoveUsage = `Usage: agentctl secret remove --app APP NAME

Delete a secret for good. A unit that loads it does not start any more.

  --app APP   application that it is for; required

Examples:
  agentctl secret remove --app billing db-password
`

func secretCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "secret", secretUsage,
		secretStore(t, s, "put", secretPutUsage, "stored", (*client.Admin).PutSecret),
		secretStore(t, s, "rotate", secretRotateUsage, "replaced", (*client.Admin).RotateSecret),
		secretList(t, s), secretRemove(t, s),
		secretChallenge(t), secretTicket(t, s), secretSend(t), secretReceive(t, s), secretReceipt(t),
		secretServe(t, s))
}

// secretStore returns a command that hands a secret to the agent.
func secretStore(t *terminal, s *sockets, use, long, did string, store func(*client.Admin, context.Context, api.SecretRequest) (*api.ProvisionedSecret, error)) *cobra.Command {
	var app string
	names := func(c *cobra.Command, args []string) error {
		if len(args) == 2 {
			return nil
		}
		return arguments("NAME")(c, args)
	}
	c := command(use, long, names, func(c *cobra.Command, args []string) error {
		if app == "" {
			return misuse(errors.New("--app is missing")).withHint(helpHint(c))
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		file := "-"
		if len(args) == 2 {
			file = args[1]
		}
		data, err := t.readSecret(c.Context(), file, maxSecretFile)
		if err != nil {
			return err
		}
		defer clear(data)
		out, err := store(s.adminSocket(), c.Context(), api.SecretRequest{App: app, Name: args[0], Data: data})
		return present(t, out, err, func() {
			fmt.Fprintf(t.out, "%s %q of %s, %d bytes, slot %s, generation %d\n", did, out.Name, cleanLine(out.App), out.Bytes, out.Slot, out.Generation)
		})
	})
	c.Flags().StringVar(&app, "app", "", "")
	return c
}

func secretList(t *terminal, s *sockets) *cobra.Command {
	var app string
	c := command("list", secretListUsage, arguments(), func(c *cobra.Command, _ []string) error {
		all, err := s.adminSocket().Secrets(c.Context(), app)
		return present(t, all, err, func() {
			n := &node{text: count(len(all.Secrets), "provisioned secret")}
			for _, x := range all.Secrets {
				y := n.add("%s: %s, %d bytes, %s, generation %d", x.App, x.Name, x.Bytes, x.Slot, x.Generation)
				if x.Rewrap {
					y.add("sealed to an older TCB or another kind of slot: `agentctl key rewrap`")
				}
				if x.Unproven {
					y.add("recovered although nothing told who wrote it: rotate it")
				}
			}
			n.draw(t)
		})
	})
	c.Flags().StringVar(&app, "app", "", "")
	return c
}

func secretRemove(t *terminal, s *sockets) *cobra.Command {
	var app string
	c := command("remove", secretRemoveUsage, arguments("NAME"), func(c *cobra.Command, args []string) error {
		if app == "" {
			return misuse(errors.New("--app is missing")).withHint(helpHint(c))
		}
		err := s.adminSocket().RemoveSecret(c.Context(), app, args[0])
		return present(t, api.StoredName{App: app, Name: args[0]}, err, func() {
			fmt.Fprintf(t.out, "%s has no secret %q any more\n", cleanLine(app), args[0])
		})
	})
	c.Flags().StringVar(&app, "app", "", "")
	return c
}
