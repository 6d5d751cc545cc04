// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// nothing returns a subject of which nothing was established.
func nothing(m Material) *Subject {
	return &Subject{Material: m, Tie: Tie{Structure: BindingNone, Binding: BindingNone}, FirmwareLog: LogUnreadable, IMAState: LogUnreadable, LogState: LogUnreadable}
}

// TestNothingPassesOfNothing: a rule that is asked for never passes, and is never skipped,
// if what it judges was not established. The only exception is the presence of a log.
func TestNothingPassesOfNothing(t *testing.T) {
	digest, uid, no := strings.Repeat("01", 32), int64(7), false
	p := &Policy{Version: Version}
	p.Launches = []Launch{{Measurement: strings.Repeat("01", 48), Kind: KindPlain, Covers: CoversSystem}}
	p.DeniedMeasurements, p.GuestPolicy.AllowSMT = []string{strings.Repeat("02", 48)}, &no
	p.GuestPolicy.RequireSingleSocket, p.GuestPolicy.RequireAES256XTS, p.GuestPolicy.MinABI = true, true, "1.55"
	p.Platform = Platform{Require: []string{"ecc"}, UnknownBits: Refuse}
	floor := map[string]int{"bootloader": 1, "tee": 1, "snp": 1, "microcode": 1}
	p.TCB = map[string]TCB{"genoa": {Reported: floor, Committed: floor, Launch: floor}}
	p.Mitigations = Mitigations{Launch: 1, Current: 1}
	p.Image = Image{MinGuestSVN: 1, FamilyID: digest[:32], ImageID: digest[:32], HostData: []string{digest}, IDKeyDigests: []string{digest + digest[:32]}, AuthorKeyDigests: []string{digest + digest[:32]}}
	p.AKNames, p.AKOrigin = []string{"000b" + digest}, AKEnrolled
	p.GCP = GCP{Projects: []string{"p"}, Zones: []string{"z"}, Names: []string{"n"}}
	p.PCRs = []PCR{{Bank: "sha256", Index: 4, Values: []string{digest}}}
	p.FirmwareLog, p.UnlistedApps, p.Continuation = Required, Refuse, Required
	p.Agent, p.Apps = Agent{Versions: []string{"1"}}, []App{{Name: "b", Digests: []string{digest}, Declarations: []string{digest}}}
	p.IMAFiles = []IMAFiles{{Digests: []string{"sha256:" + digest}}}
	p.Quoted, p.LogPCR = []Quoted{{Bank: "sha256", PCRs: []int{0}}}, new(13)
	p.Caller = Caller{Method: "pidfd", Unit: "u", UID: &uid, App: "a", Covered: true}
	p.Basis = BasisDemands{History: check.ByTPM, Caller: check.ByLaunch, All: check.ByLaunch}
	c, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	order := check.NewOrder(Definitions())
	for _, m := range []Material{{Statement: true, Report: true, Quote: true}, {Report: true}, {Quote: true}, {}} {
		f := check.NewFindings(order, nil)
		c.Judge(nothing(m), f)
		for _, d := range Definitions() {
			if d.ID == "policy.log" {
				continue // it asks whether the evidence contains one; its content has other checks
			}
			if f.Passed(d.ID) {
				t.Errorf("%+v: %s passes", m, d.ID)
			}
			if !f.Asked(d.ID) && m.Statement && d.ID != "policy.anchor-age" {
				t.Errorf("%+v: %s is not asked for", m, d.ID)
			}
		}
	}
}
