// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/internal/statement"
)

// appraiser is one appraisal: what it was asked, and what the steps found. A pointer that
// is nil was not established; checks that need it stay open.
type appraiser struct {
	*Verifier
	*check.Findings
	p        *rule.Compiled
	material Material
	expect   Expect
	now      time.Time

	statement    *evidence.Statement
	ak           *tpmwire.Key
	batch        *quote.Quote
	anchor       *quote.Quote
	anchored     bool          // the evidence contains an anchor
	guestAge     time.Duration // of the anchor, by the guest's clock
	kind         evidence.ReportKind
	platform     report.Platform      // of the report; nil if its kind is not known
	certificates [][]byte             // that came with the report, and those of the verifier
	relied       time.Time            // when the first certificate about the AK ends; zero if there is none
	instance     *keys.GoogleInstance // that the AK's certificate names; nil if the policy does not ask, or refuses it
	report       report.Report
	launch       *rule.Launch // of the policy, for the launch measurement
	structure    Binding      // as the structure of the evidence shows
	binding      Binding      // structure, if the policy lists firmware of that kind for the launch
	logged       bool         // the evidence contains a measurement log
	log          replay.Result
	firmware     pcr.Values     // that the firmware's log leads to; nil if there is none that could be read
	listed       bool           // there is a list of IMA
	ima          *replay.IMA    // what the list of IMA leads to; nil unless that is the quoted PCR
	measured     *rule.Measured // what its entries came to
}

// begin checks what is expected and readies an appraiser.
func (v *Verifier) begin(m Material, expect Expect, now time.Time) (*appraiser, error) {
	if err := expect.check(m, now); err != nil {
		return nil, err
	}
	if expect.Enrolments == nil {
		expect.Enrolments = v.enrolled
	}
	return &appraiser{
		Verifier: v, p: v.policy, material: m, expect: expect, now: now,
		Findings: check.NewFindings(order, v.ignored), binding: BindingNone, structure: BindingNone,
	}, nil
}

// Appraise checks a document and returns every check with its verdict. It is for tools
// that show them: a nil error says nothing about the evidence, see [Appraisal.Claims].
// The error is [ErrMisuse]; everything about the evidence, however broken, is in the
// appraisal.
func (v *Verifier) Appraise(document []byte, expect Expect, now time.Time) (*Appraisal, error) {
	a, err := v.begin(MaterialEvidence, expect, now)
	if err != nil {
		return nil, err
	}
	if e := statement.Parse(a.Findings, document); e != nil {
		a.evidence(e)
	}
	return a.result(), nil
}

// evidence runs every step on a document.
func (a *appraiser) evidence(e *evidence.Evidence) {
	f := a.Findings
	a.statement = statement.Check(f, e, statement.Expected{
		Nonce: a.expect.Nonce, Replay: a.expect.UnsafeAcceptReplay, Audience: a.expect.Audience, PublicKey: a.expect.PublicKey, UserData: a.expect.UserData,
	})
	statement.CheckBatch(f, e)
	a.ak = quote.CheckKey(f, e.AK)
	f.SkipAll(rawDefinitions, "evidence is bound by commitments of its own")
	a.skipRooms(e.Report.Kind)
	want := evidence.QuoteData(e.Batch.Tree, e.AnchorDigest())
	a.batch = quote.Batch.Check(f, a.ak, &e.Batch, want[:])
	if a.anchored = e.Anchor != nil; a.anchored {
		want := evidence.QuoteData(e.Anchor.Tree, nil)
		a.anchor = quote.Anchor.Check(f, a.ak, e.Anchor, want[:])
		quote.CheckBetween(f, a.anchor, a.batch)
		quote.CheckTimes(f, e.Anchor.Time, e.Batch.Time)
		a.guestAge = quote.Milliseconds(e.Batch.Time - min(e.Anchor.Time, e.Batch.Time))
	} else {
		f.SkipAll(anchorDefinitions, "the report was made for this batch")
	}
	certificates := make([][]byte, len(e.Certificates))
	for i, c := range e.Certificates {
		certificates[i] = c
	}
	certificates = append(certificates, a.expect.Certificates...)
	if a.judge(e.Report.Kind, e.Report.Bytes, certificates); a.report != nil {
		by := a.report.Vouch(f, a.known())
		if report.CheckCommitment(f, a.report, e.ReportData()) && f.Met(report.VouchedKey) && f.Met(a.platform.Definitions()...) {
			a.structure = a.tie(by)
		}
	}
	a.replay(e)
	a.firmware = replay.Firmware(f, e.FirmwareLog, a.p.FirmwareLog == rule.Required)
	a.replayIMA(e.IMA)
	a.judgePolicy()
}

// known returns what is known of the AK apart from the report.
func (a *appraiser) known() report.Known {
	k := report.Known{AK: a.ak}
	if a.ak != nil {
		k.EK = a.p.EnrolledWith(a.ak.Name, a.expect.Enrolments)
	}
	return k
}

// tie returns what a structure that vouches for the AK amounts to. Software that is not the
// most privileged in the guest could make the structure itself.
func (a *appraiser) tie(by report.Voucher) Binding {
	vouched := map[report.Voucher]Binding{report.ByParavisor: BindingParavisor, report.BySVSM: BindingSVSM}
	if b, ok := vouched[by]; ok && a.report.Privileged() {
		return b
	}
	return BindingGuestAsserted
}

// skipRooms skips what only reports of other kinds undergo.
func (a *appraiser) skipRooms(kind evidence.ReportKind) {
	for k, p := range a.platforms {
		if k != kind {
			a.SkipAll(p.Definitions(), "the report is of another kind")
		}
	}
}

// judge passes the report to the room of its platform, which checks it.
func (a *appraiser) judge(kind evidence.ReportKind, body []byte, certificates [][]byte) {
	a.kind, a.platform = kind, a.platforms.Of(a.Findings, kind)
	a.certificates = slices.Concat(certificates, a.given)
	if a.platform == nil {
		return
	}
	need := a.p.NeedsRevocation()
	a.report = a.platform.Judge(a.Findings, report.Material{Body: body, Certificates: certificates, Now: a.now, RevocationOff: need == rule.Off, RevocationOptional: need == rule.Optional})
}

// judgePolicy finds what the structure of the evidence amounts to, and asks the policy. Our
// own commitment in REPORT_DATA never gives more than guest-asserted, since any guest can
// put any 64 bytes there. That goes for the structure of a paravisor or an SVSM too: it counts
// as such only for a launch measurement that the policy lists as of that very kind.
func (a *appraiser) judgePolicy() {
	if a.report != nil {
		a.launch, a.binding = a.p.Launch(a.report.Measurement()), a.structure
		if a.structure.Rank() > BindingGuestAsserted.Rank() && (a.launch == nil || a.launch.Kind.Binding() != a.structure) {
			a.binding = BindingGuestAsserted
		}
	}
	a.p.Judge(a.subject(), a.Findings)
}

// replay replays the measurement log.
func (a *appraiser) replay(e *evidence.Evidence) {
	in := replay.Input{
		Log: e.Log, Head: e.Batch.LogHead, Time: e.Batch.Time, AgentKey: e.AgentKey, Batch: a.batch, Anchor: a.anchor, Known: a.expect.LogState,
	}
	if a.ak != nil {
		in.AK = a.ak.Name
	}
	if a.statement != nil {
		in.Caller = &a.statement.Caller
	}
	if a.report != nil {
		in.ReportID = a.report.ReportID()
	}
	if e.Anchor != nil {
		in.AnchorHead, in.AnchorTime = &e.Anchor.LogHead, e.Anchor.Time
	}
	a.logged, a.log = e.Log != nil, replay.Check(a.Findings, in)
}

// replayIMA replays the list of IMA, that of evidence or one from elsewhere, and has the policy look at
// each entry. What is known of the list is kept with what is known of the log.
func (a *appraiser) replayIMA(list *evidence.IMA) {
	in := replay.IMAInput{List: list, Given: a.expect.IMAList, Quote: a.batch}
	if a.expect.LogState != nil {
		in.Known = a.expect.LogState.IMA
	}
	a.listed = in.List != nil || in.Given != nil
	a.measured = a.p.NewMeasured(a.batch, a.firmware)
	a.ima = replay.CheckIMA(a.Findings, in, a.measured)
	kept := a.log.State
	switch {
	case kept == nil:
	case a.ima != nil && a.ima.Entries > 0:
		kept.IMA = a.ima.State()
		a.measured.Note(kept.IMA)
	case a.log.Continued == replay.Continues:
		kept.IMA = in.Known
	}
}

// AppraiseReport appraises a bare report. [Expect.ReportData], or [Expect.Nonce], is
// compared with its REPORT_DATA, followed by zeros if shorter. Only a nonce dates the
// report: report data may be a constant, and the policy must say freshness = "any" then.
// There is no vTPM in it: only a policy with binding = "none" and log = "optional" accepts it.
func (v *Verifier) AppraiseReport(r RawReport, expect Expect, now time.Time) (*Appraisal, error) {
	a, err := v.begin(MaterialReport, expect, now)
	if err != nil {
		return nil, err
	}
	a.bareReport(r)
	return a.result(), nil
}

// bareReport runs every step on a bare report.
func (a *appraiser) bareReport(r RawReport) {
	const why = "a bare report contains nothing of the kind"
	a.skipRaw(why, statement.Definitions, quote.KeyDefinitions, quote.Definitions, paravisor.RawDefinitions, replay.FirmwareDefinitions, replay.IMADefinitions)
	a.skipRooms(r.Kind)
	body, certificates := r.Report, r.Certificates
	if platform := a.platforms[r.Kind]; platform != nil {
		var stapled [][]byte
		body, stapled = platform.Split(a.Findings, r.Report)
		certificates = slices.Concat(certificates, stapled)
	}
	a.judge(r.Kind, body, certificates)
	want := a.expect.ReportData
	if want == nil {
		want = a.expect.Nonce
	}
	report.CheckExpected(a.Findings, a.report, want)
	a.judgePolicy()
}

// AppraiseParavisor appraises what an Azure paravisor vouches for. [Expect.Nonce] is
// compared with the quote, [Expect.UserData] with the user data in the runtime data.
// Only if the latter contains the nonce, of 16 bytes or more, is the report as new as
// the quote. Otherwise nothing says when it was made, and the policy must say
// freshness = "any". A set without quote, signature and PCRs is appraised as far as it goes, and
// never accepted.
func (v *Verifier) AppraiseParavisor(s AzureSet, expect Expect, now time.Time) (*Appraisal, error) {
	a, err := v.begin(MaterialParavisor, expect, now)
	if err != nil {
		return nil, err
	}
	a.paravisor(s)
	return a.result(), nil
}

// paravisor runs every step on a paravisor's set.
func (a *appraiser) paravisor(s AzureSet) {
	f := a.Findings
	a.skipRaw("a paravisor's set contains nothing of the kind", statement.Definitions, bareDefinitions)
	a.skipRooms(evidence.ReportParavisor)
	f.SkipAll(quote.KeyDefinitions, paravisor.NoKeyChecks())
	blob := paravisor.Parse(f, s.HCL)
	if blob == nil {
		return
	}
	a.ak = blob.CheckKey(f)
	blob.CheckUserData(f, a.expect.UserData)
	if len(s.Quote)+len(s.Signature)+len(s.PCRs) == 0 {
		for _, d := range quote.Definitions {
			f.Block(d.ID, "no quote was given: nothing says that the TPM still has this key, nor what its PCRs are")
		}
	} else {
		a.batch = quote.CheckRaw(f, a.ak, evidence.Quote{Attest: s.Quote, Signature: s.Signature}, paravisor.Quoted(s.PCRs, s.Quote), a.expect.Nonce)
	}
	a.firmware = replay.Firmware(f, s.FirmwareLog, a.p.FirmwareLog == rule.Required)
	a.replayIMA(nil)
	a.judge(blob.Kind(), blob.Report, s.Certificates)
	if a.report != nil && blob.CheckRuntimeData(f, a.report) {
		a.structure = a.tie(report.ByParavisor)
	}
	a.judgePolicy()
}

// AppraiseQuote appraises a quote alone. It is never accepted, since nothing is known
// of the machine; its checks tell whether the quote itself is sound.
func (v *Verifier) AppraiseQuote(s QuoteSet, expect Expect, now time.Time) (*Appraisal, error) {
	a, err := v.begin(MaterialQuote, expect, now)
	if err != nil {
		return nil, err
	}
	f := a.Findings
	a.skipRaw("a bare quote contains nothing of the kind", statement.Definitions, bareDefinitions, paravisor.RawDefinitions, replay.FirmwareDefinitions)
	a.skipRooms("")
	for _, d := range reportDefinitions {
		f.Block(d.ID, "there is no report: nothing is known of the machine that the TPM belongs to")
	}
	a.certificates = slices.Clone(a.given) // of the attestation key, for example
	a.ak = quote.CheckBareKey(f, s.Key)
	a.batch = quote.CheckRaw(f, a.ak, evidence.Quote{Attest: s.Quote, Signature: s.Signature}, s.PCRs, expect.Nonce)
	a.replayIMA(nil)
	a.judgePolicy()
	return a.result(), nil
}

// skipRaw skips what raw material never contains, and lists of checks that this kind of
// it does not undergo.
func (a *appraiser) skipRaw(why string, lists ...[]check.Definition) {
	for _, list := range append(lists, report.BindingDefinitions, sevsnp.SVSMBindingDefinitions, replay.Definitions, anchorDefinitions) {
		a.SkipAll(list, why)
	}
}

// Definitions lists every check in the order of an appraisal. docs/checks.md has the same
// list.
func Definitions() []Definition { return slices.Clone(definitions) }

// order indexes definitions.
var order = check.NewOrder(definitions)

// reportDefinitions are the checks of a report by itself.
var reportDefinitions = slices.Concat(report.KindDefinitions, sevsnp.Definitions)

// bareDefinitions are the checks of a bare report.
var bareDefinitions = slices.Concat(sevsnp.TableDefinitions, report.BareDefinitions)

// rawDefinitions are the checks that only raw material undergoes.
var rawDefinitions = slices.Concat(bareDefinitions, paravisor.RawDefinitions)

// anchorDefinitions are the checks of anchored evidence.
var anchorDefinitions = slices.Concat(quote.AnchorDefinitions, replay.AnchorDefinitions)

// definitions are those of all rooms, in the order in which checks are listed.
var definitions = slices.Concat(
	statement.Definitions, quote.KeyDefinitions, quote.Definitions, quote.AnchorDefinitions,
	reportDefinitions, bareDefinitions, paravisor.Definitions, sevsnp.SVSMDefinitions,
	report.BindingDefinitions, paravisor.BindingDefinitions, sevsnp.SVSMBindingDefinitions,
	replay.Definitions, replay.AnchorDefinitions, replay.FirmwareDefinitions, replay.IMADefinitions,
	rule.Definitions(),
)
