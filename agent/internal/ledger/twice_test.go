// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/pcr"
)

// liar is a TPM whose next reads of the PCR are answered wrong.
type liar struct {
	*fakeTPM
	wrong int // answers still to be wrong
}

func (l *liar) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	d, err := l.fakeTPM.Read(ctx, i)
	if err == nil && l.wrong > 0 {
		l.wrong--
		d = slices.Clone(d)
		d[0].Value = slices.Clone(d[0].Value)
		d[0].Value[0] ^= 1
	}
	return d, err
}

// TestWrongAnswer: one wrong answer changes nothing, two in a row are believed, and
// outlive a restart. That is so at each place that compares PCR and log.
func TestWrongAnswer(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, m *machine, open func() *ledger.Ledger, tell func()) *ledger.Ledger
	}{
		{"Hold", func(t *testing.T, _ *machine, open func() *ledger.Ledger, tell func()) *ledger.Ledger {
			l := open()
			tell()
			_ = hold(l)
			return l
		}},
		{"Append", func(t *testing.T, _ *machine, open func() *ledger.Ledger, tell func()) *ledger.Ledger {
			l := open()
			tell()
			_, _ = l.Append(background, appEvent("b"))
			return l
		}},
		{"a start", func(t *testing.T, _ *machine, open func() *ledger.Ledger, tell func()) *ledger.Ledger {
			tell()
			return open()
		}},
	} {
		for wrong, synchronised := range map[int]bool{0: true, 1: true, 2: false} {
			m := newMachine()
			appendAll(t, m.restart(t), appEvent("a"))
			tpm := &liar{fakeTPM: m.tpm}
			open := func() *ledger.Ledger {
				m.log.Kill()
				config := m.config()
				config.TPM = tpm
				l, err := ledger.Open(background, config)
				if err != nil {
					t.Fatalf("%s, %d wrong: %v", c.name, wrong, err)
				}
				return l
			}
			l := c.do(t, m, open, func() { tpm.wrong = wrong })
			if tpm.wrong != 0 {
				t.Errorf("%s: %d of %d wrong answers were not asked for", c.name, tpm.wrong, wrong)
			}
			if s := l.State(); s.Synchronised != synchronised {
				t.Errorf("%s, %d wrong: synchronised %t, %s", c.name, wrong, s.Synchronised, s.Reason)
			}
			if s := m.restart(t).State(); s.Synchronised != synchronised {
				t.Errorf("%s, %d wrong, after a restart: synchronised %t, %s", c.name, wrong, s.Synchronised, s.Reason)
			}
		}
	}
}

// TestTPMFails: what the TPM refuses is its failure, not a finding about the log.
func TestTPMFails(t *testing.T) {
	m := newMachine()
	m.restart(t)
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ledger.ErrTPM) || !errors.Is(err, tpm2.TPMRCFailure) || errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%s says %v", what, err)
		}
	}
	broken := &refusing{fakeTPM: m.tpm}
	config := m.config()
	config.TPM = broken
	m.log.Kill()
	l, err := ledger.Open(background, config)
	if err != nil {
		t.Fatal(err)
	}
	broken.refuse = true
	check("Hold", hold(l))
	_, err = l.Append(background, appEvent("a"))
	check("Append", err)
	m.log.Kill()
	_, err = ledger.Open(background, config)
	check("Open", err)
	broken.refuse = false
	if err := hold(l); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// refusing is a TPM in failure mode: it answers every command with TPM_RC_FAILURE.
type refusing struct {
	*fakeTPM
	refuse bool
}

func (r *refusing) Banks(ctx context.Context) ([]pcr.Algorithm, error) {
	if r.refuse {
		return nil, tpm2.TPMRCFailure
	}
	return r.fakeTPM.Banks(ctx)
}

func (r *refusing) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	if r.refuse {
		return nil, tpm2.TPMRCFailure
	}
	return r.fakeTPM.Read(ctx, i)
}

func (r *refusing) Extend(ctx context.Context, i uint32, d []pcr.Digest) error {
	if r.refuse {
		return tpm2.TPMRCFailure
	}
	return r.fakeTPM.Extend(ctx, i, d)
}

func (r *refusing) Boot(ctx context.Context) (ledger.Boot, error) {
	if r.refuse {
		return ledger.Boot{}, tpm2.TPMRCFailure
	}
	return r.fakeTPM.Boot(ctx)
}
