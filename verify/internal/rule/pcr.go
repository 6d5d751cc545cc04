// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

// PCRRules are rules about PCR values.
type PCRRules struct {
	quiet
	Quoted []Quoted `toml:"quoted,omitempty"`
	PCRs   []PCR    `toml:"pcr,omitempty"`
}

// PCR is one [[pcr]]: the values that one PCR may have.
type PCR struct {
	Bank   string   `toml:"bank" value:"one sha256 sha384 sha512" default:"required" doc:"|sha256|, |sha384| or |sha512|. SHA-1 is not accepted: collisions can be made"`
	Index  int      `toml:"index" value:"range 0 23" default:"required" doc:"0 to 23"`
	Values []string `toml:"values" value:"later" default:"required" doc:"acceptable values: another boot loader, kernel or command line is refused, if the policy knows the attestation key. If it does not, root of a guest can invent any value"`
}

// Quoted is one [[quoted]]: PCRs that every quote must contain, whatever their values.
type Quoted struct {
	Bank string `toml:"bank" value:"one sha256 sha384 sha512" default:"required" doc:"|sha256|, |sha384| or |sha512|"`
	PCRs []int  `toml:"pcrs" value:"range 0 23" default:"required" doc:"0 to 23: evidence whose quote leaves one of them out is refused. What a value means is another matter, see |[[pcr]]|"`
}

var pcrChecks = []check.Definition{
	{ID: "policy.quoted", Class: check.Policy, Ground: check.OnQuote, Checks: "the quote contains every PCR that the policy wants quoted", Stops: "an inconvenient PCR left out of the quote"},
	{ID: "policy.pcr", Class: check.Policy, Ground: check.OnQuote, Checks: "every PCR that the policy pins was quoted with one of the listed values", Stops: "another boot loader, kernel or command line, if the AK is known from elsewhere; under another AK, root of a guest can invent any value"},
}

// values checks what depends on the bank. Collisions of SHA-1 can be made, so a SHA-1 value
// says little about what was extended: there is no such bank.
func (r *PCRRules) values(f *faults) {
	f.twice("quoted[%d].bank", len(r.Quoted), func(i int) string { return r.Quoted[i].Bank })
	f.twice("pcr[%d]", len(r.PCRs), func(i int) string { return fmt.Sprintf("PCR %d of bank %s", r.PCRs[i].Index, r.PCRs[i].Bank) })
	for i, x := range r.PCRs {
		if bank, err := pcr.ParseAlgorithm(x.Bank); err == nil && x.Values != nil {
			f.list(fmt.Sprintf("pcr[%d].values", i), x.Values, []string{"hex0", strconv.Itoa(bank.Size())})
		}
	}
}

// pinned reports whether a rule pins a PCR in any bank.
func (r *PCRRules) pinned(index int) bool {
	return slices.ContainsFunc(r.PCRs, func(x PCR) bool { return x.Index == index })
}

// Pins reports whether a rule pins a PCR in one bank.
func (r *PCRRules) Pins(bank pcr.Algorithm, index uint32) bool {
	return slices.ContainsFunc(r.PCRs, func(x PCR) bool { return x.Bank == bank.String() && int64(x.Index) == int64(index) })
}

func (r *PCRRules) explain(_ *Policy, w *Words) {
	w.on(check.OnQuote, "PCR values ([[pcr]])")
	for _, x := range r.PCRs {
		w.demand("PCR %d of bank %s was quoted with %s.", x.Index, x.Bank, oneOf(len(x.Values), "value"))
	}
	for _, x := range r.Quoted {
		w.demand("The quote contains PCR %s of bank %s, whatever their values.", joined(x.PCRs, ", "), x.Bank)
	}
	w.openIf(len(r.PCRs) == 0, "The PCRs of firmware, boot loader and kernel: no [[pcr]] pins one.")
}

// draft pins nothing: a value may differ from boot to boot. The log explains those of its
// own PCR.
func (*PCRRules) draft(g *Golden, d *Draft) {
	if g.bare() {
		return
	}
	t := &d.tables
	t.say("Quoted PCRs that no log of the agent explains. Remove the # if the value is the same on every good machine and at every boot; what is not pinned is not asserted.")
	q := cmp.Or(g.Quote, new(quote.Quote)) // of evidence that does not verify, it may be absent
	for _, b := range q.Selection {
		for _, index := range b.PCRs {
			if byLog, _ := g.Explained(b.Algorithm, index); b.Algorithm != pcr.SHA1 && !byLog {
				t.line("# [[pcr]]\n# bank = %q\n# index = %d\n# values = [%s]", b.Algorithm, index, hexOf(q.Values[b.Algorithm][index]))
			}
		}
	}
	t.line("")
}

// judgeQuoted wants PCRs in the quote. The evidence gives values for exactly those that the
// quote selects.
func (r *PCRRules) judgeQuoted(s *Subject, f *check.Findings) {
	const id = "policy.quoted"
	if f.SkipIf(len(r.Quoted) == 0, id, "the policy does not say which PCRs must be quoted") || s.Material.Quote && s.Quote == nil {
		return
	}
	var missing []string
	for _, x := range r.Quoted {
		bank, _ := pcr.ParseAlgorithm(x.Bank) // the policy was checked
		for _, index := range x.PCRs {
			quoted := false
			if s.Quote != nil {
				_, quoted = s.Quote.Values[bank][uint32(index)]
			}
			if !quoted {
				missing = append(missing, fmt.Sprintf("PCR %d of bank %s", index, x.Bank))
			}
		}
	}
	f.Decide(id, len(missing) == 0, "every PCR that the policy wants quoted", "without "+firstOf(missing), "the quote leaves out %s, or there is none", firstOf(missing))
}

func (r *PCRRules) judge(_ *Policy, s *Subject, f *check.Findings) {
	r.judgeQuoted(s, f)
	q := s.Quote
	switch {
	case len(r.PCRs) == 0:
		f.Skip("policy.pcr", "the policy pins no PCR")
		return
	case !s.Material.Quote:
		f.Decide("policy.pcr", false, "a quote", "none", "the policy pins a PCR, and a bare report comes with no quote")
		return
	case q == nil:
		return
	}
	for _, x := range r.PCRs {
		bank, err := pcr.ParseAlgorithm(x.Bank)
		value, quoted := q.Values[bank][uint32(x.Index)]
		found := "not quoted"
		if quoted {
			found = hex.EncodeToString(value)
		}
		name := fmt.Sprintf("PCR %d of bank %s", x.Index, x.Bank)
		if !f.Decide("policy.pcr", err == nil && quoted && slices.Contains(x.Values, found), name+" is "+oneOf(len(x.Values), "value"), found, "%s is not what the policy pins", name) {
			return
		}
	}
}
