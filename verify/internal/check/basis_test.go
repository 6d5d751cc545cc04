// SPDX-License-Identifier: Apache-2.0

package check

import (
	"slices"
	"testing"
)

// TestBasis has the basis of every kind of fact, for everything that may vouch for it.
func TestBasis(t *testing.T) {
	for bits := range 1 << 5 {
		bit := func(i int) bool { return bits>>i&1 == 1 }
		v := Vouched{Sound: bit(0), Tied: bit(1), TPM: bit(2), System: bit(3), Below: bit(4)}
		want := map[Ground]Basis{OnVerifier: ByVerifier}
		if v.Sound {
			want[OnProcessor] = ByProcessor
			want[OnBinding], want[OnQuote], want[OnHistory], want[OnAgent] = ByGuest, ByGuest, ByGuest, ByGuest
			if v.System {
				want[OnBinding], want[OnHistory], want[OnAgent] = ByLaunch, ByLaunch, ByLaunch
			}
			if v.Below {
				want[OnBinding] = ByLaunch
			}
			if v.TPM {
				want[OnQuote], want[OnHistory] = ByTPM, ByTPM
			}
			if !v.Tied {
				want[OnBinding] = ByVerifier
			}
		}
		for _, g := range Grounds() {
			if got := v.Basis(g); got != want[g] {
				t.Errorf("%s under %+v rests on %q, want %q", g, v, got, want[g])
			}
		}
	}
}

// TestRest: only a check that passed has a basis, that of its own definition.
func TestRest(t *testing.T) {
	f := NewFindings(NewOrder([]Definition{{ID: "a.pass", Class: Policy, Ground: OnAgent}, {ID: "a.fail", Ground: OnAgent}, {ID: "a.skip", Ground: OnAgent}, {ID: "a.quote", Ground: OnQuote}, {ID: "a.leans", Class: Policy, Ground: OnHistory}}), nil)
	f.Decide("a.pass", true, "", "", "")
	f.Decide("a.fail", false, "", "", "no")
	f.Skip("a.skip", "no")
	f.Decide("a.quote", true, "", "", "")
	f.Decide("a.leans", true, "", "", "")
	f.Lean("a.leans", OnAgent)
	v := Vouched{Sound: true, TPM: true}
	f.Rest(v)
	if got := f.PassedBy(v, Policy, ByGuest); !slices.Equal(got, []ID{"a.pass", "a.leans"}) {
		t.Errorf("by the guest's word passed %v", got)
	}
	want := map[ID]Basis{"a.pass": ByGuest, "a.quote": ByTPM, "a.leans": ByGuest}
	for _, c := range f.Checks() {
		if c.Basis != want[c.ID] {
			t.Errorf("%s has the basis %q, want %q", c.ID, c.Basis, want[c.ID])
		}
	}
}
