// SPDX-License-Identifier: Apache-2.0

package check

import "cmp"

// Basis is the party on whose word a check passed, or a claim rests. It is derived from
// the evidence and never configured.
type Basis string

// Bases.
const (
	ByProcessor Basis = "processor" // AMD's signature over the report
	ByLaunch    Basis = "launch"    // software that the launch measurement covers
	ByTPM       Basis = "tpm"       // a TPM whose attestation key the verifier knows apart from the guest's word
	ByGuest     Basis = "guest"     // the guest's own software, and so root of the guest
	ByVerifier  Basis = "verifier"  // what the verifier supplies or computes itself: formats, nonce, time, policy
)

// Ground is the kind of fact that a check is about. With what vouches for an evidence, it
// gives the basis.
type Ground string

// Grounds.
const (
	OnVerifier  Ground = "verifier"  // what the verifier computes or compares by itself
	OnProcessor Ground = "processor" // what the report says
	OnBinding   Ground = "binding"   // that the vTPM belongs to the machine of the report
	OnQuote     Ground = "quote"     // what a quote says: PCR values, clock and counters of the TPM
	OnHistory   Ground = "history"   // what the measurement log says: applications, agents, gaps
	OnAgent     Ground = "agent"     // what the agent states: the caller and its key
)

// Grounds lists them all.
func Grounds() []Ground {
	return []Ground{OnVerifier, OnProcessor, OnBinding, OnQuote, OnHistory, OnAgent}
}

// Vouched says what vouches for an evidence apart from the guest's own word.
type Vouched struct {
	Sound  bool // every signature, format and binding passed; if not, nothing vouches for anything
	Tied   bool // the vTPM is tied to the report at all
	TPM    bool // the AK is enrolled, certified, or named by measured firmware below the guest
	System bool // the launch measurement covers everything that can become root
	Below  bool // measured firmware below the guest keeps the vTPM out of its reach
}

// Basis returns the basis of a fact; none if nothing vouches for anything.
//
// A TPM comes before the launch: what it recorded, root cannot take back, even after the
// measured software was broken into. A quote never rests on the launch: measured software
// passes on what the vTPM says, and a host may run that vTPM.
func (v Vouched) Basis(g Ground) Basis {
	switch {
	case g == OnVerifier:
		return ByVerifier
	case !v.Sound:
		return ""
	case g == OnProcessor:
		return ByProcessor
	case g == OnBinding && !v.Tied: // nothing was asked, so nothing was said
		return ByVerifier
	case g == OnBinding && v.Below, g == OnBinding && v.System, g == OnAgent && v.System:
		return ByLaunch
	case g == OnQuote && v.TPM, g == OnHistory && v.TPM:
		return ByTPM
	case g == OnHistory && v.System:
		return ByLaunch
	}
	return ByGuest
}

// Lean records that a check rests on another fact than its definition says, since of this
// evidence it compared one of those: on the caller that the agent states, for example.
func (f *Findings) Lean(id ID, fact Ground) {
	if f.leans == nil {
		f.leans = make(map[ID]Ground)
	}
	f.leans[id] = fact
}

// fact returns the kind of fact that check i is about.
func (f *Findings) fact(i int) Ground {
	return cmp.Or(f.leans[f.checks[i].ID], f.definitions[i].Ground)
}

// PassedBy lists the checks of a class that passed with this basis.
func (f *Findings) PassedBy(v Vouched, class Class, basis Basis) (ids []ID) {
	for i, c := range f.checks {
		if c.Class == class && c.Verdict == Pass && v.Basis(f.fact(i)) == basis {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// Rest gives every check that passed its basis. Call it once, after the last check.
func (f *Findings) Rest(v Vouched) {
	for i := range f.checks {
		if c := &f.checks[i]; c.Verdict == Pass {
			c.Basis = v.Basis(f.fact(i))
		}
	}
}
