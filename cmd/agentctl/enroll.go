// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// maxEnroll is the largest file of an enrolment that is read, in bytes.
const maxEnroll = 1 << 20

func enrollCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "enroll", enrollUsage, enrollRequest(t, s), enrollChallenge(t), enrollActivate(t, s), enrollFinish(t), enrollAdd(t), enrollApprove(t), enrollList(t))
}

// writeDocument writes v as one line of JSON.
func (t *terminal) writeDocument(name string, v any) error {
	b, err := strictjson.Encode(v)
	if err != nil {
		return misuse(err)
	}
	return t.writeOutput(name, append(b, '\n'))
}

func enrollRequest(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := command("request", enrollRequestUsage, arguments(), func(c *cobra.Command, _ []string) error {
		ak, err := s.clientSocket().AK(c.Context())
		if err != nil {
			return failed(err)
		}
		return t.writeDocument(out, ak)
	})
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func enrollChallenge(t *terminal) *cobra.Command {
	var keep, roots, out string
	var between []string
	c := command("challenge", enrollChallengeUsage, arguments("REQUEST"), func(c *cobra.Command, args []string) error {
		if keep == "" {
			return misuse(errors.New("--keep is missing")).withHint(helpHint(c))
		}
		if keep == "-" {
			return misuse(errors.New("--keep - would mix what only the verifier may know with the challenge: name a file")).withHint(helpHint(c))
		}
		request, err := readDocument[api.AK](t, args[0], maxEnroll)
		if err != nil {
			return err
		}
		challenge, expected, err := keys.NewChallenge(request.EK, request.Public)
		if err != nil {
			return misuse(err)
		}
		if expected.Certificates, err = t.ekCertificates(request, between); err != nil {
			return err
		}
		if roots != "" {
			if expected.Issuer, err = t.certified(request, expected.Certificates, roots); err != nil {
				return err
			}
			fmt.Fprintf(t.err, "the EK was certified under %q\n", cleanLine(expected.Issuer))
		}
		b, err := expected.Encode()
		if err != nil {
			return misuse(err)
		}
		if err := writeSecret(keep, b); err != nil {
			return err
		}
		return t.writeDocument(out, api.ActivateRequest{Credential: sized(challenge.Credential), Secret: sized(challenge.Secret)})
	})
	c.Flags().StringVar(&keep, "keep", "", "")
	c.Flags().StringVar(&roots, "ek-roots", "", "")
	c.Flags().StringArrayVar(&between, "ek-certificate", nil, "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// ekCertificates returns the certificates of the request and those of files, the EK's
// first, as a record has them.
func (t *terminal) ekCertificates(request *api.AK, files []string) (keys.Bundle, error) {
	var out keys.Bundle
	for _, der := range request.Certificates {
		out = append(out, der)
	}
	for _, name := range files {
		ders, err := t.readCertificates(name)
		if err != nil {
			return nil, err
		}
		out = append(out, ders...)
	}
	if len(out) == 0 {
		return nil, nil
	}
	ek, err := keys.ParsePublic(request.EK)
	if err != nil {
		return nil, misuse(err)
	}
	c, err := keys.ParseEKCertificate(out)
	if err != nil {
		return nil, misuse(err)
	}
	if err := errors.Join(c.CheckKey(ek.Name()), c.CheckUsage()); err != nil {
		err = fmt.Errorf("the first certificate is not that of the endorsement key: %w", err)
		return nil, &exitError{code: exitBinding, err: err, hint: "give the EK's certificate first, then its issuers"}
	}
	return out, nil
}

// certified checks the EK's certificate under the roots in a file.
func (t *terminal) certified(request *api.AK, certificates keys.Bundle, roots string) (string, error) {
	ders, err := t.readCertificates(roots)
	if err != nil {
		return "", err
	}
	trusted := make([]*x509.Certificate, len(ders))
	for i, der := range ders {
		if trusted[i], err = x509.ParseCertificate(der); err != nil {
			return "", misuse(fmt.Errorf("%s: %w", roots, err))
		}
	}
	if len(certificates) == 0 {
		x := &exitError{code: int(verify.ClassCollateral), err: errors.New("the request contains no certificate of the EK")}
		return "", x.withHint("give the certificate that the TPM's maker publishes with --ek-certificate")
	}
	ek, err := keys.ParsePublic(request.EK)
	if err != nil {
		return "", misuse(err)
	}
	issuer, err := keys.VerifyEKCertificate(certificates, ek, trusted, time.Now())
	if missing, ok := errors.AsType[*keys.MissingIssuerError](err); ok {
		x := &exitError{code: int(verify.ClassCollateral), err: err}
		return "", x.withHint(fmt.Sprintf("give the certificate of %q: with --ek-certificate FILE if it is an intermediate of the TPM's maker, in the file of --ek-roots if it is the root", missing.Issuer))
	}
	if err != nil {
		return "", &exitError{code: exitBinding, err: err}
	}
	return issuer, nil
}

// sized returns b after its two bytes of size, as in a TPM2B.
func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// writeSecret writes a file that only its owner may read. It does not overwrite a file.
func writeSecret(name string, b []byte) error {
	return misuseIf(durable.WriteNew(name, b, 0o600))
}

func enrollActivate(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := command("activate", enrollActivateUsage, arguments("CHALLENGE"), func(c *cobra.Command, args []string) error {
		challenge, err := readDocument[api.ActivateRequest](t, args[0], maxEnroll)
		if err != nil {
			return err
		}
		secret, err := s.adminSocket().Activate(c.Context(), *challenge)
		if err != nil {
			return failed(err)
		}
		return t.writeDocument(out, api.Activated{Secret: secret})
	})
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

func enrollFinish(t *terminal) *cobra.Command {
	var kept, issuer, out string
	c := command("finish", enrollFinishUsage, arguments("ANSWER"), func(c *cobra.Command, args []string) error {
		if kept == "" {
			return misuse(errors.New("--kept is missing")).withHint(helpHint(c))
		}
		expected, err := readAs(t, kept, maxEnroll, keys.ParseExpected)
		if err != nil {
			return err
		}
		answer, err := readDocument[api.Activated](t, args[0], maxEnroll)
		if err != nil {
			return err
		}
		record, err := keys.NewEnrolment(expected, answer.Secret, cmp.Or(issuer, expected.Issuer, keys.NoIssuer), time.Now())
		if err != nil {
			return &exitError{code: exitBinding, err: err}
		}
		return t.writeDocument(out, record)
	})
	c.Flags().StringVar(&kept, "kept", "", "")
	c.Flags().StringVar(&issuer, "ek-issuer", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}
