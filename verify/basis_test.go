// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// akKnown are the ways in which a verifier may know the attestation key of a recipe.
var akKnown = []struct {
	name, root, tables string
	vouched            bool
}{
	{"unknown", "", "", false},
	{"named", "ak_names = [\"000b" + recipeAK() + "\"]", "", true},
	{"enrolled", "", enrolment(recipeAK(), "none"), true},
	{"certified", trusting(tpmRoot), certified(tpmRoot.certify('e', nil)), true},
}

// launchKnown are the ways in which a policy may list a launch measurement.
var launchKnown = []struct {
	name   string
	list   func(policy string) string
	system bool
}{
	{"unlisted", func(p string) string {
		return strings.Replace(strings.Replace(p, hexMeasurement, repeated(9, 48), 1), "version = 1\n", "version = 1\nunlisted_launch = \"allow\"\n", 1)
	}, false},
	{"firmware", covering("firmware"), false},
	{"kernel", covering("firmware+kernel+cmdline"), false},
	{"system", covering("firmware+kernel+cmdline+system"), true},
}

var hexMeasurement = repeated('M', 48)

func covering(what string) func(string) string {
	return func(policy string) string {
		return strings.Replace(policy, `covers = "firmware+kernel+cmdline"`, fmt.Sprintf("covers = %q", what), 1)
	}
}

// asking is rules that make every check pass that the history and the caller of a recipe
// can pass.
const asking = "[caller]\nunit = \"billing.service\"\n[agent]\nversions = [\"1.0.0\"]\n"

var pinFour = "[[pcr]]\nbank = \"sha256\"\nindex = 4\nvalues = [\"" + repeated(0x14, 32) + "\"]\n"

// rests compares the basis of every check that passed, and names those that must have
// passed with it.
func rests(t *testing.T, a *Appraisal, err error, want map[check.Ground]Basis, must map[CheckID]Basis) {
	t.Helper()
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	for i, c := range a.Checks {
		switch {
		case c.Verdict != Pass && c.Basis != "":
			t.Errorf("%s: %s, and it has the basis %q", c.ID, c.Verdict, c.Basis)
		case c.Verdict == Pass && (c.Basis == "" || c.Basis != want[definitions[i].Ground]):
			t.Errorf("%s passed by the word of %q, want %q", c.ID, c.Basis, want[definitions[i].Ground])
		}
	}
	for id, basis := range must {
		if c := a.Check(id); c.Verdict != Pass || c.Basis != basis {
			t.Errorf("%s: %s by the word of %q, want it to pass by that of %q", id, c.Verdict, c.Basis, basis)
		}
	}
}

// saysBases compares verdict and claims with their bases, and the sentences with both.
func saysBases(t *testing.T, a *Appraisal, verdict Basis, want ClaimBases) {
	t.Helper()
	c := a.Accepted.claims
	if a.Basis != verdict || c.Basis != want {
		t.Errorf("the verdict rests on %q, the claims on %+v; want %q, %+v", a.Basis, c.Basis, verdict, want)
	}
	if says(a, "Accepted, by the guest's word") != (verdict == ByGuest) {
		t.Errorf("verdict by %q: %q", verdict, a.Sentences)
	}
	for _, p := range c.PCRs {
		basis := want.PCRs
		if p.Explained == ByLog {
			basis = want.Log
		}
		if p.Basis != basis {
			t.Errorf("PCR %d of %s rests on %q, want %q", p.Index, p.Bank, p.Basis, basis)
		}
	}
	begins := map[Basis][]string{ByGuest: {"By the guest's word alone: ", "By the word of a vTPM that the verifier does not know: "},
		ByTPM: {"By the word of a TPM that the verifier knows: "}, ByLaunch: {"By the word of the measured system: "}}
	for part, basis := range map[string]Basis{"the quoted PCR values": want.PCRs, "the log with": want.Log, "the agent's digest": want.Agent, "the caller": want.Caller, "named the key": want.PublicKey} {
		found := 0
		for _, s := range a.Sentences {
			for by, list := range begins {
				if slices.ContainsFunc(list, func(b string) bool { return strings.HasPrefix(s, b) }) && strings.Contains(s, part) {
					found++
					if by != basis {
						t.Errorf("%q is said to be by %s, and rests on %s", part, by, basis)
					}
				}
			}
		}
		if want := map[bool]int{false: 1}[basis == ""]; found != want {
			t.Errorf("%d sentences about %q, want %d: %q", found, part, want, a.Sentences)
		}
	}
}

// TestBasisOfEvidence: case 97. On whose word each check passed, over every way to know
// the attestation key, to list the launch, and to make the evidence.
func TestBasisOfEvidence(t *testing.T) {
	for _, kind := range []struct {
		name, root, tables string
		change             func(*evidencetest.Recipe)
	}{
		{"fresh", "", asking, func(*evidencetest.Recipe) {}},
		{"anchored", anchoredPolicy, asking, anchored},
		{"without a log", `log = "optional"`, "[caller]\nunit = \"billing.service\"\n", func(r *evidencetest.Recipe) { r.NoLog = true }},
	} {
		r := evidencetest.New()
		kind.change(r)
		document := r.Encode(t)
		for _, ak := range akKnown {
			for _, launch := range launchKnown {
				t.Run(kind.name+"/"+ak.name+"/"+launch.name, func(t *testing.T) {
					o := baseOptions(t)
					o.PublicKey = r.Statement.PublicKey
					o.Policy = mustPolicy(t, launch.list(makePolicy(kind.root+"\n"+ak.root, kind.tables+pinFour+ak.tables)))
					word, quoted := ByGuest, ByGuest
					if launch.system {
						word = ByLaunch
					}
					history := word
					if ak.vouched {
						quoted, history = ByTPM, ByTPM
					}
					must := map[CheckID]Basis{AKAttributes: quoted, QuoteSignature: quoted, PolicyPCR: quoted, PolicyCallerUnit: word, PolicyBinding: word,
						BatchAgentSignature: word, BindingReportData: ByProcessor, PolicyDebug: ByProcessor, StatementNonce: ByVerifier}
					if o.PublicKey != nil {
						must[StatementPublicKey] = word
					}
					verdict := ByGuest
					if launch.system && ak.vouched {
						verdict = ByTPM
					}
					claims := ClaimBases{Machine: ByProcessor, PCRs: quoted, Log: history, Agent: history, Caller: word, PublicKey: word}
					if r.NoLog {
						claims.Log, claims.Agent = "", ""
					}
					if !r.NoLog {
						must[LogReplay], must[PolicyStartValue], must[PolicyAgent], must[PolicyLogGaps] = history, history, history, history
					}
					a, err := appraiseEvidence(document, o)
					rests(t, a, err, map[check.Ground]Basis{check.OnVerifier: ByVerifier, check.OnProcessor: ByProcessor, check.OnBinding: word,
						check.OnQuote: quoted, check.OnHistory: history, check.OnAgent: word}, must)
					saysBases(t, a, verdict, claims)
				})
			}
		}
	}
}

// TestBasisOfRawMaterial: what other systems record has no agent and no log.
func TestBasisOfRawMaterial(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		raw          makeMaterial
		want         map[check.Ground]Basis
		verdict      Basis
	}{
		{"bare report", makePolicy(bareRoot, ""), bare(nil, nil), map[check.Ground]Basis{check.OnBinding: ByVerifier}, ByProcessor},
		{"paravisor", paravisorPolicy("paravisor", ""), paravisorSet(nil, nil), map[check.Ground]Basis{check.OnBinding: ByLaunch, check.OnQuote: ByTPM}, ByLaunch},
		{"paravisor's set under plain firmware", paravisorPolicy("plain", ""), paravisorSet(nil, nil), map[check.Ground]Basis{check.OnBinding: ByGuest, check.OnQuote: ByGuest}, ByGuest},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want[check.OnVerifier], c.want[check.OnProcessor] = ByVerifier, ByProcessor
			o := baseOptions(t)
			o.Policy = mustPolicy(t, c.policy)
			a, err := c.raw(t, &o).appraise(o, nil)
			rests(t, a, err, c.want, map[CheckID]Basis{PolicyBinding: c.want[check.OnBinding]})
			saysBases(t, a, c.verdict, ClaimBases{Machine: ByProcessor, PCRs: c.want[check.OnQuote]})
		})
	}
}

// TestOpenMemoryVouchesForNothing: a host that may read and write the guest's memory, or
// move the guest, can say what measured software would not.
func TestOpenMemoryVouchesForNothing(t *testing.T) {
	for key, bit := range map[string]int{"allow_debug": 19, "allow_migration_agent": 18} {
		r := evidencetest.New()
		body(setPolicy(1<<bit))(t, r)
		o := baseOptions(t)
		o.Policy = mustPolicy(t, covering("firmware+kernel+cmdline+system")(makePolicy("", "[guest_policy]\n"+key+" = true\n"+asking)))
		a, err := appraiseEvidence(r.Encode(t), o)
		rests(t, a, err, map[check.Ground]Basis{check.OnVerifier: ByVerifier, check.OnProcessor: ByProcessor, check.OnBinding: ByGuest,
			check.OnQuote: ByGuest, check.OnHistory: ByGuest, check.OnAgent: ByGuest}, map[CheckID]Basis{PolicyCallerUnit: ByGuest})
	}
}

// TestForgedEvidenceRestsOnNothing: once a signature, format or binding failed, only what
// the verifier did itself has a basis. A rule of the policy that failed takes none away.
func TestForgedEvidenceRestsOnNothing(t *testing.T) {
	for _, m := range mutations() {
		a := m.run(t, nil)
		for i, c := range a.Checks {
			forged := a.Class != ClassPolicy && definitions[i].Ground != check.OnVerifier
			if want := c.Verdict == Pass && !forged; (c.Basis != "") != want {
				t.Errorf("%s, %s: %s is %s by the word of %q", m.id, m.name, c.ID, c.Verdict, c.Basis)
			}
		}
	}
}
