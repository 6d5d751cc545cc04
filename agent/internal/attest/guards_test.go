// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// A TPM that does not answer ends a batch, not the lane. Case 37.
func TestQuoteTimeout(t *testing.T) {
	r := newRig(t, func(c *Config) { c.QuoteTimeout = 10 * time.Millisecond })
	r.tpm.set(func(f *fakeTPM) { f.hangs = true })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, err := r.Attest(ctx, request(1, evidence.Fresh), caller); !errors.Is(err, ErrTPM) || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("error %v, want ErrTPM after a deadline", err)
	}
	if s := r.Stats(); s.QuoteError == "" || r.platform.count() != 0 {
		t.Errorf("%d reports, counters %+v", r.platform.count(), s)
	}
	r.tpm.set(func(f *fakeTPM) { f.hangs = false })
	until(t, "the next batch is served", func() bool { // with 10 ms not each one on a busy machine
		_, err := r.Attest(ctx, request(2, evidence.Fresh), caller)
		return err == nil
	})
}

// Certificates come through the host: those that do not fit are left out, and prevent
// no evidence. Case 43.
func TestCertificatesThatDoNotFit(t *testing.T) {
	r := newRig(t, nil)
	large := make([]byte, evidence.MaxCertificate+1)
	var all [][]byte
	for i := range byte(evidence.MaxCertificates + 3) {
		all = append(all, large, []byte{i + 1})
	}
	r.platform.answer(func(p *platform.Report) { p.Certificates = all })
	e := r.ask(t, request(1, evidence.Fresh))
	if len(e.Certificates) != evidence.MaxCertificates {
		t.Fatalf("%d certificates, want %d", len(e.Certificates), evidence.MaxCertificates)
	}
	for i, c := range e.Certificates {
		if !bytes.Equal(c, []byte{byte(i) + 1}) {
			t.Errorf("certificate %d has %d bytes", i, len(c))
		}
	}
	r.platform.answer(func(p *platform.Report) { p.TableError = errors.New("garbage") })
	if e := r.ask(t, request(2, evidence.Fresh)); len(e.Certificates) != 0 {
		t.Errorf("%d certificates of garbage", len(e.Certificates))
	}
}

// What no verifier would parse is not handed out.
func TestNoEvidenceBeyondTheFormat(t *testing.T) {
	r := newRig(t, nil)
	r.platform.answer(func(p *platform.Report) { p.Bytes = make([]byte, evidence.MaxReport+1) })
	if _, err := r.Attest(t.Context(), request(1, evidence.Fresh), caller); err == nil || !strings.Contains(err.Error(), "report.bytes") {
		t.Errorf("error %v, want one that names the report", err)
	}
}

// A batch takes no more than a tree may hold; the others go into the next, in order.
func TestLargestBatch(t *testing.T) {
	l := newLane("test", 2*evidence.MaxBatch, nil)
	var all []*waiter
	for range evidence.MaxBatch + 3 {
		w := &waiter{statement: make([]byte, 1)}
		all = append(all, w)
		if err := l.add(w); err != nil {
			t.Fatal(err)
		}
	}
	first, second := l.take(), l.take()
	if len(first) != evidence.MaxBatch || len(second) != 3 || first[0] != all[0] || second[2] != all[len(all)-1] {
		t.Errorf("batches of %d and %d", len(first), len(second))
	}
}

// An anchor that was replaced meanwhile is not dropped with the one before.
func TestDropKeepsTheNewer(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, request(1, evidence.Fresh))
	old := r.currentAnchor()
	r.ask(t, request(2, evidence.Fresh))
	r.dropAnchor(old, errReset)
	if r.currentAnchor() == nil {
		t.Error("the newer anchor is gone")
	}
	r.dropAnchor(r.currentAnchor(), errReset)
	if r.currentAnchor() != nil {
		t.Error("the anchor is still there")
	}
}

// A caller that waits for its batch gives back the turn that it has of something else.
func TestRestsInTheBatch(t *testing.T) {
	r := newRig(t, nil)
	var rested atomic.Int32
	if _, err := r.Attest(turn.Idle(t.Context(), func() { rested.Add(1) }), request(1, evidence.Fresh), caller); err != nil || rested.Load() == 0 {
		t.Errorf("rested %d times, %v", rested.Load(), err)
	}
}

// Neighbours in a batch cannot be guessed from hashes: each statement has a salt.
func TestSaltsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 10 {
		w, err := newWaiter(request(1, evidence.Fresh), caller, nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := evidence.ParseStatement(w.statement)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Salt) != 32 || seen[string(s.Salt)] {
			t.Errorf("salt %x", s.Salt)
		}
		seen[string(s.Salt)] = true
	}
}

// The certificate of the AK is in evidence even if the host fills the rest of the room.
func TestCertificateOfTheAK(t *testing.T) {
	r := newRig(t, nil)
	r.tpm.certificate = []byte("certificate of the AK")
	all := make([][]byte, evidence.MaxCertificates)
	for i := range all {
		all[i] = []byte{byte(i), 1}
	}
	r.platform.answer(func(p *platform.Report) { p.Certificates = all })
	e := r.ask(t, request(1, evidence.Fresh))
	if len(e.Certificates) != evidence.MaxCertificates || string(e.Certificates[0]) != "certificate of the AK" {
		t.Errorf("%d certificates, the first %q", len(e.Certificates), e.Certificates[0])
	}
}

// TestReadyWhileDown: a TPM that hung for anyone refuses the next request, and Ready says so before
// a look finds it out. A log that proves nothing is the cause that is told first. Case 103.
func TestReadyWhileDown(t *testing.T) {
	down := error(nil)
	r := newRig(t, func(c *Config) { c.Down = func() error { return down } })
	r.ask(t, request(1, evidence.Fresh))
	if err := r.Ready(); err != nil {
		t.Fatal(err)
	}
	down = errors.New("it hangs")
	if err := r.Ready(); !errors.Is(err, down) {
		t.Errorf("got %v, want that it hangs", err)
	}
	down = nil
	if err := r.Ready(); err != nil {
		t.Errorf("back again: %v", err)
	}
	down = errors.New("it hangs")
	r.ledger.pcr.change() // by another program
	r.Look(t.Context())
	if err := r.Ready(); !errors.Is(err, ledger.ErrDesynchronised) {
		t.Errorf("got %v, want what no TPM can mend", err)
	}
}
