// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/pcr"
)

// asked counts the questions to a TPM.
type asked struct {
	*fakeTPM
	reads, lists int
	other        int // lists of banks that are answered with one more
}

func (a *asked) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	a.reads++
	return a.fakeTPM.Read(ctx, i)
}

func (a *asked) Banks(ctx context.Context) ([]pcr.Algorithm, error) {
	a.lists++
	banks, err := a.fakeTPM.Banks(ctx)
	if a.other > 0 {
		a.other--
		banks = append(banks, pcr.SHA512)
	}
	return banks, err
}

// asking opens the ledger of m over a TPM whose questions are counted.
func asking(t *testing.T, m *machine) (*ledger.Ledger, *asked) {
	t.Helper()
	appendAll(t, m.restart(t), appEvent("a"))
	m.log.Kill()
	a := &asked{fakeTPM: m.tpm}
	c := m.config()
	c.TPM = a
	l := must(ledger.Open(background, c))
	a.reads, a.lists = 0, 0
	return l, a
}

// TestQuote: the PCR is read unless a quote was compared with the log, and if that failed. The
// error is then that of the quote, unless the PCR explains it.
func TestQuote(t *testing.T) {
	failure := errors.New("no quote")
	for _, tc := range []struct {
		compared bool
		err      error
		foreign  bool // another program extended the PCR
		want     error
		reads    int
	}{
		{true, nil, false, nil, 0},
		{false, nil, false, nil, 1},
		{false, nil, true, ledger.ErrDesynchronised, 2},
		{true, failure, false, failure, 1},
		{true, failure, true, ledger.ErrDesynchronised, 2},
		{false, failure, false, failure, 1},
		{false, failure, true, ledger.ErrDesynchronised, 2},
	} {
		m := newMachine()
		l, tpm := asking(t, m)
		if tc.foreign {
			m.tpm.extend("another program")
		}
		called := false
		err := l.Quote(background, func(v ledger.View) (bool, error) {
			called = true
			if v.Head != l.View().Head || !pcr.EqualRegisters(v.Registers, l.View().Registers) {
				t.Errorf("%+v: the view is of another log", tc)
			}
			return tc.compared, tc.err
		})
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) || !called || tpm.reads != tc.reads {
			t.Errorf("%+v: %v, called %t, %d reads", tc, err, called, tpm.reads)
		}
		if s := l.State(); s.Synchronised != !errors.Is(tc.want, ledger.ErrDesynchronised) {
			t.Errorf("%+v: %+v", tc, s)
		}
		if tc.foreign { // nothing is quoted any more
			if err := l.Quote(background, func(ledger.View) (bool, error) { t.Error("called"); return true, nil }); !errors.Is(err, ledger.ErrDesynchronised) {
				t.Errorf("%+v, again: %v", tc, err)
			}
		}
	}
}

// TestQuoteThatCannotBeCompared: a TPM that stopped working is not found to be desynchronised.
func TestQuoteThatCannotBeCompared(t *testing.T) {
	m := newMachine()
	l, _ := asking(t, m)
	ctx, cancel := context.WithCancel(background)
	failure := errors.New("no quote")
	err := l.Quote(ctx, func(ledger.View) (bool, error) { cancel(); return false, failure })
	if !errors.Is(err, failure) || !l.State().Synchronised {
		t.Errorf("%v, %+v", err, l.State())
	}
	if err := l.Quote(ctx, func(ledger.View) (bool, error) { t.Error("called"); return true, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("without a turn: %v", err)
	}
}

// TestConfirmSeesBanks: the banks that are active now count, and not those that the TPM was known to
// have. One wrong answer changes nothing, two in a row are believed.
func TestConfirmSeesBanks(t *testing.T) {
	for other, synchronised := range []bool{true, true, false} {
		m := newMachine()
		l, tpm := asking(t, m)
		tpm.other = other
		err := l.Confirm(background)
		if (err == nil) != synchronised || err != nil && !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%d wrong answers: %v", other, err)
		}
		if want := min(other+1, 2); tpm.lists != want || l.State().Synchronised != synchronised {
			t.Errorf("%d wrong answers: asked %d times, %+v", other, tpm.lists, l.State())
		}
	}
	m := newMachine()
	l, _ := asking(t, m)
	m.tpm.extend("another program")
	if err := l.Confirm(background); !errors.Is(err, ledger.ErrDesynchronised) {
		t.Errorf("another program extended the PCR: %v", err)
	}
}
