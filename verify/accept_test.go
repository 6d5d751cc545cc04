// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/elliptic"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// acceptances is evidence that is good, as mutations that break nothing: what the mutations start
// from, whatever signs the quote.
func acceptances() []mutation {
	digest := billingApp.App.Digest.String()
	return append([]mutation{
		{name: "fresh"},
		{name: "alone in its batch", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Neighbours = 0 }},
		{name: "anchored", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) { anchored(r) }},
		{name: "fresh, and anchored would be accepted", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Freshness = "anchored" }},
		{name: "no log", root: `log = "optional"`, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.NoLog = true }},
		{name: "P-384", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			r.AK = evidencetest.ECCKeyOn(elliptic.P384(), tpm2.TPMECCNistP384, tpm2.TPMAlgSHA384, 'k')
		}},
		{name: "an instance of the template that was declared", root: "caller.unit = \"billing@.service\"\ncaller.app = \"billing\"", recipe: templated("billing@.service", "billing@7-1.service")},
		{name: "a further user that was declared", root: "caller.uid = 991\napp = [{name = \"billing\", digests = [\"" + digest + "\"], user = \"billing\", users = [\"www-data\"]}]", recipe: withUsers(991, pcr.AppUser{User: "www-data", UID: 991})},
		{name: "a further user, and any is accepted", root: "app = [{name = \"billing\", digests = [\"" + digest + "\"]}]", recipe: withUsers(991, pcr.AppUser{User: "www-data", UID: 991})},
		{name: "the user, and there is a further one", recipe: withUsers(990, pcr.AppUser{User: "www-data", UID: 991})},
		{name: "a dynamic user", root: "app = [{name = \"billing\", digests = [\"" + digest + "\"], user = \"billing\", dynamic_user = true}]", recipe: dynamic(pcr.MinDynamicUID)},
		{name: "a dynamic user, and any is accepted", root: "app = [{name = \"billing\", digests = [\"" + digest + "\"], unit = \"billing.service\"}]", recipe: dynamic(pcr.MaxDynamicUID)},
		{name: "one dynamic uid of one unit", root: "caller.unit = \"billing.service\"\ncaller.uid = 61184", recipe: dynamic(61184)},
		{name: "the instance that was declared", root: "caller.unit = \"billing@7.service\"", recipe: templated("billing@7.service", "billing@7.service")},
		{name: "RSASSA", recipe: func(t *testing.T, r *evidencetest.Recipe) { r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA) }},
		{name: "RSAPSS", recipe: func(t *testing.T, r *evidencetest.Recipe) { r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSAPSS) }},
	}, acceptancesOfParts()...)
}

// acceptancesOfParts has one of each part of the format that a verifier may lack, and of each thing
// that a verifier may be told.
func acceptancesOfParts() []mutation {
	measuredBy, given := measured(nil)
	list := kernel{policy: imaPolicy}
	later := kernel{policy: imaPolicy, known: 2, entries: [][]byte{evidencetest.IMAFile("/usr/bin/second", "true")}}
	milan := func(_ *testing.T, r *evidencetest.Recipe) {
		r.Report = evidencetest.NewReport(snp.Milan)
		r.Report.Body = func(b []byte) { b[evidencetest.AtCPU+1] = 0x01 }
	}
	guarded := func(_ *testing.T, r *evidencetest.Recipe) {
		interrupt(r, []pcr.Event{gateStart(1050, false, "billing!")})
		startedAt(r, 5000)
	}
	lists := func(t *testing.T, o *options) {
		o.Revocation = []*snp.RevocationList{evidencetest.RevocationList(t, snp.Genoa, o.Time.AddDate(0, -1, 0), o.Time.AddDate(0, 1, 0), evidencetest.Serial+1)}
	}
	expected := func(_ *testing.T, o *options) {
		o.PublicKey, o.UserData = []byte("a public key"), []byte("invoice 7")
	}
	return []mutation{
		{name: "the key and the user data that the verifier expects", opts: expected},
		{name: "the audience that the verifier is", opts: func(_ *testing.T, o *options) { o.Audience = "verifier.example" }, recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Statement.Audience = "verifier.example" }},
		{name: "a key that the caller proved to have", root: "caller.key_proof = true", recipe: func(t *testing.T, r *evidencetest.Recipe) { r.Prove(t, evidencetest.Key('q'), nil) }},
		{name: "Milan", root: "products = [\"milan\"]", recipe: milan},
		{name: "VLEK", root: "signers = [\"vlek\"]\nvlek_csps = [\"test cloud 1\"]", recipe: vlek},
		{name: "a revocation list of another chip", root: `revocation = "required"`, opts: lists},
		{name: "a log that continues a known one", opts: continued(func(*LogState) {})},
		{name: "a part of a log that continues a known one", recipe: fromTwo, opts: continued(func(*LogState) {})},
		{name: "a log of the firmware", root: firmwareRoot, recipe: booted(nil)},
		{name: "a paravisor", policy: asksParavisor, recipe: azure(nil)},
		{name: "an SVSM", policy: asksSVSM, recipe: svsm(nil)},
		{name: "a list of IMA from elsewhere", tables: imaPolicy, recipe: measuredBy, opts: given},
		{name: "a list of IMA in evidence", tables: imaPolicy, recipe: list.recipe, opts: list.knows},
		{name: "a part of a list of IMA that continues a known one", tables: imaPolicy, recipe: later.recipe, opts: later.knows},
		{name: "an enrolled key", root: `ak_origin = "enrolled"`, tables: enrolment(recipeAK(), "none")},
		{name: "a certified key", root: trusting(tpmRoot), tables: certified(tpmRoot.certify('e', nil))},
		{name: "a key that Google Cloud certified", tables: onGoogle(""), recipe: with(googleIssuer.certifyAK('k', goodInstance, nil), googleIssuer.cert)},
		{name: "a container", tables: ledger(), recipe: ran(func(*pcr.ContainerEvent) {})},
		{name: "a caller in a container", recipe: inContainer("ledger", func(*evidence.Caller) {})},
		{name: "an application that the gate guards", tables: gated("enforced"), recipe: guarded},
		{name: "an event of an application", tables: eventRule("last", `contents = ["1"]`), recipe: emits([3]string{"billing", "model", "1"})},
		{name: "a bare report", root: bareRoot, raw: bare(nil, nil)},
		{name: "a paravisor's set", policy: paravisorPolicy("paravisor", ""), raw: paravisorSet(nil, nil)},
		{name: "a paravisor's set with a log of the firmware", policy: paravisorPolicy("paravisor", firmwareRoot) + otherPCRs, raw: paravisorSet(started, nil)},
	}
}

// TestAccepted: what must be accepted is, and no check says nothing.
func TestAccepted(t *testing.T) {
	names := make(map[string]bool)
	for _, c := range acceptances() {
		t.Run(c.name, func(t *testing.T) {
			if names[c.name] {
				t.Error("the name is in the table twice")
			}
			names[c.name] = true
			a := c.run(t, nil)
			if a.Verdict != Pass || a.ExitCode() != 0 {
				t.Fatalf("%s, class %v:\n%s", a.Verdict, a.Class, explain(a))
			}
			if c.policy == "" && c.raw == nil && a.Binding != BindingGuestAsserted {
				t.Errorf("binding %s", a.Binding)
			}
			if _, err := a.Claims(); err != nil {
				t.Error(err)
			}
			for i, x := range a.Checks {
				if x.ID != definitions[i].ID || x.Sentence == "" || x.Verdict == "" {
					t.Errorf("check %d is %+v, want one of %s with a sentence", i, x, definitions[i].ID)
				}
			}
		})
	}
}
