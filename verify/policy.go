// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/statement"
)

// PolicyVersion is [Policy].Version of every policy that this version reads.
const PolicyVersion = rule.Version

// MaxPolicy is the largest policy text that is read, in bytes.
const MaxPolicy = rule.MaxText

// A policy.
type (
	// Policy says which evidence is acceptable. It comes from [ParsePolicy], or is built
	// in Go, and can be changed.
	//
	// Go shows neither fields nor methods of a type from an internal package. The fields of
	// Policy and of its parts are the keys of docs/policy.md: p.Products is "products",
	// p.GuestPolicy.AllowDebug is "guest_policy.allow_debug". The zero value of a field
	// means that the key is absent. Byte strings are lower-case hexadecimal. Methods:
	//
	//	Check() error            // checks all values; the error contains a *PolicyError for each fault
	//	Encode() ([]byte, error) // checks and returns the text, which ParsePolicy reads
	//	Explain() *PolicyWords   // says in words what is required and what is not checked
	//	Digest() evidence.Digest // SHA-256 of the text
	Policy = rule.Policy
	// PolicyError is a fault of a policy. Fields: Line and Column (both 0 if the policy
	// was built in Go, or the fault is that of the whole), Key, Message.
	PolicyError = rule.Error
	// PolicyWords is a policy in sentences, from Policy.Explain. Fields, each a []string:
	// Demands, Unchecked, Dangers.
	PolicyWords = rule.Words
)

// Parts of a policy. Their fields are the keys of docs/policy.md, as in [Policy].
type (
	// Launch is one [[launch]].
	Launch = rule.Launch
	// GuestPolicy is [guest_policy].
	GuestPolicy = rule.GuestPolicy
	// Platform is [platform].
	Platform = rule.Platform
	// TCB is one [tcb.PRODUCT].
	TCB = rule.TCB
	// Mitigations is [mitigations].
	Mitigations = rule.Mitigations
	// Image is [image].
	Image = rule.Image
	// Container is one [[container]].
	Container = rule.Container
	// GCP is [gcp].
	GCP = rule.GCP
	// Enrolment is one [[enrolment]].
	Enrolment = rule.Enrolment
	// Quoted is one [[quoted]].
	Quoted = rule.Quoted
	// PCR is one [[pcr]].
	PCR = rule.PCR
	// StartValue is one [[start_value]].
	StartValue = rule.StartValue
	// IMA is [ima].
	IMA = rule.IMA
	// IMAFiles is one [[ima_files]].
	IMAFiles = rule.IMAFiles
	// Agent is [agent].
	Agent = rule.Agent
	// App is one [[app]].
	App = rule.App
	// Event is one [[event]].
	Event = rule.Event
	// Caller is [caller].
	Caller = rule.Caller
	// BasisDemands is [basis].
	BasisDemands = rule.BasisDemands
)

// Words in a policy or an appraisal.
type (
	// Choice is a string that says what happens in one case, such as Required.
	Choice = rule.Choice
	// Kind is a string that says what the firmware of a launch measurement does for the vTPM.
	Kind = rule.Kind
	// Cover is a string that says what a launch measurement was computed over.
	Cover = rule.Cover
	// Binding is a string that says what ties the vTPM to the report.
	Binding = rule.Binding
	// AKOrigin is a string that says how the verifier knows the attestation key apart from
	// the report.
	AKOrigin = rule.AKOrigin
	// Outside is a string that says whether enrolments apart from the policy count.
	Outside = rule.Outside
	// Freshness is a string that says what the report was made for.
	Freshness = rule.Freshness
	// Coverage is a string that says since when the agent must have watched an application.
	Coverage = rule.Coverage
	// Demand is a string that says what an [[event]] asks for.
	Demand = rule.Demand
	// Duration is a time.Duration that is text in a policy, such as "10m".
	Duration = rule.Duration
)

// Values of the keys of a policy.
const (
	Required = rule.Required
	Optional = rule.Optional
	Off      = rule.Off
	Refuse   = rule.Refuse
	Allow    = rule.Allow

	Unbroken   = rule.Unbroken   // from its first measurement until now
	SinceStart = rule.SinceStart // from before the caller's process started until now
	CoveredNow = rule.CoveredNow // now; what ran before the last interruption is not known

	EventPresent = rule.EventPresent // the log has such an event of the application
	EventAbsent  = rule.EventAbsent  // it has none
	EventLast    = rule.EventLast    // the last one of the application in this domain is such a one

	KindPlain     = rule.KindPlain     // firmware that runs no vTPM for the guest
	KindParavisor = rule.KindParavisor // a paravisor that keeps a vTPM out of the guest's reach
	KindSVSM      = rule.KindSVSM      // an SVSM that does so

	CoversFirmware = rule.CoversFirmware // the firmware alone; what it boots shows in PCRs only
	CoversKernel   = rule.CoversKernel   // direct kernel boot: also kernel, initrd and command line
	CoversSystem   = rule.CoversSystem   // likewise, and by hashes everything that can become root

	BindingNone          = rule.BindingNone          // nothing ties the vTPM to the report
	BindingGuestAsserted = rule.BindingGuestAsserted // the guest's own software put AK and agent key into its report
	BindingParavisor     = rule.BindingParavisor     // a measured paravisor at VMPL 0 vouches for the AK
	BindingSVSM          = rule.BindingSVSM          // a measured SVSM at VMPL 0 vouches for the vTPM

	AKNone      = rule.AKNone      // only the report speaks for it
	AKEnrolled  = rule.AKEnrolled  // the policy contains its name, with or without a record, or an approved enrolment apart from it that counts
	AKCertified = rule.AKCertified // likewise, and the certificate of the TPM in that record leads to a root that the policy names; or the AK's own certificate does

	OutsideNone     = rule.OutsideNone     // such a list is not looked at
	OutsideApproved = rule.OutsideApproved // those count that a party approved

	FreshReport    = rule.FreshReport    // for the batch that contains the statement; raw material: for the nonce
	AnchoredReport = rule.AnchoredReport // for an earlier batch, which the quote commits to
	UnknownReport  = rule.UnknownReport  // raw material: nothing in the report contains the verifier's nonce
	AnyReport      = rule.AnyReport      // in a policy only: a report of any age is accepted
)

// EnrolmentOf returns the [[enrolment]] of a record, for [Policy].
func EnrolmentOf(record *keys.Enrolment) Enrolment { return rule.EnrolmentOf(record) }

// ParsePolicy parses a policy in TOML and checks it. Unknown keys, wrong types, values out
// of range and rules that contradict each other are errors of type *[PolicyError], joined
// if there are several; so is a policy that says nothing. docs/policy.md describes the
// text, its defaults and what each key protects against.
func ParsePolicy(text []byte) (*Policy, error) { return rule.Parse(text) }

// DraftPolicy writes a commented policy from the evidence of a golden machine, whose state
// was inspected. What is dangerous in that state is marked DANGER and commented out: until
// its author decides, the policy may refuse that machine.
//
// The error is a [*RefusedError] if document does not verify: no signature, binding or log
// of it may be broken. The appraisal is under a policy that accepts everything genuine,
// and says nothing about what is acceptable.
func DraftPolicy(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := surveyEvidence(document, c, expect, now)
	if err != nil {
		return nil, nil, err
	}
	if a.Verdict != Pass {
		return nil, a, &RefusedError{Appraisal: a}
	}
	return rule.NewDraft(s), a, nil
}

// DraftPolicyFromUnverifiedEvidence does what [DraftPolicy] does for a document that does
// not verify: its maker chose what the policy accepts. Only a document without a report that
// can be read is refused.
func DraftPolicyFromUnverifiedEvidence(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := surveyEvidence(document, c, expect, now)
	if err != nil {
		return nil, nil, err
	}
	if s.SNP == nil {
		return nil, a, &RefusedError{Appraisal: a}
	}
	return rule.NewDraft(s), a, nil
}

// DraftPolicyFromReport does what [DraftPolicy] does for a bare report, which vouches for no
// vTPM and no log. The draft accepts bare reports alone.
func DraftPolicyFromReport(r RawReport, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	p := rule.Survey()
	p.Binding = BindingNone
	s, a, err := survey(p, c, MaterialReport, expect, now, func(a *appraiser) { a.bareReport(r) })
	if err != nil {
		return nil, nil, err
	}
	if a.Verdict != Pass {
		return nil, a, &RefusedError{Appraisal: a}
	}
	return rule.NewDraft(s), a, nil
}

// surveyEvidence appraises a document under a policy that accepts everything genuine.
func surveyEvidence(document []byte, c Config, expect Expect, now time.Time) (*rule.Golden, *Appraisal, error) {
	p := rule.Survey()
	p.StartValues = statedStart(document)
	return survey(p, c, MaterialEvidence, expect, now, func(a *appraiser) {
		if e := statement.Parse(a.Findings, document); e != nil {
			a.evidence(e)
		}
	})
}

// survey appraises material under p.
func survey(p *rule.Policy, c Config, m Material, expect Expect, now time.Time, run func(*appraiser)) (*rule.Golden, *Appraisal, error) {
	v, err := New(p, c)
	if err != nil {
		return nil, nil, err
	}
	a, err := v.begin(m, expect, now)
	if err != nil {
		return nil, nil, err
	}
	run(a)
	r := a.result()
	g := &rule.Golden{Subject: a.subject(), Unverified: r.Verdict != Pass}
	for _, c := range r.Failed() {
		if c.Verdict == Fail {
			g.Failed = append(g.Failed, c)
		}
	}
	return g, r, nil
}

// statedStart returns the values that the log says its PCRs began with, if not zero.
func statedStart(document []byte) (out []StartValue) {
	e, err := evidence.Parse(document)
	if err != nil || e.Log == nil || e.Log.Start != 0 {
		return nil
	}
	records, err := pcr.DecodeLog(e.Log.Records, 0)
	if err != nil {
		return nil
	}
	replay, _, err := pcr.NewWholeReplayer(records)
	if err != nil {
		return nil
	}
	for _, r := range replay.Registers() {
		for _, d := range r.Values {
			v := StartValue{Bank: d.Algorithm.String(), Value: hex.EncodeToString(d.Value)}
			if d.Algorithm != pcr.SHA1 && !check.Zero(d.Value) && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}
