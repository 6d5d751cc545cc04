// SPDX-License-Identifier: Apache-2.0

package vtpm_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
	sim "github.com/cvm-agentd/agentd/internal/swtpm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// recorder is a device that notes which commands were sent.
type recorder struct {
	vtpm.Device
	commands []tpm2.TPMCC
}

func (r *recorder) Do(ctx context.Context, f func(transport.TPM) error) error {
	return r.Device.Do(ctx, func(t transport.TPM) error { return f(recorded{t, r}) })
}

type recorded struct {
	transport.TPM
	r *recorder
}

func (r recorded) Send(command []byte) ([]byte, error) {
	r.r.commands = append(r.r.commands, tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])))
	return r.TPM.Send(command)
}

func (r *recorder) sent() []tpm2.TPMCC {
	c := r.commands
	r.commands = nil
	return c
}

// TestKnownIsNotRead: what a quote shows is not read, and what it contradicts is.
func TestKnownIsNotRead(t *testing.T) {
	v, d := newTPM(t)
	r := &recorder{Device: d}
	v.Device = r
	quote := func() *vtpm.Quoted {
		t.Helper()
		q, err := v.Quote(t.Context(), evidence.Digest{1})
		if err != nil {
			t.Fatal(err)
		}
		composite, err := q.Selection.Composite(q.PCRs, crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(q.Attest, composite) {
			t.Fatal("quote and values are of different moments")
		}
		return q
	}
	first := quote()
	r.sent()
	quote()
	if got, want := r.sent(), []tpm2.TPMCC{tpm2.TPMCCStartAuthSession, tpm2.TPMCCQuote}; !slices.Equal(got, want) {
		t.Errorf("a quote sent %x, want %x", got, want)
	}
	banks, err := v.Banks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.sent()
	if now, err := v.Read(t.Context(), 14); err != nil || len(now) != len(banks) {
		t.Fatalf("%d banks read, want %d: %v", len(now), len(banks), err)
	}
	if got, want := r.sent(), []tpm2.TPMCC{tpm2.TPMCCPCRRead}; !slices.Equal(got, want) {
		t.Errorf("reading one PCR sent %x, want %x", got, want)
	}
	if err := v.Extend(t.Context(), 10, pcr.Digests(banks, []byte("x"))); err != nil {
		t.Fatal(err)
	}
	if changed := quote(); bytes.Equal(changed.PCRs[pcr.SHA256][10], first.PCRs[pcr.SHA256][10]) {
		t.Error("the quote comes with the value of before")
	}
}

// TestOtherBanks resets the TPM and changes its active banks, while the agent knows those of
// before. A bank that was added is never passed over: no quote comes until it is read. A bank
// that is gone shows in the next Read.
func TestOtherBanks(t *testing.T) {
	for name, after := range map[string][]pcr.Algorithm{
		"the same":   {pcr.SHA256, pcr.SHA384},
		"one more":   {pcr.SHA256, pcr.SHA384, pcr.SHA512},
		"one less":   {pcr.SHA256},
		"another":    {pcr.SHA256, pcr.SHA512},
		"one, other": {pcr.SHA1, pcr.SHA256},
	} {
		t.Run(name, func(t *testing.T) {
			before := []pcr.Algorithm{pcr.SHA256, pcr.SHA384}
			s := swtpm.Start(t, swtpm.WithBanks(before...))
			v := provisioned(t, s)
			if _, err := v.Quote(t.Context(), evidence.Digest{1}); err != nil {
				t.Fatal(err)
			}
			s.Process().Close()
			if err := sim.Allocate(sim.Options{Dir: s.Dir()}, after...); err != nil {
				t.Fatal(err)
			}
			s.PowerCut()
			known, err := v.Read(t.Context(), 13)
			if err != nil {
				t.Fatal(err)
			}
			lost := slices.ContainsFunc(before, func(a pcr.Algorithm) bool { return !slices.Contains(after, a) })
			if want := map[bool]int{true: len(after), false: len(before)}[lost]; len(known) != want {
				t.Errorf("%d banks read after the reset, want %d", len(known), want)
			}
			_, err = v.Quote(t.Context(), evidence.Digest{2})
			if refused := !lost && len(after) != len(before); refused != (err != nil) || refused && !strings.Contains(err.Error(), "other active PCR banks") {
				t.Errorf("a quote after the reset: %v", err)
			}
			if now, err := v.Read(t.Context(), 13); err != nil || len(now) != len(after) {
				t.Errorf("%d banks read in the end, want %d: %v", len(now), len(after), err)
			}
			if _, err := v.Quote(t.Context(), evidence.Digest{3}); err != nil {
				t.Errorf("a quote after all banks were read: %v", err)
			}
		})
	}
}

func provisioned(t *testing.T, s *swtpm.TPM) *vtpm.TPM {
	t.Helper()
	d := s.Device(tpm.Options{})
	v := &vtpm.TPM{Device: d, Selection: pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{13}}}}
	if err := d.Do(t.Context(), func(tp transport.TPM) (err error) {
		v.AK, err = tpmkeys.Provision(tp, nil, tpmkeys.Auths{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return v
}
