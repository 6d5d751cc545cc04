// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
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

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out evidence.json
  openssl pkey -in tls.key -pubout | agentctl attest --nonce @nonce.bin --public-key -
  agentctl attest --nonce @nonce.bin --prove-key tls.key
  agentctl attest --nonce @nonce.bin --signing-key tls:ecdsa-p256
  agentctl attest --nonce @nonce.bin --ima --ima-from 1742 --out evidence.json
`

func attestCommand(t *terminal, s *sockets) *cobra.Command {
	var nonce, audience, userData, log, out string
	var named namedKey
	var anchored, firmwareLog, list bool
	var from uint64
	c := command("attest", attestUsage, arguments(), func(c *cobra.Command, _ []string) (err error) {
		r := api.EvidenceRequest{Audience: audience, Freshness: evidence.Fresh, FirmwareLog: firmwareLog, IMA: list, IMAStart: from}
		if from > 0 && !list {
			return misuse(errors.New("--ima-from without --ima: it says where the list of IMA begins")).withHint(helpHint(c))
		}
		if nonce == "" {
			return misuse(errors.New("--nonce is missing: use the nonce that the relying party sent")).
				withHint("to try it out: --nonce $(openssl rand -hex 32)")
		}
		if r.Nonce, err = t.parseBytes("--nonce", nonce, evidence.MinNonce, evidence.MaxNonce); err != nil {
			return err
		}
		if userData != "" {
			if r.UserData, err = t.parseBytes("--user-data", userData, 1, evidence.MaxUserData); err != nil {
				return err
			}
		}
		if anchored {
			r.Freshness = evidence.Anchored
		}
		if r.Log, r.LogStart, err = parseLog(log); err != nil {
			return err
		}
		ask, err := named.asks(c, t, s, &r)
		if err != nil {
			return err
		}
		document, err := ask(c.Context(), r)
		if err != nil {
			return failed(err)
		}
		return t.writeOutput(out, document)
	})
	f := c.Flags()
	f.StringVar(&nonce, "nonce", "", "")
	f.StringVar(&audience, "audience", "", "")
	f.StringVar(&named.public, "public-key", "", "")
	f.StringVar(&named.prove, "prove-key", "", "")
	f.StringVar(&named.signing, "signing-key", "", "")
	f.StringVar(&userData, "user-data", "", "")
	f.BoolVar(&anchored, "anchored", false, "")
	f.StringVar(&log, "log", "whole", "")
	f.BoolVar(&firmwareLog, "firmware-log", false, "")
	f.BoolVar(&list, "ima", false, "")
	f.Uint64Var(&from, "ima-from", 0, "")
	f.StringVar(&out, "out", "", "")
	return c
}

// namedKey is which key evidence names, by the flags of attest; at most one of them is given.
type namedKey struct {
	public, prove string // files
	signing       string // name of a signing key
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
		signer, err := t.readPrivateKey(k.prove)
		return func(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
			return s.clientSocket().EvidenceWithKey(ctx, r, signer)
		}, err
	}
	return ask, nil
}
