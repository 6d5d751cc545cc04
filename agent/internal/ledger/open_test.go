// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestOpenTellsFailures: what could not be read is not a finding, and never counts as an absent
// log. What fails in one start is found by the next.
func TestOpenTellsFailures(t *testing.T) {
	for name, c := range map[string]struct {
		prepare      func(m *machine)
		synchronised bool // what a start without a failure finds
	}{
		"good log":             {func(*machine) {}, true},
		"log with a torn end":  {func(m *machine) { m.log.Set(ledger.LogFile, append(m.log.Get(ledger.LogFile), 0)) }, true},
		"new boot":             {func(m *machine) { m.reboot() }, true},
		"new boot, log kept":   {func(m *machine) { m.disk = true; m.tpm.reset(); m.kernel = "kernel-2" }, true},
		"log deleted":          {func(m *machine) { m.log.Set(ledger.LogFile, nil) }, false},
		"PCR moved by another": {func(m *machine) { m.tpm.extend("another program") }, false},
	} {
		n := 0
		for k := 1; ; k++ {
			m := newMachine()
			appendAll(t, m.restart(t), appEvent("a"))
			c.prepare(m)
			m.log.Kill()
			m.faults.Break(k, durabletest.FailBefore, syscall.EIO)
			l, err := m.open()
			_, broken := m.faults.Steps()
			if broken == "" {
				break
			}
			n++
			m.faults.Break(0, durabletest.None, nil)
			if err != nil && !errors.Is(err, syscall.EIO) {
				t.Errorf("%s, %q fails: Open says %v", name, broken, err)
			}
			reads := broken == "lock" || broken == "TPM banks" || broken == "TPM quote" || strings.HasPrefix(broken, "read ")
			if err == nil && reads {
				t.Errorf("%s, %q fails: Open says nothing", name, broken)
			}
			if err == nil && l.State().Synchronised != c.synchronised {
				t.Errorf("%s, %q fails: %+v", name, broken, l.State())
			}
			if s := m.restart(t).State(); s.Synchronised != c.synchronised {
				t.Errorf("%s, after %q failed: %+v", name, broken, s)
			}
		}
		if n < 10 {
			t.Errorf("%s: a start has %d steps", name, n)
		}
	}
}

// otherBanks is a TPM that answers a read with other banks than it said are active.
type otherBanks struct {
	*fakeTPM
	banks func([]pcr.Algorithm) []pcr.Algorithm
	read  func([]pcr.Digest) []pcr.Digest
}

func (o otherBanks) Banks(ctx context.Context) ([]pcr.Algorithm, error) {
	b, err := o.fakeTPM.Banks(ctx)
	return o.banks(b), err
}

func (o otherBanks) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	d, err := o.fakeTPM.Read(ctx, i)
	return o.read(d), err
}

// TestBanksDisagree: a bank that is not read would never be extended, and a quote of
// it could claim that nothing ran (case 22).
func TestBanksDisagree(t *testing.T) {
	all := func(b []pcr.Algorithm) []pcr.Algorithm { return b }
	whole := func(d []pcr.Digest) []pcr.Digest { return d }
	for name, tpm := range map[string]otherBanks{
		"one value too few":  {banks: all, read: func(d []pcr.Digest) []pcr.Digest { return d[1:] }},
		"one value too many": {banks: func(b []pcr.Algorithm) []pcr.Algorithm { return b[1:] }, read: whole},
		"another bank": {banks: all, read: func(d []pcr.Digest) []pcr.Digest {
			d[0] = pcr.Digest{Algorithm: pcr.SHA512, Value: make([]byte, 64)}
			return d
		}},
		"a short value":    {banks: all, read: func(d []pcr.Digest) []pcr.Digest { d[0].Value = d[0].Value[1:]; return d }},
		"a bank twice":     {banks: func(b []pcr.Algorithm) []pcr.Algorithm { return append(b, b[0]) }, read: func(d []pcr.Digest) []pcr.Digest { return append(d, d[0]) }},
		"no banks":         {banks: func([]pcr.Algorithm) []pcr.Algorithm { return nil }, read: func([]pcr.Digest) []pcr.Digest { return nil }},
		"no values":        {banks: all, read: func([]pcr.Digest) []pcr.Digest { return nil }},
		"no values, later": {banks: all, read: whole},
	} {
		m := newMachine()
		tpm.fakeTPM = m.tpm
		l, err := m.openOn(&tpm)
		if name == "no values, later" {
			if err != nil {
				t.Fatal(err)
			}
			tpm.read = func([]pcr.Digest) []pcr.Digest { return nil }
			if err := hold(l); err == nil {
				t.Errorf("%s: held", name)
			}
			continue
		}
		if err == nil {
			t.Errorf("%s: opened, %+v", name, l.State())
		}
		if len(m.log.Get(ledger.LogFile)) > 0 {
			t.Errorf("%s: something was recorded", name)
		}
		// Nor is that a finding about a log that is there.
		m.restart(t)
		if l, err := m.openOn(&tpm); !errors.Is(err, ledger.ErrTPM) {
			t.Errorf("%s, with a log: opened, %v, %+v", name, err, l)
		}
		if s := m.restart(t).State(); !s.Synchronised {
			t.Errorf("%s, afterwards: %s", name, s.Reason)
		}
	}
}

func TestOpenPCROutOfRange(t *testing.T) {
	m := newMachine()
	c := m.config()
	c.PCR = pcr.Count
	if _, err := ledger.Open(background, c); err == nil || !strings.Contains(err.Error(), "PCR 24, want 0 to 23") {
		t.Errorf("Open says %v", err)
	}
}

// TestLogOfOtherBanks: a log from a TPM with other banks is found wrong, and stays to be
// looked at.
func TestLogOfOtherBanks(t *testing.T) {
	other := newMachine()
	other.tpm = newTPM(&other.faults, pcr.SHA256)
	appendAll(t, other.restart(t), appEvent("x"))
	m := newMachine()
	m.restart(t)
	m.log.Set(ledger.LogFile, other.log.Get(ledger.LogFile))
	wantDesynchronised(t, m, m.restart(t), "differ from those completed")
}

// TestLimitIsThatOfEvidence: no configuration makes a log longer than a verifier reads.
func TestLimitIsThatOfEvidence(t *testing.T) {
	m := newMachine()
	m.limit = 4 * evidence.MaxLog
	l := m.restart(t)
	e := appEvent("a")
	for i := range 7000 {
		e.App.Manifest = append(e.App.Manifest, pcr.ManifestEntry{Path: "/usr/share/b" + strings.Repeat("x", i%7) + string(rune(0x4e00+i)), Mode: 0o100644, Digest: evidence.Digest{6}})
	}
	sortManifest(e.App.Manifest)
	e.App.Digest = pcr.ManifestDigest(e.App.Manifest)
	var err error
	for n := 0; err == nil && n < 64; n++ {
		_, err = l.Append(background, e)
	}
	if s := l.State(); !errors.Is(err, ledger.ErrFull) || !s.Full || s.Bytes > evidence.MaxLog || s.Bytes < evidence.MaxLog/2 {
		t.Errorf("%v after %d bytes in %d records, at most %d are read", err, s.Bytes, s.Records, evidence.MaxLog)
	}
}

func sortManifest(m pcr.Manifest) {
	slices.SortFunc(m, func(a, b pcr.ManifestEntry) int { return strings.Compare(a.Path, b.Path) })
}
