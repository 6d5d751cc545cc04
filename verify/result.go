// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// gravest orders the classes: what is forged is not worth a look at its policy, and a
// revoked key is worse news than a missing file.
var gravest = []Class{ClassBinding, ClassRevoked, ClassCollateral, ClassPolicy}

// result closes the appraisal: open checks get their reason, then it finds verdict,
// class, binding and what may be said to people.
func (a *appraiser) result() *Appraisal {
	r := &Appraisal{Type: AppraisalType, Material: a.material, Time: a.now, Policy: a.p.Sum.String(), Binding: BindingNone, AKOrigin: AKNone, Checks: a.Checks()}
	r.Enrolments = a.enrolmentsUsed()
	failed := r.Failed()
	r.Verdict = Pass
	if len(failed) > 0 {
		r.Verdict, r.Class = Fail, classOf(failed)
	}
	// Binding, origin, freshness and bases mean something only if nothing below them failed.
	sound := !slices.ContainsFunc(failed, func(c Check) bool { return c.Class != ClassPolicy })
	v := a.vouched(sound)
	a.Rest(v)
	if sound {
		r.Binding = a.binding
		r.AKOrigin = rule.Origin(a.Findings)
		r.Freshness = a.freshness()
		r.AnchorAge, r.GuestAnchorAge = Milliseconds(quote.Age(a.anchor, a.batch)), Milliseconds(a.guestAge)
	}
	if r.Verdict == Pass {
		r.Accepted.claims = a.claims(v)
		r.Basis = r.weakest()
		r.SupportedUntil = a.supported(r)
	}
	r.Sentences = a.sentences(r, failed, v)
	return r
}

// enrolmentsUsed names the enrolments apart from the policy that were looked at, nil if none were.
func (a *appraiser) enrolmentsUsed() *EnrolmentsUsed {
	set := a.expect.Enrolments
	if set == nil || a.p.Outside != OutsideApproved {
		return nil
	}
	out := &EnrolmentsUsed{Digest: set.Digest().String(), Count: set.Len()}
	if a.ak == nil {
		return out
	}
	if l, err := a.p.Listed(a.ak.Name, set); err == nil && l != nil {
		out.State, out.By, out.Since = l.State, l.By, l.Since
	}
	return out
}

// sentence says for people on which list the knowledge of the AK rests.
func (e *EnrolmentsUsed) sentence(origin AKOrigin) string {
	if e == nil || e.State != keys.Approved || origin == AKNone {
		return ""
	}
	return fmt.Sprintf("The attestation key is enrolled apart from the policy, in a list of %s (%.16s…), and approved by %q there. A party that can write to that list decides which machines count.", text.Count(e.Count, "enrolment"), e.Digest, e.By)
}

// supported returns how long certificates, lists, the age of the report and the policy support what was
// accepted. The report grows older from now on, so max_anchor_age ends too.
func (a *appraiser) supported(r *Appraisal) time.Time {
	until := report.Earlier(report.Earlier(a.report.Until(), a.relied), a.expires)
	if most := time.Duration(a.p.MaxAnchorAge); most > 0 {
		until = report.Earlier(until, a.now.Add(most-time.Duration(max(r.AnchorAge, r.GuestAnchorAge))))
	}
	return until
}

// freshness returns what the report was made for, if anything shows it.
func (a *appraiser) freshness() Freshness {
	switch {
	case a.material == MaterialQuote:
		return ""
	case a.material == MaterialReport && (!a.Passed(report.ExpectedData.ID) || a.expect.ReportData != nil), a.material == MaterialParavisor && !paravisor.Fresh(a.Findings, a.expect.UserData, a.expect.Nonce):
		return UnknownReport
	case a.anchored:
		return AnchoredReport
	}
	return FreshReport
}

func classOf(failed []Check) Class {
	for _, verdict := range []Verdict{Fail, NotAsserted} { // an open check counts only if nothing failed
		for _, class := range gravest {
			if slices.ContainsFunc(failed, func(c Check) bool { return c.Verdict == verdict && c.Class == class }) {
				return class
			}
		}
	}
	return ClassBinding
}

// claims returns what accepted evidence says. A bare report says nothing about PCRs.
func (a *appraiser) claims(v check.Vouched) *Claims {
	c := &Claims{Log: a.log.State, Machine: Machine{Platform: a.kind, Measurement: hex.EncodeToString(a.report.Measurement()), SNP: a.snpClaims()}}
	c.Machine.Root, c.Machine.TestRoot = a.report.Root()
	if a.launch != nil {
		c.Machine.Label, c.Machine.Covers = a.launch.Label, a.launch.Covers
	}
	if a.statement != nil {
		c.Statement = *a.statement
	}
	if a.ak != nil {
		c.AKName = hex.EncodeToString(a.ak.Name)
	}
	c.Instance, c.IMA = a.instance, a.imaClaim()
	if a.batch != nil {
		c.PCRs = a.pcrClaims(v)
	}
	c.Basis = claimBases(c, v)
	return c
}

// pcrClaims returns the quoted PCRs. The log explains its own PCRs, so that these rest on
// what the log rests on.
func (a *appraiser) pcrClaims(v check.Vouched) (out []PCRClaim) {
	for _, b := range a.batch.Selection {
		for _, index := range b.PCRs {
			p := PCRClaim{Bank: b.Algorithm.String(), Index: index, Value: hex.EncodeToString(a.batch.Values[b.Algorithm][index]),
				Explained: a.explained(b.Algorithm, index), Basis: v.Basis(check.OnQuote)}
			if p.Explained == ByLog {
				p.Basis = v.Basis(check.OnHistory)
			}
			out = append(out, p)
		}
	}
	return out
}

// byLog reports whether replaying the agent's log gives the quoted value. The log explains
// it only from a start that is explained too; the check of that start passes over SHA-1.
func (a *appraiser) byLog(bank pcr.Algorithm, index uint32) bool {
	log := a.log.State
	return log != nil && log.Has(index) && (bank != pcr.SHA1 || log.FromZero(index, bank))
}

// byFirmware reports whether the firmware's log leads to the quoted value.
func (a *appraiser) byFirmware(bank pcr.Algorithm, index uint32) bool {
	replayed, ok := a.firmware[bank][index]
	return ok && bank != pcr.SHA1 && bytes.Equal(replayed, a.batch.Values[bank][index])
}

// byIMA reports whether the list of IMA leads to the quoted value, by hashes other than SHA-1.
func (a *appraiser) byIMA(bank pcr.Algorithm, index uint32) bool {
	return a.ima.Explains(bank, index) && (a.ima.Mode == ima.Own || a.p.IMA.AllowPaddedSHA1)
}

// sentence says what the list of IMA shows, and what it does not. Asked says that the policy has
// rules about it, strong that it leads there by hashes other than SHA-1.
func (c *IMAClaim) sentence(asked, strong bool) string {
	if c == nil {
		return ""
	}
	out := fmt.Sprintf("The list of IMA leads to the quoted PCR 10: %s of the kernel. It measures what its policy of IMA names, and a kernel without one measures nothing: what boots it must pin that.", text.Count(c.Entries, "measurement"))
	if !strong && c.Entries > 0 {
		out += " It rests on SHA-1 alone, whose collisions can be made."
	}
	switch {
	case !asked:
		out += " No rule of the policy says what it may be."
	case c.Unlisted+c.Violations > 0:
		out += fmt.Sprintf(" The policy allows %d that are not listed, and %d that were written while they were used.", c.Unlisted, c.Violations)
	}
	return out
}

// explained returns what explains a quoted value.
func (a *appraiser) explained(bank pcr.Algorithm, index uint32) Explanation {
	switch {
	case a.byLog(bank, index):
		return ByLog
	case a.p.Pins(bank, index):
		return ByPolicy
	case a.byIMA(bank, index):
		return ByIMA
	case a.byFirmware(bank, index):
		return ByFirmware
	}
	return Unexplained
}

// instanceSentence says which machine the certificate of the AK names, and by whose word.
func (a *appraiser) instanceSentence() string {
	m, by := a.instance, "its certificate of Google Cloud"
	if m == nil {
		return ""
	}
	if a.p.GCP.Roots != "" {
		by = "a certificate that leads to a root of the policy, in place of Google's: a party that has its key can name any machine"
	}
	return fmt.Sprintf("The vTPM is that of the machine %q (%s) of the project %q in the zone %q, by %s. That it belongs to the machine of the report is said by the binding alone.", m.Name, m.ID, m.Project, m.Zone, by)
}

// sentences returns the appraisal in words, the conclusion first and then the limits.
func (a *appraiser) sentences(r *Appraisal, failed []Check, v check.Vouched) []string {
	var out []string
	say := func(is bool, format string, args ...any) {
		if is {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	if r.Verdict == Fail {
		for _, c := range failed {
			say(c.Verdict == Fail, "Refused, %s: %s.", c.ID, c.Sentence)
		}
		open := len(failed) - len(out)
		say(open > 0, "%s could not be made.", text.Count(open, "required check"))
		return out
	}
	rests := r.Binding.RestsOn()
	if a.material == MaterialReport {
		rests = "A bare report: it says what was launched, nothing about what ran since, and vouches for no vTPM."
	}
	accepted := "Accepted: every check that the policy asks for passed."
	if r.Basis == ByGuest {
		accepted = "Accepted, by the guest's word: every check that the policy asks for passed, and some of them rest on nothing else."
	}
	out = append(append(out, accepted, rests), r.Accepted.claims.Basis.restSentences(v, a.knownGuest())...)
	_, test := a.report.Root()
	say(test, "THE ROOT IS A TEST ROOT: this evidence vouches for no hardware at all.")
	if m := r.Accepted.claims.Machine.SNP; m != nil {
		say(m.CSPID != "", "The report is signed by a VLEK of the cloud %q, which could load that key into any of its machines: no chip is named.", m.CSPID)
	}
	say(a.instance != nil, "%s", a.instanceSentence())
	say(r.Freshness == AnchoredReport, "The report is older than the nonce: by %v by the clock of the vTPM, which an attacker who runs the vTPM can set, and by %v by the clock of the guest, which the host can slow or pause, unless the launch has Secure TSC. A change of firmware after it is not seen.", r.AnchorAge, r.GuestAnchorAge)
	age := a.ageOfRaw(r.Freshness)
	say(age != "", "%s", age)
	say(a.expect.UnsafeAcceptReplay, "No nonce was expected: this evidence may be old, or may have been made for another verifier.")
	switch {
	case a.launch == nil:
		say(true, "The launch measurement is not listed by the policy: nothing is known of the firmware.")
	case a.launch.Covers == CoversFirmware:
		say(true, "The launch measurement covers the firmware only: kernel, initrd and command line show in PCRs, if anywhere, and what is on the disks only if one of these contains its hash.")
	case a.launch.Covers == CoversSystem:
		say(true, "The launch measurement covers firmware, kernel, initrd and command line, and by their hashes everything that can become root: so the policy says, no report shows it.")
	default:
		say(true, "The launch measurement covers firmware, kernel, initrd and command line; what is on the disks only if one of these contains its hash.")
	}
	pcrs := r.Accepted.claims.PCRs
	silent, told := explainedBy(pcrs, Unexplained), explainedBy(pcrs, ByFirmware)
	say(silent != "", "Quoted, and explained by neither a log nor the policy: %s.", silent)
	say(told != "", "Explained by the firmware's log alone, which nothing vouches for: any software on the machine may have written it to fit. What booted is known only if the policy pins values: %s.", told)
	strong := a.ima != nil && a.ima.Mode == ima.Own && slices.ContainsFunc(a.ima.Banks, func(b pcr.Algorithm) bool { return a.ima.Explains(b, ima.PCR) })
	measured := r.Accepted.claims.IMA.sentence(a.p.AsksIMA(), strong)
	for _, s := range []string{r.Enrolments.sentence(r.AKOrigin), measured, a.p.Began(a.subject()), a.p.CarriedOver(a.log.State), a.log.Other} {
		say(s != "", "%s", s)
	}
	say(a.log.State == nil && a.material != MaterialReport, "The evidence contains no log: which applications ran is not known.")
	return out
}

// explainedBy lists the quoted PCRs with this explanation, by bank.
func explainedBy(pcrs []PCRClaim, e Explanation) string {
	banks := make(map[string][]string)
	for _, p := range pcrs {
		if p.Explained == e {
			banks[p.Bank] = append(banks[p.Bank], fmt.Sprint(p.Index))
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(banks)) {
		out = append(out, "PCR "+strings.Join(banks[name], ", ")+" ("+name+")")
	}
	return strings.Join(out, "; ")
}

// ageOfRaw says for people what is known of the age of a report in raw material; empty if
// it is as new as the nonce, and for evidence.
func (a *appraiser) ageOfRaw(f Freshness) string {
	switch {
	case f == UnknownReport && a.material == MaterialParavisor && !a.expect.UnsafeAcceptReplay:
		return "The quote contains the nonce and is new; the report is of unknown age and may be old: no user data in it contains the nonce. A change of firmware after it is not seen."
	case f == UnknownReport && a.material == MaterialReport && a.expect.ReportData != nil:
		return "The report contains the report data that was stated, and is of unknown age: whether they contain anything new was not checked, and a constant dates nothing. A change of firmware after it is not seen."
	case f == UnknownReport:
		return "The report is of unknown age and may be old: nothing in it says when it was made. A change of firmware after it is not seen."
	}
	return ""
}
