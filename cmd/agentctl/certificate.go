// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/deviceattest"
	"github.com/cvm-agentd/agentd/verify"
)

const certificateUsage = `Usage: agentctl certificate --authority URL --acme URL --key KEY [flags]

Get a certificate for a key in the TPM, by ACME. The key is the calling application's,
and the certification authority one with the challenge device-attest-01. Run the command
in the application's unit. The configuration must name the application in
keys.certify_apps.

The command has an attestation authority (agentd-verifier) appraise new evidence and
certify the attestation key, and that key certifies the application's. The chain is
written in PEM. A program uses the key by "agentctl sign", or in Go by package client.
See docs/acme.md.

  --authority URL   the attestation authority. For instance
                    https://verifier.example:8443, or with /p/NAME at its end for the
                    policy NAME; required
  --acme URL        directory of the ACME server; required
  --key KEY         LABEL, LABEL:tpm-ecdsa-p256 or LABEL:tpm-ecdsa-p256:VERSION; required
  --authority-roots FILE
                    PEM file of the authorities of the attestation authority's TLS
                    (default: those of the system)
  --acme-roots FILE
                    the same for the ACME server
  --identifier TEXT
                    fail if the attestation authority names this machine otherwise
  --accept-terms    accept the terms of service of the ACME server
  --out FILE        file of the chain (default: standard output)

Exit codes: 1 misuse or failure, 2 to 5 the attestation authority refused the evidence,
6 agent not available, 7 not permitted to this caller, 8 the store cannot be opened.

Examples:
  agentctl certificate --key tls --out /run/billing/tls.crt \
      --authority https://verifier.example:8443 \
      --acme https://ca.example/acme/agentd/directory
`

type acmeFlags struct {
	authority, acme, key, authorityRoots, acmeRoots, identifier, out string
	terms                                                            bool
}

func certificateCommand(t *terminal, s *sockets) *cobra.Command {
	var f acmeFlags
	c := command("certificate", certificateUsage, arguments(), func(c *cobra.Command, _ []string) error {
		d := &deviceattest.Client{Agent: s.clientSocket(), Identifier: f.identifier, AcceptTerms: f.terms}
		if f.key != "" && !strings.Contains(f.key, ":") {
			f.key += ":" + string(api.SignTPMP256)
		}
		k, err := parseKeyName(c, f.key)
		if err != nil {
			return err
		}
		if k.Algorithm != api.SignTPMP256 {
			return misuse(fmt.Errorf("--key %q: want a key in the TPM, %s:%s", f.key, k.Label, api.SignTPMP256))
		}
		d.Label, d.Version = k.Label, k.Version
		if d.Authority, err = t.serverOf(c, "--authority", f.authority, f.authorityRoots); err != nil {
			return err
		}
		if d.Directory, err = t.serverOf(c, "--acme", f.acme, f.acmeRoots); err != nil {
			return err
		}
		got, err := d.Obtain(c.Context())
		if err != nil {
			return notCertified(err)
		}
		var chain bytes.Buffer
		for _, der := range got.Certificate {
			if err := pem.Encode(&chain, &pem.Block{Type: "CERTIFICATE", Bytes: der}); err != nil {
				return misuse(err)
			}
		}
		return t.writeOutput(f.out, chain.Bytes())
	})
	flags := c.Flags()
	flags.StringVar(&f.authority, "authority", "", "")
	flags.StringVar(&f.acme, "acme", "", "")
	flags.StringVar(&f.key, "key", "", "")
	flags.StringVar(&f.authorityRoots, "authority-roots", "", "")
	flags.StringVar(&f.acmeRoots, "acme-roots", "", "")
	flags.StringVar(&f.identifier, "identifier", "", "")
	flags.BoolVar(&f.terms, "accept-terms", false, "")
	flags.StringVar(&f.out, "out", "", "")
	return c
}

// maxRoots is the largest file of authorities that is read, in bytes.
const maxRoots = 1 << 20

// serverOf returns a server of HTTPS that flags name.
func (t *terminal) serverOf(c *cobra.Command, flag, address, roots string) (s deviceattest.Server, err error) {
	if address == "" {
		return s, misuse(fmt.Errorf("%s is missing", flag)).withHint(helpHint(c))
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return s, misuse(fmt.Errorf("%s %q: want an address of https", flag, address))
	}
	s.URL = address
	if roots == "" {
		return s, nil
	}
	b, err := t.readInput(roots, maxRoots)
	if err != nil {
		return s, err
	}
	s.TLS = &tls.Config{RootCAs: x509.NewCertPool()}
	if !s.TLS.RootCAs.AppendCertsFromPEM(b) {
		return s, misuse(fmt.Errorf("%s-roots %s: want certificates in PEM", flag, roots))
	}
	return s, nil
}

// notCertified returns the error of the command for that of a certificate.
func notCertified(err error) error {
	if r, is := errors.AsType[*deviceattest.RefusedError](err); is && r.Class >= int(verify.ClassBinding) && r.Class <= int(verify.ClassPolicy) {
		return (&exitError{code: r.Class, err: err}).withHint("the policy of the attestation authority decides: its administrator sees each check in the record")
	}
	if _, is := errors.AsType[*api.Problem](err); is { // of the agent
		return failed(err)
	}
	return misuse(err)
}
