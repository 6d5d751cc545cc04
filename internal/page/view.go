// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"html/template"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// view is what the layout of a page draws. All text in it may be shown.
type view struct {
	Style  template.CSS
	Policy string

	Title, Name   string
	Tone, Verdict string // Tone is one of the tones below
	Test          bool   // the verifier trusted a test root
	Lead          string
	Meta          []fact
	Warnings      []warning
	Failures      []failure
	MoreFailures  string
	Sentences     []string
	Bases         []basis
	Chain         chain
	Log           *logView // nil if there is none, or the evidence was refused
	NoLog         string
	Banks         []bank
	NoPCRs        string
	MorePCRs      string
	Groups        []group
	Counts        string
}

// Tones of a page: accepted, accepted by the guest's word or under a test root, refused.
const (
	toneAccepted = "accepted"
	toneGuest    = "guest"
	toneTest     = "test"
	toneRefused  = "refused"
)

// A fact is a name and a value.
type fact struct {
	Name, Value string
	Code        bool // digits or a name of a program, which people compare
}

// A warning is something that must not be overlooked.
type warning struct{ Title, Text string }

// A failure is a reason to refuse evidence.
type failure struct {
	Title           string
	ID              string // of the check; empty of a reason of several
	Sentence        string
	Expected, Found string
	Stops           string // the attack that the check stops
}

// A basis is a claim, and on whose word it rests.
type basis struct{ Claim, By, Party string }

// newView returns the view of an appraisal.
func newView(a *verify.Appraisal, o Options) *view {
	claims, err := a.Claims()
	w := words{test: o.TestRoot || err == nil && claims.Machine.TestRoot}
	v := &view{Style: template.CSS(Style), Policy: policy, Name: name(o.Name), Tone: tone(a, err == nil), Test: w.test}
	v.Meta = meta(a)
	if err != nil {
		v.refused(a)
	} else {
		v.accepted(a, claims, w)
	}
	if w.test {
		v.Verdict += ", under a TEST ROOT"
		if err == nil {
			v.Tone = toneTest
		}
		v.Warnings = append(v.Warnings, warning{"TEST ROOT", "The verifier trusted a test root in place of AMD's. This page vouches for no hardware at all."})
	}
	if err == nil && a.Basis == verify.ByGuest {
		v.Warnings = append(v.Warnings, warning{"By the guest's word", "Some of what the policy asks for rests on the word of the guest's own software, and so of root of the guest. Root could have made evidence that looks like this, without a TPM too."})
	}
	v.Title = v.Verdict
	if v.Name != "" {
		v.Title += ": " + v.Name
	}
	v.Chain = w.chainOf(a, claims)
	v.Groups = w.groups(a)
	v.Counts = counts(a)
	return v
}

// tone returns the tone of a page. Without claims nothing was accepted.
func tone(a *verify.Appraisal, claims bool) string {
	switch {
	case !claims:
		return toneRefused
	case a.Basis == verify.ByGuest:
		return toneGuest
	}
	return toneAccepted
}

// accepted fills in what accepted evidence says.
func (v *view) accepted(a *verify.Appraisal, c *verify.Claims, w words) {
	v.Verdict = "Accepted" + verdict.OnGuestWord(a)
	v.Lead = sentence(verdict.Ties(a))
	sentences, left := some(a.Sentences[min(len(a.Sentences), 1):], maxList) // the first is the verdict
	for _, s := range sentences {
		v.Sentences = append(v.Sentences, sentence(s))
	}
	if left > 0 {
		v.Sentences = append(v.Sentences, text.Count(left, "sentence")+" more: agentctl verify prints them.")
	}
	v.Bases = w.bases(c.Basis)
	v.Banks, v.MorePCRs = w.banks(c.PCRs)
	if len(c.PCRs) == 0 {
		v.NoPCRs = "The material has no quote, so nothing is known of PCRs."
	}
	if v.Log = newLogView(c); v.Log == nil {
		v.NoLog = "The evidence contained no log. Which applications ran is not known."
	}
}

// refused fills in why evidence was refused.
func (v *view) refused(a *verify.Appraisal) {
	v.Verdict = "Refused"
	v.Lead = advice(a.Class)
	v.Failures, v.MoreFailures = failures(a)
	const why = "The evidence was refused, so the page shows nothing of what it claims."
	v.NoLog, v.NoPCRs = why, why
}

// advice returns what a class of refusal means for the reader, as docs/verify.md says it.
func advice(c verify.Class) string {
	switch c {
	case verify.ClassBinding:
		return "A signature, a format or a binding is broken. Treat the evidence as forged."
	case verify.ClassCollateral:
		return "A certificate or a revocation list is missing or out of date, or a firmware's log cannot be read. Fetch it and verify again."
	case verify.ClassRevoked:
		return "A key was revoked. The machine needs new firmware and keys."
	case verify.ClassPolicy:
		return "Every signature and binding holds, but the evidence is not what the policy asks for. Change the machine, or the policy."
	}
	return "Not every required check could be made."
}

// meta returns the facts below the verdict.
func meta(a *verify.Appraisal) []fact {
	out := []fact{{Name: "Appraised", Value: atUTC(a.Time)}, {Name: "Material", Value: name(a.Material)}, {Name: "Policy", Value: name(a.Policy), Code: true}}
	if a.Verdict == verify.Pass {
		out = append(out, fact{Name: "Supported until", Value: atUTC(a.SupportedUntil)})
	} else {
		out = append(out, fact{Name: "Exit code", Value: fmt.Sprintf("%d, %s", a.ExitCode(), a.Class)})
	}
	return known(out)
}

// known returns the facts that have a value.
func known(facts []fact) (out []fact) {
	for _, f := range facts {
		if f.Value != "" {
			out = append(out, f)
		}
	}
	return out
}

// failures returns the reasons to refuse evidence: each check that failed, then the required ones that
// could not be made, by reason.
func failures(a *verify.Appraisal) (out []failure, more string) {
	stops := map[verify.CheckID]string{}
	for _, d := range verify.Definitions() {
		stops[d.ID] = d.Stops
	}
	for _, c := range verdict.With(a, verify.Fail) {
		out = append(out, failure{Title: name(c.ID), ID: name(c.ID), Sentence: sentence(c.Sentence), Expected: sentence(c.Expected), Found: foundIn(c), Stops: stops[c.ID]})
	}
	open, parts := verdict.OpenOf(a), verdict.PartsOf(a)
	for _, r := range open.Reasons {
		if r.Required {
			ids := open.IDs[r]
			out = append(out, failure{Title: "Required and not made: " + text.Count(len(ids), "check"), Sentence: sentence(r.Sentence), Found: sentence(parts.Name(ids))})
		}
	}
	out, left := some(out, maxList)
	if left > 0 {
		more = fmt.Sprintf("%s more: the list of all checks has them.", text.Count(left, "reason"))
	}
	return out, more
}

// foundIn returns what a check found; empty if its sentence says the same.
func foundIn(c verify.Check) string {
	if c.Found == c.Sentence {
		return ""
	}
	return sentence(c.Found)
}

// bases returns on whose word each claim rests.
func (w words) bases(b verify.ClaimBases) (out []basis) {
	for _, x := range []struct {
		claim string
		by    verify.Basis
	}{
		{"What the report says of the machine", b.Machine}, {"The quoted PCR values", b.PCRs}, {"The log, with the applications in it", b.Log},
		{"The agent's digest and version", b.Agent}, {"The caller", b.Caller}, {"That this caller named the key", b.PublicKey},
	} {
		if x.by != "" {
			out = append(out, basis{x.claim, w.by(x.by), w.party(x.by)})
		}
	}
	return out
}

// words are the words for bases. Under a test root, nothing rests on AMD's word.
type words struct{ test bool }

// by returns on whose word something rests; what the verifier did itself has a word too.
func (w words) by(b verify.Basis) string {
	switch {
	case b == verify.ByVerifier:
		return "by the verifier itself"
	case b == verify.ByProcessor && w.test:
		return "by the word of a test root"
	}
	return verdict.By(b)
}

// party returns who would have to lie, as docs/checks.md says it.
func (w words) party(b verify.Basis) string {
	if b == verify.ByProcessor && w.test {
		return "the maker of the test root: no hardware vouches for it"
	}
	return map[verify.Basis]string{
		verify.ByProcessor: "AMD: its signature over the report",
		verify.ByLaunch:    "software that the launch measurement covers",
		verify.ByTPM:       "a TPM whose attestation key the verifier knows from elsewhere",
		verify.ByGuest:     "the guest's own software, and so root of the guest",
		verify.ByVerifier:  "the verifier: what it supplies or computes",
	}[b]
}
