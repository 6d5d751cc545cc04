// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// draftOf drafts with what baseOptions expects.
func draftOf(t *testing.T, draft func([]byte, Config, Expect, time.Time) ([]byte, *Appraisal, error), document []byte) ([]byte, *Appraisal, error) {
	t.Helper()
	o := baseOptions(t)
	return draft(document, Config{Roots: Roots{SNP: o.Roots}}, o.expect(), o.Time)
}

// TestDraftAcceptsItsMachine: what was drafted from a good machine accepts it, and
// refuses one that differs in anything that was written down.
func TestDraftAcceptsItsMachine(t *testing.T) {
	document := evidencetest.New().Encode(t)
	text, a, err := draftOf(t, DraftPolicy, document)
	if err != nil || a.Verdict != Pass {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, string(text))
	if a, err = appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
		t.Fatalf("%v\n%s\n%s", err, explain(a), text)
	}
	for _, c := range []struct {
		id     CheckID
		change func(*testing.T, *evidencetest.Recipe)
	}{
		{PolicyLaunch, body(func(b []byte) { b[evidencetest.AtMeasurement] ^= 1 })},
		{PolicyGuestSVN, body(func(b []byte) { b[evidencetest.AtGuestSVN]-- })},
		{PolicyHostData, body(func(b []byte) { b[evidencetest.AtHostData] ^= 1 })},
		{PolicyIDKey, body(func(b []byte) { b[evidencetest.AtIDKey] ^= 1 })},
		{PolicyAuthorKey, body(func(b []byte) { b[evidencetest.AtAuthorKey] ^= 1 })},
		{PolicyFamilyID, body(func(b []byte) { b[evidencetest.AtFamilyID] ^= 1 })},
		{PolicyImageID, body(func(b []byte) { b[evidencetest.AtImageID] ^= 1 })},
		{PolicyTCBLaunch, body(func(b []byte) { b[evidencetest.AtLaunchTCB+7]-- })},
		{PolicyDebug, body(setPolicy(1 << 19))},
		{PolicyPlatform, body(func(b []byte) { b[evidencetest.AtPlatformInfo] = 0 })},
		{PolicyMitigations, body(func(b []byte) { b[evidencetest.AtLaunchMitigations] = 1 })},
		{PolicyReportVersion, body(func(b []byte) { b[evidencetest.AtVersion] = 4 })},
		{PolicyAppDigest, func(_ *testing.T, r *evidencetest.Recipe) {
			r.Events[1] = evidencetest.App("billing", "billing.service", "billing", "billing 2")
			r.Statement.Caller.Executable = nil
		}},
		{PolicyAppUnit, func(_ *testing.T, r *evidencetest.Recipe) {
			r.Events[1] = evidencetest.App("billing", "other.service", "billing", "billing 1")
			r.Statement.Caller.Unit = "other.service"
		}},
		{PolicyAppDeclaration, func(_ *testing.T, r *evidencetest.Recipe) { r.Events[1].App.Declaration[0] ^= 1 }},
		{PolicyAppCovered, interrupted("crash")},
		{PolicyLogPCR, logIn(14)},
		{PolicyAppUnlisted, func(_ *testing.T, r *evidencetest.Recipe) {
			r.Events = append(r.Events, evidencetest.App("more", "more.service", "more", "more"))
		}},
		{PolicyAgent, func(_ *testing.T, r *evidencetest.Recipe) {
			r.Events[0] = evidencetest.Agent(pcr.EventAgent, "0.9", r.AgentKey)
		}},
	} {
		t.Run(string(c.id), func(t *testing.T) {
			r := evidencetest.New()
			c.change(t, r)
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			if ids := failedIDs(a); len(ids) != 1 || ids[0] != c.id {
				t.Errorf("failed are %v, want %s\n%s", ids, c.id, explain(a))
			}
		})
	}
}

// TestDraftMarksDanger: what is dangerous in a machine is named and not accepted, until
// a person removes the mark.
func TestDraftMarksDanger(t *testing.T) {
	for _, c := range []struct {
		id     CheckID
		rule   string
		change func(*testing.T, *evidencetest.Recipe)
	}{
		{PolicyDebug, "allow_debug = true", body(setPolicy(1 << 19))},
		{PolicyMigrationAgent, "allow_migration_agent = true", body(setPolicy(1 << 18))},
		{PolicyCXL, "allow_cxl = true", body(setPolicy(1 << 21))},
		{PolicyGuestReserved, "allow_reserved_bits = true", body(setPolicy(1 << 40))},
		{PolicyVMPL, "vmpl = [2]", body(le32(evidencetest.AtVMPL, 2))},
		{PolicyProvisional, "allow_provisional_firmware = true", body(func(b []byte) { b[evidencetest.AtCurrentTCB+7]++ })},
		{PolicyChip, "allow_masked_chip = true", body(func(b []byte) { clear(b[evidencetest.AtChipID : evidencetest.AtChipID+64]) })},
		{PolicySigner, `signers = ["vlek"]`, vlek},
		{PolicyAppCovered, `covered = "now"`, interrupted("crash")},
		{PolicyLogUnmeasured, "tolerate_unmeasured = true", event(pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: "a", Reason: "b"}})},
		{PolicyLog, `log = "optional"`, func(_ *testing.T, r *evidencetest.Recipe) { r.NoLog = true }},
		{PolicyStartValue, "[[start_value]]", startAt(1)},
	} {
		t.Run(c.rule, func(t *testing.T) {
			r := evidencetest.New()
			c.change(t, r)
			document := r.Encode(t)
			text, a, err := draftOf(t, DraftPolicy, document)
			if err != nil || text == nil {
				t.Fatalf("%v\n%s", err, explain(a))
			}
			if !strings.Contains(string(text), "# "+c.rule+"\n") || !strings.Contains(string(text), "# DANGER: ") {
				t.Errorf("%s is not marked:\n%s", c.rule, text)
			}
			o := baseOptions(t)
			o.Policy = mustPolicy(t, string(text))
			if a, err = appraiseEvidence(document, o); err != nil {
				t.Fatal(err)
			}
			if ids := failedIDs(a); len(ids) != 1 || ids[0] != c.id {
				t.Errorf("failed are %v, want %s\n%s", ids, c.id, explain(a))
			}
		})
	}
}

// TestDraftSaysWhoseWord: the draft marks DANGER that everything but the launch is accepted
// by the guest's word, and the lines that it offers demand more of that very machine.
func TestDraftSaysWhoseWord(t *testing.T) {
	document := evidencetest.New().Encode(t)
	text, _, err := draftOf(t, DraftPolicy, document)
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(strings.ReplaceAll(string(text), "\n#", "")), " ")
	for _, words := range []string{"DANGER: as long as no attestation key is listed", "accepted by the guest's word alone", "DANGER: the draft does not say which caller"} {
		if !strings.Contains(plain, words) {
			t.Errorf("%q is not in\n%s", words, text)
		}
	}
	o := baseOptions(t)
	for _, c := range []struct {
		name  string
		lines []string
		want  Basis
	}{
		{"as drafted", nil, ByGuest},
		{"with the key and its basis", []string{"# ak_names = ", "# [basis]", "# history = "}, ByTPM},
	} {
		policy := string(text)
		for _, l := range c.lines {
			if strings.Count(policy, l) != 1 {
				t.Fatalf("%q is not offered once in\n%s", l, text)
			}
			policy = strings.Replace(policy, l, strings.TrimPrefix(l, "# "), 1)
		}
		o.Policy = mustPolicy(t, policy)
		a, err := appraiseEvidence(document, o)
		if err != nil || a.Verdict != Pass || a.Check(PolicyAppDigest).Basis != c.want || a.Basis != ByGuest {
			t.Errorf("%s: %v, the applications rest on %q, want %q\n%s", c.name, err, a.Check(PolicyAppDigest).Basis, c.want, explain(a))
		}
	}
}

// TestDraftRefusesForgeries: a draft from a document that does not verify would be
// written by the forger.
func TestDraftRefusesForgeries(t *testing.T) {
	r := evidencetest.New()
	r.Report.Signed = func(b []byte) { b[evidencetest.AtSignature] ^= 1 }
	document := r.Encode(t)
	var refused *RefusedError
	text, a, err := draftOf(t, DraftPolicy, document)
	if !errors.As(err, &refused) || text != nil || a.Class != ClassBinding || refused.Appraisal != a {
		t.Errorf("got %d bytes, %v, %v", len(text), a, err)
	}
	text, _, err = draftOf(t, DraftPolicyFromUnverifiedEvidence, document)
	if err != nil || !strings.Contains(string(text), "did NOT verify") || !strings.Contains(string(text), "report.signature") {
		t.Errorf("%v:\n%s", err, text)
	}
	mustPolicy(t, string(text))
	if _, _, err = draftOf(t, DraftPolicyFromUnverifiedEvidence, []byte("{}")); !errors.As(err, &refused) {
		t.Errorf("got %v for a file that is not evidence", err)
	}
}

// TestDraftOfMilan: a person has to name a processor line.
func TestDraftOfMilan(t *testing.T) {
	r := evidencetest.New()
	r.Report.Product, r.Report.Leaf.ProductName = snp.Milan, "Milan"
	r.Report.Body = func(b []byte) { b[evidencetest.AtCPU+1] = 1 }
	text, a, err := draftOf(t, DraftPolicy, r.Encode(t))
	if err != nil || text == nil {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	if p := mustPolicy(t, string(text)); p.Products != nil {
		t.Errorf("products are %v without a choice of the author", p.Products)
	}
}
