// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

const signUsage = `Usage: agentctl sign --key KEY [flags] FILE
       agentctl sign --key KEY --digest VALUE [flags]

Sign FILE ("-" is standard input) with a key of the calling application. The key stays
in the agent, and is the same after each restart. The signature goes as it is to
standard output, or to --out: 64 bytes for Ed25519, DER for ECDSA.

  --key KEY        LABEL, LABEL:ALGORITHM or LABEL:ALGORITHM:VERSION. The algorithm is
                   ed25519 (default), ecdsa-p256 (with SHA-256), ecdsa-p384 (with
                   SHA-384) or tpm-ecdsa-p256: as ecdsa-p256, by a key that never
                   leaves the TPM. The version is that of the application's root
                   (default: the newest); required
  --digest VALUE   sign this digest of a message, in place of FILE; for ECDSA only:
                   hexadecimal, base64 or @FILE
  --out FILE       instead of standard output

Exit codes: 7 not an application's unit and user, 8 the store cannot be opened.

Examples:
  agentctl sign --key release --out release.sig release.tar.sum
  agentctl sign --key tls:ecdsa-p256 --digest $(sha256sum big.img | cut -c1-64)
`

func signCommand(t *terminal, s *sockets) *cobra.Command {
	var name, digest, out string
	file := func(c *cobra.Command, args []string) error {
		if digest != "" {
			return arguments()(c, args)
		}
		return arguments("FILE")(c, args)
	}
	c := command("sign", signUsage, file, func(c *cobra.Command, args []string) error {
		k, err := parseKeyName(c, name)
		if err != nil {
			return err
		}
		r := api.SignRequest{Label: k.Label, Algorithm: k.Algorithm, Version: k.Version}
		if digest != "" {
			r.Digest, err = t.parseBytes("--digest", digest, 1, sealing.MaxMessage)
		} else {
			r.Message, err = t.readInput(args[0], sealing.MaxMessage)
		}
		if errors.Is(err, errTooLarge) && k.Algorithm != api.SignEd25519 {
			return misuse(err).withHint("compute its digest, and sign that with --digest")
		}
		if err != nil {
			return err
		}
		signed, err := s.clientSocket().Sign(c.Context(), r)
		switch {
		case err != nil:
			return failed(err)
		case t.json:
			return t.writeJSON(signed)
		}
		return t.writeOutput(out, signed.Signature)
	})
	c.Flags().StringVar(&name, "key", "", "")
	c.Flags().StringVar(&digest, "digest", "", "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

const keyPublicUsage = `Usage: agentctl key public --key KEY [--pem|--ssh] [flags]

Print the public half of a signing key of the calling application. It is not a secret.

  --key KEY     LABEL, LABEL:ALGORITHM or LABEL:ALGORITHM:VERSION, as for
                "agentctl sign"; required
  --pem         print it in PEM (default)
  --ssh         print a line as in authorized_keys
  --out FILE    instead of standard output

Exit codes: 7 not an application's unit and user, 8 the store cannot be opened.

Examples:
  agentctl key public --key tls:ecdsa-p256 --out tls.pem
  agentctl key public --key deploy --ssh
`

func keyPublic(t *terminal, s *sockets) *cobra.Command {
	var name, out string
	var asPEM, asSSH bool
	c := command("public", keyPublicUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if asPEM && asSSH {
			return misuse(errors.New("--pem and --ssh are given: choose one")).withHint(helpHint(c))
		}
		k, err := parseKeyName(c, name)
		if err != nil {
			return err
		}
		public, err := s.clientSocket().PublicKey(c.Context(), k)
		if err != nil {
			return failed(err)
		}
		text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public.PublicKey})
		if asSSH {
			if text, err = sshLine(public.PublicKey, k.Label); err != nil {
				return misuse(err)
			}
		}
		if t.json {
			return t.writeJSON(public)
		}
		return t.writeOutput(out, text)
	})
	c.Flags().StringVar(&name, "key", "", "")
	c.Flags().BoolVar(&asPEM, "pem", false, "")
	c.Flags().BoolVar(&asSSH, "ssh", false, "")
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

const keyCertifyUsage = `Usage: agentctl key certify --key KEY --data VALUE [flags]

Have the TPM's attestation key certify that a signing key of the calling application is
in the TPM, and never leaves it. The configuration must name the application in
keys.certify_apps: who trusts the attestation key alone does not learn which
application asked.

  --key KEY     LABEL, LABEL:tpm-ecdsa-p256 or LABEL:tpm-ecdsa-p256:VERSION; required
  --data VALUE  1 to 64 bytes that the relying party chose, or a digest that a protocol
                asks for: hexadecimal, base64 or @FILE; required

--json prints the certification; package keys checks it.

Exit codes: 7 not permitted to this caller, 8 the store cannot be opened.

Examples:
  agentctl key certify --key acme --data $(openssl rand -hex 32)
  agentctl key certify --key acme --data @digest --json >certification.json
`

func keyCertify(t *terminal, s *sockets) *cobra.Command {
	var name, data string
	c := command("certify", keyCertifyUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if name != "" && !strings.Contains(name, ":") {
			name += ":" + string(api.SignTPMP256)
		}
		k, err := parseKeyName(c, name)
		if err != nil {
			return err
		}
		if data == "" {
			return misuse(errors.New("--data is missing")).withHint(helpHint(c))
		}
		r := api.CertifyRequest{Label: k.Label, Algorithm: k.Algorithm, Version: k.Version}
		if r.Data, err = t.parseBytes("--data", data, 1, keys.MaxCertificationData); err != nil {
			return err
		}
		certified, err := s.clientSocket().Certify(c.Context(), r)
		return present(t, certified, err, func() { t.printCertified(k.Label, certified) })
	})
	c.Flags().StringVar(&name, "key", "", "")
	c.Flags().StringVar(&data, "data", "", "")
	return c
}

func (t *terminal) printCertified(label string, certified *api.Certified) {
	n := &node{text: cleanLine(fmt.Sprintf("signing key %q, version %d: certified to be in the TPM", label, certified.Version))}
	name := func(public []byte) string {
		if p, err := keys.ParsePublic(public); err == nil {
			return p.Name().String()
		}
		return "unreadable"
	}
	n.add("TPM name %s", name(certified.Public))
	n.add("by the attestation key %s", name(certified.AKPublic))
	if len(certified.AKCertificate) > 0 {
		n.add("of which the platform made a certificate")
	}
	n.draw(t)
}

// sshLine returns a public key as authorized_keys and known_hosts have it, with a comment.
func sshLine(der []byte, comment string) ([]byte, error) {
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("parse the public key that the agent gave: %w", err)
	}
	public, err := ssh.NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("write the public key for ssh: %w", err)
	}
	line := strings.TrimSuffix(string(ssh.MarshalAuthorizedKey(public)), "\n")
	return []byte(line + " " + comment + "\n"), nil
}

// parseKeyName parses LABEL[:ALGORITHM[:VERSION]], the value of --key. A label that contains a colon
// needs an algorithm after it.
func parseKeyName(c *cobra.Command, name string) (k api.SigningKey, err error) {
	if name == "" {
		return k, misuse(errors.New("--key is missing")).withHint(helpHint(c))
	}
	k, ok := splitKeyName(name)
	if !ok {
		return k, misuse(fmt.Errorf("--key %q: want LABEL, LABEL:ALGORITHM or LABEL:ALGORITHM:VERSION, with one of the algorithms %q", name, api.SigningAlgorithms())).withHint(helpHint(c))
	}
	if err := sealing.CheckSigningKey(k.Algorithm, k.Label); err != nil {
		return k, misuse(fmt.Errorf("--key %q: %w", name, err))
	}
	return k, nil
}

func splitKeyName(name string) (k api.SigningKey, ok bool) {
	parts := strings.Split(name, ":")
	if len(parts) == 1 {
		return api.SigningKey{Label: name, Algorithm: api.SignEd25519}, true
	}
	end := len(parts) - 1
	version, err := strconv.ParseUint(parts[end], 10, 32)
	if err == nil && version > 0 && parts[end] == strconv.FormatUint(version, 10) {
		k.Version = uint32(version)
		end--
	}
	k.Label, k.Algorithm = strings.Join(parts[:end], ":"), api.SigningAlgorithm(parts[end])
	return k, slices.Contains(api.SigningAlgorithms(), k.Algorithm)
}
