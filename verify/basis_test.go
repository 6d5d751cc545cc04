// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
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

// TestBasisDemands: case 97. Each demand is met exactly if the party that it names vouches,
// whatever other party does.
func TestBasisDemands(t *testing.T) {
	document := evidencetest.New().Encode(t)
	for _, ak := range akKnown {
		for _, launch := range launchKnown {
			for _, c := range []struct {
				id     CheckID
				demand string
				pinned bool
				met    bool
			}{
				{PolicyBasisHistory, `history = "tpm"`, true, ak.vouched},
				{PolicyBasisHistory, `history = "launch"`, false, launch.system},
				{PolicyBasisHistory, `history = "launch"`, true, launch.system && ak.vouched},
				{PolicyBasisCaller, `caller = "launch"`, true, launch.system},
				{PolicyBasisAll, `all = "launch"`, false, launch.system},
				{PolicyBasisAll, `all = "launch"`, true, launch.system && ak.vouched},
			} {
				t.Run(fmt.Sprintf("%s/%s/%s, pinned %t", ak.name, launch.name, c.demand, c.pinned), func(t *testing.T) {
					pins := map[bool]string{true: pinFour}[c.pinned]
					others := strings.Replace(anyParavisor, repeated(9, 48), repeated(7, 48), 1) + strings.Replace(anySystem, repeated(9, 48), repeated(8, 48), 1)
					o := baseOptions(t)
					o.Policy = mustPolicy(t, launch.list(makePolicy(ak.root, asking+pins+ak.tables+"[basis]\n"+c.demand))+others)
					a, err := appraiseEvidence(document, o)
					if err != nil {
						t.Fatal(err)
					}
					var want []CheckID
					if !c.met {
						want = []CheckID{c.id}
					}
					if got := failedIDs(a); !slices.Equal(got, want) || (a.Verdict == Pass) != c.met {
						t.Errorf("%s, failed %v, want %v\n%s", a.Verdict, got, want, explain(a))
					}
				})
			}
		}
	}
}

// TestBasisSeesWhatFailed: if the AK or the launch is refused, that check says so, and the
// basis that depends on it is open.
func TestBasisSeesWhatFailed(t *testing.T) {
	for _, c := range []struct {
		policy    string
		fails, is CheckID
	}{
		{makePolicy("ak_names = [\"000b"+repeated(1, 32)+"\"]", "[basis]\nhistory = \"tpm\""), PolicyAK, PolicyBasisHistory},
		{strings.Replace(whole("", "[basis]\ncaller = \"launch\""), hexMeasurement, repeated(9, 48), 1), PolicyLaunch, PolicyBasisCaller},
		{strings.Replace(whole("", "[basis]\nall = \"launch\""), hexMeasurement, repeated(9, 48), 1), PolicyLaunch, PolicyBasisAll},
	} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, c.policy)
		a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
		if err != nil || !slices.Equal(failedIDs(a), []CheckID{c.fails}) {
			t.Fatalf("%v, failed %v", err, failedIDs(a))
		}
		if got := a.Check(c.is); got.Verdict != NotAsserted || !got.Required || got.Sentence != "see "+string(c.fails) {
			t.Errorf("%+v", got)
		}
	}
}

// TestBasisThatNothingMeets: a demand that no evidence could meet is an error at its key.
func TestBasisThatNothingMeets(t *testing.T) {
	ak := "ak_names = [\"000b" + recipeAK() + "\"]"
	for _, c := range []struct{ root, tables, key string }{
		{"", "[basis]\nhistory = \"tpm\"", "basis.history"},
		{"", "[basis]\nhistory = \"launch\"", "basis.history"},
		{"", "[basis]\ncaller = \"launch\"", "basis.caller"},
		{"", "[basis]\nall = \"launch\"", "basis.all"},
		{"", anySystem + pinFour + "[basis]\nhistory = \"launch\"", "basis.history"},
		{"", anySystem + pinFour + "[basis]\nall = \"launch\"", "basis.all"},
		{`firmware_log = "required"`, anySystem + "[basis]\nhistory = \"launch\"", "basis.history"},
		{"binding = \"paravisor\"\nlog = \"optional\"", anyParavisor + strings.Replace(anySystem, repeated(9, 48), repeated(8, 48), 1) + "[basis]\ncaller = \"launch\"", "basis.caller"},
		{ak, "[basis]\nhistory = \"tpm\"", ""},
		{ak, anySystem + pinFour + "[basis]\nall = \"launch\"", ""},
		{"", anyParavisor + "[basis]\nhistory = \"tpm\"", ""},
		{"", "[basis]\nhistory = \"guest\"\ncaller = \"guest\"\nall = \"guest\"", ""},
	} {
		_, err := ParsePolicy([]byte(makePolicy(c.root, c.tables)))
		var e *PolicyError
		if got := errors.As(err, &e); got != (c.key != "") || got && e.Key != c.key {
			t.Errorf("%s%s: got %v, want an error of %q", c.root, c.tables, err, c.key)
		}
	}
}

// TestSinceStartIsTheAgentsWord: who called, and since when it runs, the agent states. A TPM
// vouches for the log that this is compared with, and for nothing of the caller.
func TestSinceStartIsTheAgentsWord(t *testing.T) {
	for _, c := range []struct {
		covered string
		want    Basis
	}{{"", ByGuest}, {"covered = \"since-start\"", ByGuest}, {"covered = \"unbroken\"", ByTPM}} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", "[caller]\nunit = \"billing.service\"\napp = \"billing\"\n"+app("billing", c.covered, "billing 1")+enrolment(recipeAK(), "none")))
		a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
		if err != nil || a.Verdict != Pass {
			t.Fatal(err, explain(a))
		}
		if got := a.Check(PolicyAppCovered); got.Verdict != Pass || got.Basis != c.want {
			t.Errorf("%s: %s by the word of %q, want %q", c.covered, got.Verdict, got.Basis, c.want)
		}
		if got := a.Check(PolicyAppDigest).Basis; got != ByTPM {
			t.Errorf("%s: the digests rest on %q", c.covered, got)
		}
		w := o.Policy.Explain()
		for _, s := range w.Demands {
			if strings.Contains(s, "agent watched the application") && strings.HasSuffix(s, "By the guest's word alone.") != (c.want == ByGuest) ||
				strings.Contains(s, "agent watched it from before") && !strings.HasSuffix(s, "By the guest's word alone.") {
				t.Errorf("%s: %q", c.covered, s)
			}
		}
		if said := strings.Contains(strings.Join(w.Dangers, "\n"), "since when the caller's application was watched"); said != (c.want == ByGuest) {
			t.Errorf("%s: dangers %q", c.covered, w.Dangers)
		}
	}
}

// TestKnownGuestIsSaid: the word of the guest is that of any guest with its launch
// measurement, unless the processor names the guest of a log that is known from before.
func TestKnownGuestIsSaid(t *testing.T) {
	same := func(id byte, change func(*testing.T, *evidencetest.Recipe)) *evidencetest.Recipe {
		r := evidencetest.New()
		bootedAs(id, change)(t, r)
		return r
	}
	plain := evidencetest.New()
	for _, c := range []struct {
		name  string
		known byte // REPORT_ID in the known state; 0: no state is known
		r     *evidencetest.Recipe
		said  bool
	}{
		{"nothing known", 0, same(1, nil), false},
		{"same guest", 1, same(1, nil), true},
		{"same guest, log from an index", 1, same(1, fromTwo), true},
		{"another guest", 1, same(2, func(t *testing.T, r *evidencetest.Recipe) { otherAgent(t, r); r.Batch.Reset++ }), false},
		{"no REPORT_ID", 0xff, plain, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			switch c.known {
			case 0:
			case 0xff:
				continued(func(s *LogState) { s.ReportID = "" })(t, &o)
			default:
				continued(bootAt(c.known))(t, &o)
			}
			a, err := appraiseEvidence(c.r.Encode(t), o)
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			if says(a, "It is the guest of the known log") != c.said || says(a, "Root of any guest") == c.said {
				t.Errorf("%q", a.Sentences)
			}
		})
	}
}

// TestOpenMemoryVouchesForNothing: a host that may read and write the guest's memory, or
// move the guest, can say what measured software would not. So can less privileged software
// that asked for the report. That a policy would accept it changes nothing by itself.
func TestOpenMemoryVouchesForNothing(t *testing.T) {
	for _, c := range []struct {
		name, root, tables string
		open               func(b []byte)
	}{
		{"debug", "", "[guest_policy]\nallow_debug = true\n", setPolicy(1 << 19)},
		{"migration agent", "", "[guest_policy]\nallow_migration_agent = true\n", setPolicy(1 << 18)},
		{"unknown permission", "", "[guest_policy]\nallow_reserved_bits = true\n", setPolicy(1 << 40)},
		{"VMPL 1", "vmpl = [0, 1]", "", le32(evidencetest.AtVMPL, 1)},
	} {
		for _, open := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, %t", c.name, open), func(t *testing.T) {
				r, word := evidencetest.New(), ByLaunch
				if open {
					word = ByGuest
					body(c.open)(t, r)
				}
				o := baseOptions(t)
				o.Policy = mustPolicy(t, whole(c.root, c.tables+asking))
				a, err := appraiseEvidence(r.Encode(t), o)
				rests(t, a, err, map[check.Ground]Basis{check.OnVerifier: ByVerifier, check.OnProcessor: ByProcessor, check.OnBinding: word,
					check.OnQuote: ByGuest, check.OnHistory: word, check.OnAgent: word}, map[CheckID]Basis{PolicyCallerUnit: word})
				if !strings.Contains(strings.Join(o.Policy.Explain().Dangers, "\n"), "By the guest's word alone: the caller") {
					t.Errorf("explain calls it no danger that the caller may rest on the guest alone: %q", o.Policy.Explain().Dangers)
				}
			})
		}
	}
	// Measured firmware below the guest is memory of the guest too.
	o := baseOptions(t)
	o.Policy = mustPolicy(t, paravisorPolicy("paravisor", "")+"[guest_policy]\nallow_debug = true\n")
	a, err := paravisorSet(func(r *evidencetest.ParavisorRecipe) { r.Report.Body = setPolicy(1 << 19) }, nil)(t, &o).appraise(o, nil)
	rests(t, a, err, map[check.Ground]Basis{check.OnVerifier: ByVerifier, check.OnProcessor: ByProcessor, check.OnBinding: ByGuest, check.OnQuote: ByGuest}, nil)
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
