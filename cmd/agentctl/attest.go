// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto"
	"errors"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

const attestUsage = `Usage: agentctl attest --nonce VALUE [flags]

Ask the agent for evidence. The document goes to standard output, or to --out.

  --nonce VALUE       16 to 64 bytes that the relying party chose:
                      hexadecimal, base64 or @FILE; required
  --audience NAME     name of the relying party; another one refuses the evidence
  --public-key FILE   a key to name, PEM or DER; "-" reads standard input
  --prove-key FILE    a private key, PEM: name its public key, with a proof that
                      this process has it
  --signing-key KEY   a signing key of the calling application, as "agentctl sign"
                      names it: the agent names its public key, with a proof
  --user-data VALUE   at most 4 KiB, like --nonce
  --anchored          accept an earlier report; faster if reports are throttled
  --log MODE          how much of the log: whole (default), none, or the number of a
                      record to start at
  --firmware-log      add the firmware's event log, if the machine has one
  --ima               add the kernel's list of the files that it measured (IMA), for
                      root and declared applications; PCR 10 must be quoted
  --ima-from NUMBER   with --ima: the list from this entry on, up to 8 MiB. The number
                      is "ima.next" in what "agentctl verify --save-log" wrote
  --out FILE          file to write

The evidence can come in an X.509 certificate, in the extension id-pe-cmw. The
certificate signs itself with a key that the evidence names, with a proof:

  --certificate FILE  write such a certificate, PEM; the document goes to --out if given.
                      It needs --prove-key or --make-key. Up to 1 MiB: --log none helps
  --make-key FILE     make that key, ECDSA on P-256, and write it, mode 0600. A file that
                      exists is left as it is, and refused
  --dns-name NAME     a name in it, as TLS clients look for; may be repeated
  --valid-for TIME    how long the certificate is valid (default: 24h)

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out evidence.json
  openssl pkey -in tls.key -pubout | agentctl attest --nonce @nonce.bin --public-key -
  agentctl attest --nonce @nonce.bin --prove-key tls.key
  agentctl attest --nonce @nonce.bin --signing-key tls:ecdsa-p256
  agentctl attest --nonce @nonce.bin --ima --ima-from 1742 --out evidence.json
  agentctl attest --nonce @nonce.bin --log none --make-key tls.key --certificate tls.pem
`

// attestFlags say what to ask for.
type attestFlags struct {
	nonce, audience, userData, log, out string
	anchored, firmwareLog, list         bool
	from                                uint64
	named                               namedKey
	certificate                         certificateFlags
}

func (a *attestFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.nonce, "nonce", "", "")
	f.StringVar(&a.audience, "audience", "", "")
	f.StringVar(&a.named.public, "public-key", "", "")
	f.StringVar(&a.named.prove, "prove-key", "", "")
	f.StringVar(&a.named.signing, "signing-key", "", "")
	f.StringVar(&a.userData, "user-data", "", "")
	f.BoolVar(&a.anchored, "anchored", false, "")
	f.StringVar(&a.log, "log", "whole", "")
	f.BoolVar(&a.firmwareLog, "firmware-log", false, "")
	f.BoolVar(&a.list, "ima", false, "")
	f.Uint64Var(&a.from, "ima-from", 0, "")
	f.StringVar(&a.out, "out", "", "")
	a.certificate.add(c)
}

// request returns the request without its key.
func (a *attestFlags) request(c *cobra.Command, t *terminal) (r api.EvidenceRequest, err error) {
	r = api.EvidenceRequest{Audience: a.audience, Freshness: evidence.Fresh, FirmwareLog: a.firmwareLog, IMA: a.list, IMAStart: a.from}
	if a.from > 0 && !a.list {
		return r, misuse(errors.New("--ima-from without --ima: it says where the list of IMA begins")).withHint(helpHint(c))
	}
	if a.nonce == "" {
		return r, misuse(errors.New("--nonce is missing: use the nonce that the relying party sent")).
			withHint("to try it out: --nonce $(openssl rand -hex 32)")
	}
	if r.Nonce, err = t.parseBytes("--nonce", a.nonce, evidence.MinNonce, evidence.MaxNonce); err != nil {
		return r, err
	}
	if a.userData != "" {
		if r.UserData, err = t.parseBytes("--user-data", a.userData, 1, evidence.MaxUserData); err != nil {
			return r, err
		}
	}
	if a.anchored {
		r.Freshness = evidence.Anchored
	}
	r.Log, r.LogStart, err = parseLog(a.log)
	return r, err
}

func attestCommand(t *terminal, s *sockets) *cobra.Command {
	var a attestFlags
	c := command("attest", attestUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if err := a.certificate.check(&a.named); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		r, err := a.request(c, t)
		if err != nil {
			return err
		}
		if err := a.certificate.makeKey(&a.named); err != nil {
			return err
		}
		ask, err := a.named.asks(c, t, s, &r)
		if err != nil {
			return err
		}
		document, err := ask(c.Context(), r)
		if err != nil {
			return failed(err)
		}
		if a.certificate.out != "" {
			if err := t.writeCertificate(&a.certificate, a.named.signer, document); err != nil || a.out == "" {
				return err
			}
		}
		return t.writeOutput(a.out, document)
	})
	a.add(c)
	return c
}

// namedKey is which key evidence names, by the flags of attest; at most one of them is given.
type namedKey struct {
	public, prove string        // files
	signing       string        // name of a signing key
	signer        crypto.Signer // private key that proves itself: that in prove, or one that was made
}

// asks returns how to ask for evidence that names the key, and completes r.
func (k *namedKey) asks(c *cobra.Command, t *terminal, s *sockets, r *api.EvidenceRequest) (ask func(context.Context, api.EvidenceRequest) ([]byte, error), err error) {
	ask = s.clientSocket().Evidence
	switch {
	case k.prove != "" && k.public != "":
		return nil, misuse(errors.New("--prove-key with --public-key: the public key is that of the private one"))
	case k.signing != "" && k.public+k.prove != "":
		return nil, misuse(errors.New("--signing-key with --public-key or --prove-key: evidence names one key"))
	case k.public != "":
		r.PublicKey, err = t.readPublicKey(k.public)
		return ask, err
	case k.signing != "":
		name, err := parseKeyName(c, k.signing)
		r.SigningKey = &name
		return ask, err
	case k.prove != "":
		if k.signer, err = t.readPrivateKey(k.prove); err != nil {
			return nil, err
		}
	}
	if k.signer != nil {
		ask = func(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
			return s.clientSocket().EvidenceWithKey(ctx, r, k.signer)
		}
	}
	return ask, nil
}
