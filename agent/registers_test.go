// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// inTPM returns the values of PCRs in a TPM.
func inTPM(t *testing.T, s *swtpm.TPM, pcrs ...uint32) []string {
	t.Helper()
	v, err := registers.Read(s, pcr.Selection{{Algorithm: pcr.SHA256, PCRs: pcrs}})
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, index := range pcrs {
		out = append(out, string(v[pcr.SHA256][index]))
	}
	return out
}

// document asks for evidence.
func (w *whole) document(d *daemon) (*evidence.Evidence, error) {
	parts, err := d.evidence().Attest(w.t.Context(), api.EvidenceRequest{Nonce: make([]byte, 32), Freshness: evidence.Fresh}, evidence.Caller{PID: 1, Method: evidence.MethodPidfd})
	if err != nil {
		return nil, err
	}
	return evidence.Parse(bytes.Join(parts, nil))
}

// explained checks that the log of evidence leads to the quoted values of these PCRs, and to no
// others.
func explained(t *testing.T, e *evidence.Evidence, pcrs ...uint32) {
	t.Helper()
	records, err := pcr.DecodeLog(e.Log.Records, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, _, err := pcr.NewWholeReplayer(records)
	for _, r := range records {
		if err == nil {
			err = p.Next(r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	quoted, selection, err := pcr.ValuesFromBanks(e.Batch.PCRs)
	if err != nil {
		t.Fatal(err)
	}
	var of []uint32
	for _, r := range p.Registers() {
		of = append(of, r.PCR)
		for _, d := range r.Values {
			if v, is := quoted[d.Algorithm][r.PCR]; is && !bytes.Equal(v, d.Value) {
				t.Errorf("PCR %d of bank %s is not what the log leads to", r.PCR, d.Algorithm)
			}
		}
		if quoted[pcr.SHA256][r.PCR] == nil {
			t.Errorf("PCR %d is not in the quote of %s", r.PCR, selection)
		}
	}
	if !slices.Equal(of, pcrs) {
		t.Errorf("the log is of PCRs %v, want %v", of, pcrs)
	}
}

// TestEventsInTheirOwnPCR: events of applications extend the second PCR and nothing else does.
// Both are quoted and explained, as long as the log has both: until the next boot, whatever the
// configuration says by then.
func TestEventsInTheirOwnPCR(t *testing.T) {
	tpm := swtpm.Start(t)
	w := newWhole(t, tpm)
	c := &w.options.Config
	c.Measurement.EventsPCR = 14
	d, stop := w.start()
	before := inTPM(t, tpm, 13, 14)
	if _, err := w.emit(d, "billing", "model", "1"); err != nil {
		t.Fatal(err)
	}
	said := inTPM(t, tpm, 13, 14)
	w.change("second")
	if err := w.measure(d); err != nil {
		t.Fatal(err)
	}
	measured := inTPM(t, tpm, 13, 14)
	if said[0] != before[0] || said[1] == before[1] || measured[0] == said[0] || measured[1] != said[1] {
		t.Errorf("PCRs 13 and 14 were %x, after an event %x, after a measurement %x", before, said, measured)
	}
	e, err := w.document(d)
	if err != nil {
		t.Fatal(err)
	}
	explained(t, e, 13, 14)
	if st := d.status.Status().Ledger; st.PCR != 13 || st.EventsPCR != 14 || st.Pending != "" {
		t.Errorf("%+v", st)
	}
	stop()

	c.Measurement.EventsPCR, c.TPM.PCRs = 0, "sha256:0-7,13"
	d, stop = w.start()
	if _, err := w.emit(d, "billing", "model", "2"); err != nil {
		t.Fatal(err)
	}
	if now := inTPM(t, tpm, 14); now[0] == measured[1] {
		t.Error("the log of this boot has events in PCR 14, and one did not extend it")
	}
	if e, err = w.document(d); err != nil {
		t.Fatal(err)
	}
	explained(t, e, 13, 14)
	if st := d.status.Status().Ledger; st.EventsPCR != 14 || !strings.Contains(st.Pending, "with the next boot") {
		t.Errorf("%+v", st)
	}
	stop()

	tpm.Reboot()
	if err := os.Remove(filepath.Join(c.Measurement.LogFolder, ledger.LogFile)); err != nil {
		t.Fatal(err)
	}
	w.options.Machine.BootID = "the next boot"
	d, stop = w.start()
	defer stop()
	if _, err := w.emit(d, "billing", "model", "3"); err != nil {
		t.Fatal(err)
	}
	if e, err = w.document(d); err != nil {
		t.Fatal(err)
	}
	explained(t, e, 13)
	if st := d.status.Status().Ledger; st.EventsPCR != 0 || st.Pending != "" {
		t.Errorf("%+v", st)
	}
}

// TestOtherProgramExtendsEvents: what another program extends into the PCR of events ends evidence
// until the next boot, and the reason names that PCR. Case 20.
func TestOtherProgramExtendsEvents(t *testing.T) {
	tpm := swtpm.Start(t)
	w := newWhole(t, tpm)
	w.options.Config.Measurement.EventsPCR = 14
	d, stop := w.start()
	defer stop()
	if _, err := w.emit(d, "billing", "model", "1"); err != nil {
		t.Fatal(err)
	}
	if err := w.evidence(d); err != nil {
		t.Fatal(err)
	}
	banks, err := registers.ActiveBanks(tpm)
	if err != nil {
		t.Fatal(err)
	}
	if err := registers.Extend(tpm, 14, pcr.Digests(banks, []byte("another program"))); err != nil {
		t.Fatal(err)
	}
	err = w.evidence(d)
	if !errors.Is(err, attest.ErrPCRMismatch) && !errors.Is(err, ledger.ErrDesynchronised) || !strings.Contains(err.Error(), "PCR 14") {
		t.Errorf("evidence: %v", err)
	}
	if _, err := w.emit(d, "billing", "model", "2"); !errors.Is(err, ledger.ErrDesynchronised) {
		t.Errorf("another event: %v", err)
	}
	if st := d.status.Status().Ledger; st.Synchronised || !strings.Contains(st.Reason, "PCR 14") {
		t.Errorf("%+v", st)
	}
}

// TestQuoting: a quote has every PCR of the log in a bank that verifiers accept, and otherwise what
// is configured.
func TestQuoting(t *testing.T) {
	two := []pcr.Register{{PCR: 13}, {PCR: 14}}
	for _, c := range []struct{ configured, want string }{
		{"sha256:0-15", "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"},
		{"sha256:13", "sha256:13,14"},
		{"sha1:14+sha384:0,13", "sha1:14+sha384:0,13,14"},
		{"sha256:0+sha384:13,14", "sha256:0+sha384:13,14"},
		{"sha1:13,14", "sha1:13,14"}, // no verifier accepts any quote of it
	} {
		s, err := pcr.ParseSelection(c.configured)
		if err != nil {
			t.Fatal(err)
		}
		if got := quoting(s, two).String(); got != c.want {
			t.Errorf("%s: %s, want %s", c.configured, got, c.want)
		}
		if again, _ := pcr.ParseSelection(c.configured); s.String() != again.String() {
			t.Errorf("%s was changed", c.configured)
		}
	}
}
