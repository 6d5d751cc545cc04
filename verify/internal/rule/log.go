// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// LogRules are rules about the measurement log and the firmware's event log.
type LogRules struct {
	quiet
	Log                Choice `toml:"log,omitempty" value:"one required optional" default:"\"required\"" doc:"|optional| accepts evidence without a measurement log: which applications ran is then not known"`
	FirmwareLog        Choice `toml:"firmware_log,omitempty" value:"one required optional" default:"\"optional\"" doc:"|required|: the evidence must carry the firmware's event log. Those of PCRs 0 to 7 that were quoted must have the values that it leads to, or be pinned by a |[[pcr]]|. The log says which digests were extended, not what they are of: to demand a certain firmware or boot loader, pin the PCR. A system that extends these PCRs after boot without adding to the log is refused"`
	Continuation       Choice `toml:"continuation,omitempty" value:"one optional required" default:"\"optional\"" doc:"|required|: the verifier must know an earlier state of the log, and the log must continue it. The log of another boot or machine is refused until the caller says that a new history begins (|--replace-known-log|, |Expect.NewHistory|). |optional|: a log of the same boot must continue a known state all the same"`
	LogPCR             *int   `toml:"log_pcr,omitempty" value:"range 0 15" default:"13" doc:"PCR that the log must be in. Root of the guest can delete a log, and begin a clean one in another PCR that is still zero: so the policy names one, and that of the agent's default configuration if it says nothing"`
	TolerateGaps       bool   `toml:"tolerate_gaps,omitempty" default:"false" doc:"accept gaps: a lost file event, a stop or crash of the agent, a log that is full. It speaks only of applications that no |[[app]]| lists and that |caller.app| does not name; for the others see |app.covered|"`
	TolerateUnmeasured bool   `toml:"tolerate_unmeasured,omitempty" default:"false" doc:"accept declared applications which could not be measured, if no |[[app]]| lists them and |caller.app| does not name them"`
}

var logChecks = []check.Definition{
	{ID: "policy.log", Class: check.Policy, Ground: check.OnVerifier, Checks: "the evidence contains a log if the policy needs one", Stops: "applications hidden by leaving the log out"},
	{ID: "policy.log-pcr", Class: check.Policy, Ground: check.OnHistory, Checks: "the log is in the PCR that the policy names", Stops: "a log begun again in another PCR during the same boot"},
	{ID: "policy.continuation", Class: check.Policy, Ground: check.OnHistory, Checks: "the log continues a state that the verifier knows from before, if the policy asks for it", Stops: "another boot or machine, whose log says nothing of what the known one recorded"},
	{ID: "policy.firmware-log", Class: check.Policy, Ground: check.OnQuote, Checks: "the firmware's log is there and leads to the quoted values of PCRs 0 to 7, except those that the policy pins, if the policy asks for it", Stops: "a boot that no log explains"},
	{ID: "policy.log-gaps", Class: check.Policy, Ground: check.OnHistory, Checks: "by the log, nothing interrupted the coverage of an application that no rule is about, no gap and no stop of the agent, unless it was carried over or the policy tolerates gaps", Stops: "a change that the agent could not see"},
	{ID: "policy.log-unmeasured", Class: check.Policy, Ground: check.OnHistory, Checks: "the log records no application that could not be measured and that no rule is about, or the policy tolerates it", Stops: "an application that runs unmeasured"},
}

func (r *LogRules) conflicts(p *Policy, f *faults) {
	p.needs(f, "log_pcr", r.LogPCR != nil)
	p.needs(f, "continuation", r.Continuation == Required)
}

// needs refuses a rule that depends on the log if the log is optional.
func (r *LogRules) needs(f *faults, key string, asked bool) {
	f.failIf(asked && !r.required(), "log", `%s depends on the log: log must be "required"`, key)
}

// defaultLogPCR is the PCR of the agent's default configuration.
const defaultLogPCR = 13

func (r *LogRules) logPCR() uint32 {
	if r.LogPCR == nil {
		return defaultLogPCR
	}
	return uint32(*r.LogPCR)
}

func (r *LogRules) required() bool { return cmp.Or(r.Log, Required) == Required }

func (r *LogRules) explain(_ *Policy, w *Words) {
	asked := r.FirmwareLog == Required
	w.on(check.OnQuote, "the firmware's log (firmware_log)")
	w.demandIf(asked, "The firmware's log leads to the quoted PCRs 0 to 7, except those that are pinned.")
	w.openIf(!asked, "Whether the firmware's log leads to the quoted PCRs (firmware_log = \"required\" asks).")
	w.on(check.OnHistory, "the log")
	w.demandIf(r.required(), "The evidence contains the measurement log, and replaying it gives the quoted PCR.")
	w.dangerIf(!r.required(), "log is \"optional\": evidence without a log is accepted, and which applications ran is then not known.")
	w.demandIf(!r.required(), "If the evidence contains a measurement log, replaying it gives the quoted PCR.")
	w.demandIf(r.required(), "The log is in PCR %d.", r.logPCR())
	w.demandIf(!r.required(), "If the evidence contains a measurement log, that is in PCR %d.", r.logPCR())
	continues := r.Continuation == Required
	w.demandIf(continues, "The log continues a state that the verifier knows from before, or the caller says that a new history begins.")
	w.openIf(!continues, "What happened in earlier boots, or before the log of another machine: a new boot begins a new log (continuation = \"required\" asks).")
	w.tolerates(r.TolerateGaps, "tolerate_gaps: of applications that no rule is about, the agent may have missed changes.", "The agent missed no change of an application that no rule is about: no gap, and no stop of the agent that it could not carry coverage over.")
	w.tolerates(r.TolerateUnmeasured, "tolerate_unmeasured: declared applications that no rule is about may have run unmeasured.", "The log records no failure to measure a declared application that no rule is about.")
}

func (r *LogRules) survey() {
	*r = LogRules{Log: Optional, TolerateGaps: true, TolerateUnmeasured: true}
}

func (*LogRules) draft(g *Golden, d *Draft) {
	if g.bare() {
		d.root.offer("For bare reports, which vouch for no vTPM, no log and no application.", "binding = \"none\"\nlog = \"optional\"")
		return
	}
	log, state := g.Log, g.LogState
	d.root.dangerIf(state != LogRead, "log = \"optional\"", "the evidence contains no log that could be read, so nothing is known of the applications.")
	if state != LogRead {
		return
	}
	listed := make(map[string]bool, len(log.Apps)) // those that the draft lists
	for _, a := range log.Apps {
		listed[a.Name] = true
	}
	lists := func(name string) bool { return listed[name] }
	d.root.dangerIf(len(gaps(log, lists, true)) > 0, "tolerate_gaps = true", "the log records gaps: changes may have happened unseen.")
	d.root.dangerIf(len(unmeasured(log, lists)) > 0, "tolerate_unmeasured = true", "the log records declared applications that could not be measured.")
	if log.PCR != defaultLogPCR {
		d.root.offer("The PCR of the log. Find out why it is not the default.", "log_pcr = %d", log.PCR)
	}
	d.root.offer("To accept only logs that continue one which the verifier knows; a new boot is then refused until the caller decides.", "# continuation = \"required\"")
	if g.FirmwareLog == LogRead {
		d.root.offer("The evidence contains the firmware's event log. With this, it must lead to the quoted PCRs 0 to 7.", "# firmware_log = \"required\"")
	}
}

func (r *LogRules) judge(p *Policy, s *Subject, f *check.Findings) {
	log, state := s.Log, s.LogState
	if !f.SkipIf(!r.required(), "policy.log", "the policy does not need a log") {
		f.Decide("policy.log", state != LogAbsent, "a measurement log", "none", "the policy needs the measurement log, and the evidence contains none")
	}
	if !noLog(f, state, "policy.log-pcr") && !f.SkipIf(p.surveys, "policy.log-pcr", "the policy accepts a log in any PCR") {
		want := r.logPCR()
		f.Decide("policy.log-pcr", log.PCR == want, fmt.Sprintf("PCR %d", want), fmt.Sprintf("PCR %d", log.PCR), "the log is in PCR %d, and the policy wants it in PCR %d (log_pcr): in another PCR a log can be begun anew", log.PCR, want)
	}
	r.judgeContinuation(s, f)
	r.judgeFirmware(p, s, f)
	if noLog(f, state, "policy.log-gaps", "policy.log-unmeasured") {
		return
	}
	rules := p.rules()
	lists := func(name string) bool { return p.lists(rules, name) }
	tolerate(f, "policy.log-gaps", gaps(log, lists, p.carries()), r.TolerateGaps, "changes may have happened unseen")
	tolerate(f, "policy.log-unmeasured", unmeasured(log, lists), r.TolerateUnmeasured, "a declared application could not be measured")
}

// judgeContinuation wants a log that continues a known one, or the caller's decision that a
// new history begins. A log that contradicts the known one has failed another check.
func (r *LogRules) judgeContinuation(s *Subject, f *check.Findings) {
	const id = "policy.continuation"
	if f.SkipIf(r.Continuation != Required, id, "the policy does not ask for a history that the verifier knows") || s.LogState == LogUnreadable {
		return
	}
	found := map[replay.Continued]string{replay.NothingKnown: "nothing known", replay.OtherBoot: "a log of another boot or machine", replay.Contradicts: "another log"}[s.Continued]
	if s.LogState == LogAbsent {
		f.Decide(id, false, "a log that continues the known one", "no log", "the policy wants a log that continues a known one, and the evidence contains none")
		return
	}
	if f.SkipIf(s.NewHistory && s.Continued != replay.Continues, id, "the caller said that a new history begins with this evidence; found was: %s", found) {
		return
	}
	f.Decide(id, s.Continued == replay.Continues, "a log that continues the known one", found,
		"the policy wants a log that continues one which the verifier knows: give the known state, or say that a new history begins")
}

// noLog reports whether there is no log to judge, and skips the checks of one that is absent.
func noLog(f *check.Findings, state LogState, ids ...check.ID) bool {
	if state == LogAbsent {
		skip(f, "the evidence contains no log", ids...)
	}
	return state != LogRead
}

func tolerate(f *check.Findings, id check.ID, found []string, tolerated bool, what string) {
	switch {
	case tolerated && len(found) > 0:
		f.Skip(id, "the policy tolerates it: %s: %s", what, firstOf(found))
	case tolerated:
		f.Skip(id, "the policy would tolerate it; there was none")
	default:
		f.Decide(id, len(found) == 0, "none", firstOf(found), "%s", what)
	}
}

// firstOf spells out the first findings of a check.
func firstOf(found []string) string {
	const most = 5
	text := strings.Join(found[:min(len(found), most)], "; ")
	if n := len(found) - most; n > 0 {
		text += fmt.Sprintf("; and %d more", n)
	}
	return text
}

// firmwarePCRs are those that the firmware and its boot manager own: 0 to 7 (TCG PC Client
// Platform Firmware Profile, section 3.3.4). What boots next may extend the others
// without adding to the log.
const firmwarePCRs = 8

// judgeFirmware wants every quoted PCR of the firmware explained.
func (r *LogRules) judgeFirmware(p *Policy, s *Subject, f *check.Findings) {
	q, state := s.Quote, s.FirmwareLog
	switch {
	case r.FirmwareLog != Required:
		f.Skip("policy.firmware-log", "the policy does not ask for the firmware's log")
		return
	case !s.Material.Quote:
		f.Decide("policy.firmware-log", false, "a quote and the firmware's log", "none", "the policy needs the firmware's log, and a bare report comes with no quote")
		return
	case q == nil:
		return
	case state == LogUnreadable:
		f.Skip("policy.firmware-log", "the firmware's log cannot be read: see firmware.decode")
		return
	}
	explained := 0
	var silent []string
	for _, b := range q.Selection {
		for _, index := range b.PCRs {
			if b.Algorithm == pcr.SHA1 || index >= firmwarePCRs {
				continue
			}
			switch byLog, byFirmware := s.Explained(b.Algorithm, index); {
			case byLog: // our own log explains what the agent did, and nothing of the boot
			case byFirmware || p.Pins(b.Algorithm, index):
				explained++
			default:
				silent = append(silent, fmt.Sprintf("PCR %d (%s)", index, b.Algorithm))
			}
		}
	}
	f.Decide("policy.firmware-log", state == LogRead && explained > 0 && len(silent) == 0, "the quoted ones of PCRs 0 to 7 explained by the firmware's log or pinned",
		fmt.Sprintf("%d explained, not %s", explained, cmp.Or(strings.Join(silent, ", "), "none")), "the firmware's log is missing, or does not lead to the quoted values")
}
