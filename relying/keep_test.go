// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// TestKeepsUnderTheVerifiedName: what was read of unverified evidence decides nothing about another key.
func TestKeepsUnderTheVerifiedName(t *testing.T) {
	logs := NewMemoryLogs(1)
	s := &Service{c: Config{Logs: logs}}
	verified := keys.Name("verified")
	claims := &verify.Claims{AKName: verified.String(), Log: &verify.LogState{}}
	for _, ak := range []keys.Name{nil, keys.Name("another")} {
		if err := s.keep(t.Context(), &Record{AK: ak}, claims, visit{}); err == nil || !strings.Contains(err.Error(), verified.String()) {
			t.Errorf("%v: %v", ak, err)
		}
	}
	if err := s.keep(t.Context(), &Record{AK: verified}, claims, visit{}); err != nil {
		t.Error(err)
	}
}

// TestUsedChallengesTakeNoMemory: after one nonce that waits, any number of used ones.
func TestUsedChallengesTakeNoMemory(t *testing.T) {
	const most = 4
	m, now := NewMemoryChallenges(most), time.Time{}
	for i := range byte(10 * most) {
		nonce := [NonceSize]byte{i}
		if err := m.Put(t.Context(), nonce, now, now.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if len(m.order) > 2*most {
			t.Fatalf("%d nonces are kept, of which %d wait", len(m.order), len(m.waits))
		}
		if i == 0 {
			continue
		}
		if _, taken, err := m.Take(t.Context(), nonce, now); err != nil || !taken {
			t.Fatalf("%v, %v", taken, err)
		}
	}
	if _, taken, err := m.Take(t.Context(), [NonceSize]byte{}, now); err != nil || !taken {
		t.Errorf("the first: %v, %v", taken, err)
	}
}

// TestHistory: what was known of a log, and which boots ended, after a row of visits.
func TestHistory(t *testing.T) {
	at := func(id string, reset, records uint32) *verify.Claims {
		s := &verify.LogState{ReportID: id, ResetCount: reset, PCR: records}
		return &verify.Claims{Log: s, Machine: verify.Machine{SNP: &verify.SNP{ReportID: id}}}
	}
	var h *History
	now := time.Time{}
	visit := func(c *verify.Claims, want error) {
		t.Helper()
		now = now.Add(time.Second)
		next, err := h.next(c, now)
		if err != want {
			t.Fatalf("%+v: %v, want %v", c, err, want)
		}
		if err == nil {
			h = next
		}
	}
	visit(at("a", 1, 1), nil)
	first := h
	visit(at("a", 1, 1), nil)
	if h != first {
		t.Error("the same state is new")
	}
	visit(at("a", 1, 2), nil)
	if h == first || len(h.Earlier) != 0 || !h.changedSince(first.Changed) || h.changedSince(h.Changed) {
		t.Errorf("a longer log: %+v", h)
	}
	visit(at("b", 2, 1), nil)
	visit(at("a", 1, 3), errBootEnded)
	without := at("a", 1, 0)
	without.Log = nil
	visit(without, errBootEnded)
	without.Machine.SNP.ReportID = "b"
	visit(without, nil)
	without.Machine.SNP = nil
	visit(without, nil)
	visit(at("", 3, 1), nil) // a report without REPORT_ID
	visit(at("b", 2, 1), errBootEnded)
	visit(at("", 4, 1), nil)
	visit(at("", 3, 1), errBootEnded)
	if want := []string{"a", "b", "reset 3"}; !slices.Equal(h.Earlier, want) {
		t.Errorf("%v, want %v", h.Earlier, want)
	}
	for i := range uint32(2 * maxEarlier) {
		visit(at(fmt.Sprint("boot ", i), i, 1), nil)
	}
	if len(h.Earlier) != maxEarlier {
		t.Errorf("%d boots are known", len(h.Earlier))
	}
	visit(at("boot 100", 100, 1), errBootEnded)
	if h, err := (*History)(nil).next(without, now); h != nil || err != nil {
		t.Errorf("no log, and nothing known: %v, %v", h, err)
	}
}
