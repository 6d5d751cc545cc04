// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
)

// liar answers quotes with what it likes, in valid sessions: it knows the authorization value
// of the key, as a TPM does, and as an attacker does who read the agent's state.
type liar struct {
	auth []byte
	lie  func(attest, signature []byte) ([]byte, []byte) // nil: the truth
}

func newLiar(t *testing.T, ak *tpmkeys.AK) *liar {
	t.Helper()
	b, err := ak.Blob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var stored struct{ Auth []byte }
	if err := json.Unmarshal(b, &stored); err != nil || len(stored.Auth) != 32 {
		t.Fatalf("authorization value of %d bytes: %v", len(stored.Auth), err)
	}
	return &liar{auth: stored.Auth}
}

// answer puts the lie into a response to TPM2_Quote and authenticates it anew (TPM 2.0
// Part 1, section 19.6.5; the session is neither bound nor salted).
//
//	tag 2, size 4, code 4, size of parameters 4, parameters, nonceTPM 2B, attributes 1, hmac 2B
func (l *liar) answer(command, response []byte) []byte {
	if l.lie == nil || binary.BigEndian.Uint32(response[6:]) != 0 {
		return response
	}
	n := 14 + int(binary.BigEndian.Uint32(response[10:]))
	quoted, signature := cut(response[14:n])
	a, s := l.lie(bytes.Clone(quoted), bytes.Clone(signature))
	parameters := append(sized(a), s...)

	nonceTPM, rest := cut(response[n:])
	attributes := rest[0]
	// tag 2, size 4, code 4, handle 4, size of authorizations 4, session 4, nonceCaller 2B
	nonceCaller, _ := cut(command[22:])
	hash := sha256.New()
	hash.Write(make([]byte, 4)) // TPM_RC_SUCCESS
	hash.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCCQuote)))
	hash.Write(parameters)
	mac := hmac.New(sha256.New, l.auth)
	mac.Write(hash.Sum(nil))
	mac.Write(nonceTPM)
	mac.Write(nonceCaller)
	mac.Write([]byte{attributes})

	out := bytes.Clone(response[:10])
	out = binary.BigEndian.AppendUint32(out, uint32(len(parameters)))
	out = append(append(append(append(out, parameters...), sized(nonceTPM)...), attributes), sized(mac.Sum(nil))...)
	binary.BigEndian.PutUint32(out[2:], uint32(len(out)))
	return out
}

func sized(b []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// cut takes one TPM2B off b.
func cut(b []byte) (contents, rest []byte) {
	n := 2 + int(binary.BigEndian.Uint16(b))
	return b[2:n], b[n:]
}

// scalars spells a TPMT_SIGNATURE of ECDSA.
func scalars(scheme, hash tpm2.TPMAlgID, r, s []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(scheme))
	b = binary.BigEndian.AppendUint16(b, uint16(hash))
	return append(append(b, sized(r)...), sized(s)...)
}

// newAttester makes evidence over v, in a boot whose log is empty.
func newAttester(t *testing.T, v *vtpm.TPM, p platform.Reporter) *attest.Attester {
	t.Helper()
	a, err := attest.New(attest.Config{
		TPM: v, Ledger: still{}, Platform: p, AgentKey: ed25519.NewKeyFromSeed(make([]byte, 32)),
		QuoteTimeout: 2 * time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return a
}

// still is a ledger that says the agent started, and has extended nothing.
type still struct{}

func (s still) Quote(_ context.Context, f func(ledger.View) (bool, error)) error {
	_, err := f(s.View())
	return err
}

func (still) Confirm(context.Context) error { return nil }

func (still) View() ledger.View {
	return ledger.View{
		Registers: []pcr.Register{{PCR: 14, Values: []pcr.Digest{{Algorithm: pcr.SHA256, Value: make([]byte, 32)}}}},
		State:     ledger.State{Synchronised: true},
		AgentKey:  ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey),
	}
}

// counting counts the reports that it is asked for.
type counting struct{ n int }

func (*counting) Kind() evidence.ReportKind { return evidence.ReportSNP }

func (c *counting) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	over, err := data(ctx)
	if err != nil {
		return platform.Report{}, err
	}
	c.n++
	return platform.Report{Bytes: over[:]}, nil
}
