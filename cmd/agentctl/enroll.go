package main

import (
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

const enrollUsage = `Usage: agentctl enroll request|challenge|activate|finish [flags]

Prove to somebody that an attestation key (AK) lives in the TPM of a certain
endorsement key (EK). Each step runs where it says; files go from one to the next.

  request    on the machine: show AK and EK
  challenge  at the verifier: encrypt a secret for that EK and AK
  activate   on the machine, as root: have the TPM open it
  finish     at the verifier: compare, and write the enrolment record

  request    [--out FILE]
  challenge  --keep FILE [--ek-roots FILE] [--out FILE] REQUEST
             --keep stores what only the verifier may know; --ek-roots are
             certificates that must have certified the EK
  activate   [--out FILE] CHALLENGE
  finish     --kept FILE [--ek-issuer NAME] [--out FILE] ANSWER

The record's AK name goes into ak_names of a policy.

Examples:
  agentctl enroll request --out request.json                          # machine
  agentctl enroll challenge --keep kept.json --out challenge.json request.json
  agentctl enroll activate --out answer.json challenge.json           # machine
  agentctl enroll finish --kept kept.json answer.json
`

// maxEnroll is the largest file of an enrolment that is read, in bytes.
const maxEnroll = 1 << 20

func enrollCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "enroll", enrollUsage, enrollRequest(t, s), enrollChallenge(t), enrollActivate(t, s), enrollFinish(t))
}

// writeDocument writes v as one line of JSON.
func (t *terminal) writeDocument(name string, v any) error {
	b, err := evidence.EncodeJSON(v)
	if err != nil {
		return misuse(err)
	}
	return t.writeOutput(name, append(b, '\n'))
}

func (t *terminal) readDocument(name string, v any) error {
	b, err := t.readInput(name, maxEnroll)
	if err != nil {
		return err
	}
	if err := evidence.DecodeJSON(b, maxEnroll, v); err != nil {
		return misuse(fmt.Errorf("%s: %w", name, err))
	}
	return nil
}

func enrollRequest(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "request", Long: enrollUsage, Args: arguments(),
		RunE: func(c *cobra.Command, _ []string) error {
			ak, err := s.clientSocket().AK(c.Context())
			if err != nil {
				return failed(err)
			}
			return t.writeDocument(out, ak)
		},
	}
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func enrollChallenge(t *terminal) *cobra.Command {
	var keep, roots, out string
	c := &cobra.Command{
		Use: "challenge", Long: enrollUsage, Args: arguments("REQUEST"),
		RunE: func(c *cobra.Command, args []string) error {
			if keep == "" {
				return misuse(errors.New("--keep is missing")).withHint(helpHint(c))
			}
			var request api.AK
			if err := t.readDocument(args[0], &request); err != nil {
				return err
			}
			if roots != "" {
				issuer, err := t.certified(&request, roots)
				if err != nil {
					return err
				}
				fmt.Fprintf(t.err, "the EK was certified under %q: give --ek-issuer with this name to finish\n", cleanLine(issuer))
			}
			challenge, expected, err := keys.NewChallenge(request.EK, request.Public)
			if err != nil {
				return misuse(err)
			}
			b, err := expected.Encode()
			if err != nil {
				return misuse(err)
			}
			if err := writeSecret(keep, b); err != nil {
				return err
			}
			return t.writeDocument(out, api.ActivateRequest{Credential: sized(challenge.Credential), Secret: sized(challenge.Secret)})
		},
	}
	c.Flags().StringVar(&keep, "keep", "", "")
	c.Flags().StringVar(&roots, "ek-roots", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// certified checks the EK's certificate under the roots in a file.
func (t *terminal) certified(request *api.AK, roots string) (string, error) {
	ders, err := t.readCertificates(roots)
	if err != nil {
		return "", err
	}
	pool, between := x509.NewCertPool(), x509.NewCertPool()
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return "", misuse(fmt.Errorf("%s: %w", roots, err))
		}
		pool.AddCert(c)
	}
	if len(request.Certificates) == 0 {
		return "", &exitError{code: 3, err: errors.New("the request holds no certificate of the EK")}
	}
	for _, der := range request.Certificates[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	ek, err := keys.ParsePublic(request.EK)
	if err != nil {
		return "", misuse(err)
	}
	issuer, err := keys.VerifyEKCertificate(request.Certificates[0], ek, pool, between, time.Now())
	if err != nil {
		return "", &exitError{code: exitBinding, err: err}
	}
	return issuer, nil
}

// sized puts the two bytes of size in front of b, as a TPM2B has them.
func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// writeSecret writes a file that only its owner may read, and overwrites none.
func writeSecret(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return misuse(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Close()); err != nil {
		return misuse(fmt.Errorf("write %s: %w", name, err))
	}
	return nil
}

func enrollActivate(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: "activate", Long: enrollUsage, Args: arguments("CHALLENGE"),
		RunE: func(c *cobra.Command, args []string) error {
			var challenge api.ActivateRequest
			if err := t.readDocument(args[0], &challenge); err != nil {
				return err
			}
			secret, err := s.adminSocket().Activate(c.Context(), challenge)
			if err != nil {
				return failed(err)
			}
			return t.writeDocument(out, api.Activated{Secret: secret})
		},
	}
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func enrollFinish(t *terminal) *cobra.Command {
	var kept, issuer, out string
	c := &cobra.Command{
		Use: "finish", Long: enrollUsage, Args: arguments("ANSWER"),
		RunE: func(c *cobra.Command, args []string) error {
			if kept == "" {
				return misuse(errors.New("--kept is missing")).withHint(helpHint(c))
			}
			b, err := t.readInput(kept, maxEnroll)
			if err != nil {
				return err
			}
			expected, err := keys.ParseExpected(b)
			if err != nil {
				return misuse(fmt.Errorf("%s: %w", kept, err))
			}
			var answer api.Activated
			if err := t.readDocument(args[0], &answer); err != nil {
				return err
			}
			record, err := keys.NewEnrolment(expected, answer.Secret, issuer, time.Now())
			if err != nil {
				return &exitError{code: exitBinding, err: err}
			}
			return t.writeDocument(out, record)
		},
	}
	c.Flags().StringVar(&kept, "kept", "", "")
	c.Flags().StringVar(&issuer, "ek-issuer", keys.NoIssuer, "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}
