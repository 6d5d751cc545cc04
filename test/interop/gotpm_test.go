// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"crypto"
	"testing"

	message "github.com/google/go-tpm-tools/proto/attest"
	"github.com/google/go-tpm-tools/server"
	"github.com/google/go-tpm/tpm2"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/export"
)

// TestGoTPMTools hands the exported message to server.VerifyAttestation.
func TestGoTPMTools(t *testing.T) {
	for _, freshness := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		t.Run(string(freshness), func(t *testing.T) {
			e := attestFor(t, freshness)
			exported, err := export.GoTPM(e.Evidence)
			if err != nil {
				t.Fatal(err)
			}
			verify := func(change func(*message.Attestation)) error {
				var a message.Attestation
				if err := proto.Unmarshal(exported, &a); err != nil {
					t.Fatal(err)
				}
				if change != nil {
					change(&a)
				}
				_, err := server.VerifyAttestation(&a, server.VerifyOpts{Nonce: e.data[:], TrustedAKs: []crypto.PublicKey{e.key}})
				return err
			}
			if err := verify(nil); err != nil {
				t.Fatalf("server.VerifyAttestation refuses the evidence of the agent: %v", err)
			}
			for what, change := range map[string]func(*message.Attestation){
				"quote":     func(a *message.Attestation) { a.Quotes[0].Quote[50] ^= 1 },
				"signature": func(a *message.Attestation) { a.Quotes[0].RawSig[20] ^= 1 },
				"PCR value": func(a *message.Attestation) { a.Quotes[0].Pcrs.Pcrs[13][3] ^= 1 },
				"AK":        func(a *message.Attestation) { a.AkPub[40] ^= 1 },
				"missing PCR": func(a *message.Attestation) {
					delete(a.Quotes[0].Pcrs.Pcrs, 13)
				},
			} {
				t.Run(what+" changed", func(t *testing.T) {
					if verify(change) == nil {
						t.Error("accepted")
					}
				})
			}
		})
	}
}

// attested is evidence with what go-tpm-tools has to be told.
type attested struct {
	*evidence.Evidence
	data evidence.Digest
	key  crypto.PublicKey
}

func attestFor(t *testing.T, freshness evidence.Freshness) attested {
	t.Helper()
	e := attest(t, freshness)
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](e.AK)
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		t.Fatal(err)
	}
	return attested{e, evidence.QuoteData(e.Batch.Tree, e.AnchorDigest()), key}
}
