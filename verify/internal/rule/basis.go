// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// BasisRules are rules about the party on whose word evidence may rest.
type BasisRules struct {
	quiet
	Basis BasisDemands `toml:"basis,omitempty"`
}

// BasisDemands is [basis]: the party that must vouch for a part of the evidence. A demand
// is met if that party vouches, whatever other party does too.
type BasisDemands struct {
	History check.Basis `toml:"history,omitempty" value:"one guest launch tpm" default:"\"guest\"" doc:"who must vouch for PCR values and for the log, with the applications and agents in it. |tpm|: a TPM whose attestation key the policy knows (|ak_names|, |[[enrolment]]|, |[gcp]|), or that measured firmware of kind |paravisor| or |svsm| vouches for: root of the guest cannot take back what was recorded, unless it has the vTPM too. |launch|: a launch that covers the whole system (|firmware+kernel+cmdline+system|). |guest|: the guest's own word is enough, and a program without a TPM can give it"`
	Caller  check.Basis `toml:"caller,omitempty" value:"one guest launch" default:"\"guest\"" doc:"who must vouch for the caller and for the key that it names. |launch|: a launch that covers the whole system. |guest|: root of any guest with that launch measurement can name any caller and any key"`
	All     check.Basis `toml:"all,omitempty" value:"one guest launch" default:"\"guest\"" doc:"|launch|: nothing that this policy demands, and no caller, may rest on the guest's word alone"`
}

var basisChecks = []check.Definition{
	{ID: "policy.basis-history", Class: check.Policy, Ground: check.OnVerifier, Checks: "the party that the policy names vouches for PCR values and log", Stops: "PCR values, log, applications and agents that root of a guest invented, without a TPM too"},
	{ID: "policy.basis-caller", Class: check.Policy, Ground: check.OnVerifier, Checks: "the party that the policy names vouches for the caller and its key", Stops: "a caller and a key that root of a guest named"},
	{ID: "policy.basis-all", Class: check.Policy, Ground: check.OnVerifier, Checks: "no rule of the policy passed by the guest's word alone, if the policy asks for it", Stops: "a demand of the policy that root of a guest met by its word"},
}

func (r *BasisRules) history() check.Basis { return cmp.Or(r.Basis.History, check.ByGuest) }

// system reports whether a demand needs a launch that covers the whole system.
func (r *BasisRules) system() bool {
	return slices.Contains([]check.Basis{r.Basis.History, r.Basis.Caller, r.Basis.All}, check.ByLaunch)
}

// conflicts refuses demands that no evidence could meet.
func (r *BasisRules) conflicts(p *Policy, f *faults) {
	known := p.knowsAK() || slices.ContainsFunc(p.Launches, func(l Launch) bool { return l.Kind.Binding().Rank() > BindingGuestAsserted.Rank() })
	whole := slices.ContainsFunc(p.Launches, func(l Launch) bool { return l.Covers == CoversSystem })
	f.failIf(r.history() == check.ByTPM && !known, "basis.history", "no attestation key is known (ak_names, [[enrolment]], [gcp]) and no [[launch]] is of kind %q or %q, so every evidence would be refused", KindParavisor, KindSVSM)
	both := slices.ContainsFunc(p.Launches, func(l Launch) bool {
		return l.Covers == CoversSystem && (p.binding().Rank() <= BindingGuestAsserted.Rank() || l.Kind.Binding().Rank() >= p.binding().Rank())
	})
	for key, v := range map[string]check.Basis{"basis.history": r.Basis.History, "basis.caller": r.Basis.Caller, "basis.all": r.Basis.All} {
		f.failIf(v == check.ByLaunch && !whole, key, "no [[launch]] covers %q, so every evidence would be refused", CoversSystem)
		f.failIf(v == check.ByLaunch && whole && !both, key, "binding is %q, and no [[launch]] of a kind that gives it covers %q, so every evidence would be refused", p.binding(), CoversSystem)
	}
	quoted := p.asksQuote()
	for key, v := range map[string]check.Basis{"basis.history": r.Basis.History, "basis.all": r.Basis.All} {
		f.failIf(v == check.ByLaunch && quoted && !known, key, "quoted PCR values rest on the vTPM, whatever the launch covers: list its attestation key (ak_names, [[enrolment]], [gcp]), or leave out the rules about PCR values")
	}
}

// asksQuote reports whether a rule is about quoted values. Measured software passes on what
// the vTPM says, whatever that is: a launch vouches for none of them.
func (p *Policy) asksQuote() bool {
	return len(p.PCRs)+len(p.Quoted) > 0 || p.FirmwareLog == Required || p.AsksIMA()
}

func (r *BasisRules) explain(_ *Policy, w *Words) {
	switch r.history() {
	case check.ByTPM:
		w.demand("PCR values and log rest on a TPM that the policy knows: root of the guest cannot take back what was recorded, unless it has the vTPM too. That it was true when it was recorded is the word of the software that recorded it.")
	case check.ByLaunch:
		w.demand("The log rests on a launch that covers everything that can become root.")
	}
	w.demandIf(r.Basis.Caller == check.ByLaunch, "Caller and key rest on a launch that covers everything that can become root.")
	w.demandIf(r.Basis.All == check.ByLaunch, "Nothing that is demanded here, and no caller, rests on the guest's word alone.")
}

func (*BasisRules) draft(g *Golden, d *Draft) {
	if g.bare() {
		return
	}
	d.tables.offer("On whose word evidence may rest. \"tpm\" needs ak_names, [[enrolment]] or [gcp], \"launch\" a [[launch]] that covers \"firmware+kernel+cmdline+system\". Without these, the guest's word is enough.",
		"# [basis]\n# history = \"tpm\"\n# caller = \"launch\"\n")
}

func (r *BasisRules) judge(p *Policy, s *Subject, f *check.Findings) {
	v := p.Vouched(s, f)
	v.Sound = true // what is not is refused for that
	history := check.OnHistory
	if p.asksQuote() && r.history() == check.ByLaunch {
		history = check.OnQuote
	}
	r.judgePart(s, f, "policy.basis-history", r.history(), s.Material.Quote, v, history)
	r.judgePart(s, f, "policy.basis-caller", cmp.Or(r.Basis.Caller, check.ByGuest), s.Material.Statement, v, check.OnAgent)
	if f.SkipIf(r.Basis.All != check.ByLaunch, "policy.basis-all", "the policy accepts the guest's word") || s.SNP == nil {
		return
	}
	var guest []string
	for _, id := range f.PassedBy(v, check.Policy, check.ByGuest) {
		guest = append(guest, string(id))
	}
	if s.Material.Statement && v.Basis(check.OnAgent) == check.ByGuest {
		guest = append(guest, "the caller")
	}
	blocked(f, v, check.ByLaunch, "policy.basis-all", len(guest) == 0, "nothing that rests on the guest's word alone", firstOf(guest), "part of what the policy demands rests on the guest's word alone")
}

func (*BasisRules) judgePart(s *Subject, f *check.Findings, id check.ID, want check.Basis, there bool, v check.Vouched, about check.Ground) {
	if f.SkipIf(want == check.ByGuest, id, "the policy accepts the guest's word") {
		return
	}
	if !there {
		f.Decide(id, false, string(want), "none", "the policy asks on whose word this rests, and material of this kind contains nothing of it")
		return
	}
	if s.SNP == nil {
		return
	}
	ok := want == check.ByTPM && v.TPM || want == check.ByLaunch && v.System && v.Basis(about) != check.ByGuest
	blocked(f, v, want, id, ok, string(want), string(v.Basis(about)), "this rests on the word of the %s, and the policy asks for that of the %s", v.Basis(about), want)
}

// blocked decides a check of a basis. If a check that the basis depends on failed, that
// one says why.
func blocked(f *check.Findings, v check.Vouched, want check.Basis, id check.ID, ok bool, expected, found, sentence string, args ...any) {
	see := refusedLaunch(f)
	if want == check.ByTPM {
		see = cmp.Or(refusedAK(f), see)
	}
	if !ok && see != "" {
		f.Block(id, "see %s", see)
		return
	}
	f.Decide(id, ok, expected, found, sentence, args...)
}

// Vouched returns what vouches for an evidence apart from the guest's own word, by the
// checks that passed.
func (p *Policy) Vouched(s *Subject, f *check.Findings) check.Vouched {
	v := check.Vouched{Tied: s.Tie.Binding != BindingNone}
	if memoryClosed(f) {
		v.System = p.listsSystem(s, f)
		v.Below = s.Tie.Binding.Rank() > BindingGuestAsserted.Rank()
	}
	v.TPM = Origin(f) != AKNone || v.Below
	return v
}

// promised returns what vouches at least for every evidence that p accepts.
func (p *Policy) promised() check.Vouched {
	closed := !p.GuestPolicy.opensMemory() && !slices.ContainsFunc(p.vmpl(), func(v int) bool { return v != 0 })
	v := check.Vouched{Sound: true, Tied: p.binding() != BindingNone}
	v.System = p.system() || closed && p.UnlistedLaunch != Allow && !slices.ContainsFunc(p.Launches, func(l Launch) bool { return l.Covers != CoversSystem })
	v.Below = closed && p.binding().Rank() > BindingGuestAsserted.Rank()
	v.TPM = p.knowsAK() || v.Below || p.history() == check.ByTPM
	return v
}

// explainBasis says DANGER of demands that rest on the guest alone, or on a vTPM that the
// policy does not know, whatever else is pinned.
func (p *Policy) explainBasis(w *Words) {
	v := p.promised()
	list := func(grounds ...check.Ground) string {
		var out []string
		for _, g := range grounds {
			if v.Basis(g) == check.ByGuest {
				out = append(out, w.about[g]...)
			}
		}
		return strings.Join(out, ", ")
	}
	invent := "Root of any guest with this launch measurement can invent this, also of one that the host launched from a disk of its own"
	if p.UnlistedLaunch == Allow {
		invent = "Root of any guest can invent this"
	}
	history, caller := list(check.OnQuote, check.OnHistory), list(check.OnAgent)
	unknown := "no attestation key is known (ak_names, [[enrolment]], [gcp])"
	w.dangerIf(history != "" && !v.System, "By the guest's word alone: %s. %s, and needs no TPM for it: %s.", history, invent, unknown)
	w.dangerIf(history != "" && v.System, "By the word of a vTPM that the policy does not know: %s. The host can invent this, if it runs that vTPM: %s.", history, unknown)
	w.dangerIf(caller != "", "By the guest's word alone: %s. %s: only a launch that covers the whole system vouches for a caller (launch.covers, basis.caller).", caller, invent)
}

// byWord says on whose word a demand rests.
func byWord(b check.Basis) string {
	word := map[check.Basis]string{
		check.ByGuest: "the guest's word alone", check.ByTPM: "the word of a TPM that the policy knows", check.ByLaunch: "the word of the measured system",
	}[b]
	if word == "" {
		return ""
	}
	return fmt.Sprintf(" By %s.", word)
}
