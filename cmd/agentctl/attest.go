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
  --user-data VALUE   at most 4 KiB, like --nonce
  --anchored          accept an earlier report; faster if reports are throttled
  --log MODE          how much of the log: whole (default), none, or the number of a
                      record to start at
  --firmware-log      add the firmware's event log, if the machine has one
  --out FILE          file to write

Examples:
  agentctl attest --nonce $(openssl rand -hex 32) --out evidence.json
  openssl pkey -in tls.key -pubout | agentctl attest --nonce @nonce.bin --public-key -
  agentctl attest --nonce @nonce.bin --prove-key tls.key
`

func attestCommand(t *terminal, s *sockets) *cobra.Command {
	var nonce, audience, key, prove, userData, log, out string
	var anchored, firmwareLog bool
	c := command("attest", attestUsage, arguments(), func(c *cobra.Command, _ []string) (err error) {
		r := api.EvidenceRequest{Audience: audience, Freshness: evidence.Fresh, FirmwareLog: firmwareLog}
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
		if key != "" {
			if r.PublicKey, err = t.readPublicKey(key); err != nil {
				return err
			}
		}
		if anchored {
			r.Freshness = evidence.Anchored
		}
		if r.Log, r.LogStart, err = parseLog(log); err != nil {
			return err
		}
		ask := s.clientSocket().Evidence
		if prove != "" {
			if key != "" {
				return misuse(errors.New("--prove-key with --public-key: the public key is that of the private one"))
			}
			signer, err := t.readPrivateKey(prove)
			if err != nil {
				return err
			}
			ask = func(ctx context.Context, r api.EvidenceRequest) ([]byte, error) {
				return s.clientSocket().EvidenceWithKey(ctx, r, signer)
			}
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
	f.StringVar(&key, "public-key", "", "")
	f.StringVar(&prove, "prove-key", "", "")
	f.StringVar(&userData, "user-data", "", "")
	f.BoolVar(&anchored, "anchored", false, "")
	f.StringVar(&log, "log", "whole", "")
	f.BoolVar(&firmwareLog, "firmware-log", false, "")
	f.StringVar(&out, "out", "", "")
	return c
}
