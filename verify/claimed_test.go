package verify

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestNothingIsClaimedOfRefusedEvidence: what rests on a signature or commitment that
// does not hold is not said, neither in the result nor by a check.
func TestNothingIsClaimedOfRefusedEvidence(t *testing.T) {
	for _, c := range []struct {
		name   string
		root   string
		recipe func(*evidencetest.Recipe)
		open   CheckID
	}{
		{"report of another batch", "", func(r *evidencetest.Recipe) {
			r.ReportOf = func(s evidence.Snapshot) evidence.Snapshot { s.Tree.Size++; return s }
		}, PolicyFreshness},
		{"report that nobody signed", "", func(r *evidencetest.Recipe) {
			r.Document = func(e *evidence.Evidence) { e.Report.Bytes[0x2A0] ^= 1 }
		}, PolicyFreshness},
		{"anchor that nobody signed", anchoredPolicy, func(r *evidencetest.Recipe) {
			anchored(r)
			r.AnchorAK = evidencetest.ECCKey('o')
		}, PolicyAnchorAge},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			c.recipe(r)
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, ""))
			a, err := Evidence(r.Encode(t), o)
			if err != nil || a.Verdict != Fail || a.Class != ClassBinding {
				t.Fatal(err, explain(a))
			}
			if a.Freshness != "" || a.AnchorAge != 0 || a.Binding != BindingNone || a.AKOrigin != AKNone {
				t.Errorf("freshness %q, age %v, binding %s, AK %s", a.Freshness, a.AnchorAge, a.Binding, a.AKOrigin)
			}
			if got := a.Check(c.open); got.Verdict != NotAsserted || !got.Required {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestFreshnessOfWhatThePolicyRefuses: genuine, and not what the policy asks for; what it
// is may be said.
func TestFreshnessOfWhatThePolicyRefuses(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(`products = ["turin"]`, ""))
	a, err := Evidence(evidencetest.New().Encode(t), o)
	if err != nil || a.Class != ClassPolicy || a.Freshness != FreshReport || a.Binding != BindingGuestAsserted {
		t.Errorf("%v, freshness %q, binding %s\n%s", err, a.Freshness, a.Binding, explain(a))
	}
}

// TestInventedFirmwareLog: PCRs that a log explains which anybody may have written are
// named, and pinning them takes the words away.
func TestInventedFirmwareLog(t *testing.T) {
	const words = "firmware's log alone"
	r := evidencetest.New()
	r.Booted()
	a, err := Evidence(r.Encode(t), baseOptions(t))
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if !says(a, words) || !says(a, "PCR 0, 4 (sha256)") {
		t.Errorf("%q", a.Sentences)
	}
	r.FirmwareLog = nil
	if a, err = Evidence(r.Encode(t), baseOptions(t)); err != nil || says(a, words) || !says(a, "neither a log nor the policy") {
		t.Errorf("without the log: %v, %q", err, a.Sentences)
	}
}

// TestSHA1FromAnywhere: the start of a SHA-1 bank is held against nothing, so a value
// that the log reaches from another start than zero is not explained.
func TestSHA1FromAnywhere(t *testing.T) {
	for _, c := range []struct {
		name  string
		start []byte
		want  Explanation
	}{{"zero", make([]byte, 20), ByLog}, {"somewhere", bytes.Repeat([]byte{7}, 20), Unexplained}} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			r.Banks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
			r.Start = map[pcr.Algorithm][]byte{pcr.SHA1: c.start}
			r.Select = pcr.Selection{{Algorithm: pcr.SHA1, PCRs: []uint32{14}}, {Algorithm: pcr.SHA256, PCRs: []uint32{0, 14}}}
			a, err := Evidence(r.Encode(t), baseOptions(t))
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			i := slices.IndexFunc(a.Accepted.PCRs, func(p PCRClaim) bool { return p.Bank == "sha1" })
			if got := a.Accepted.PCRs[i]; got.Explained != c.want || got.Index != 14 {
				t.Errorf("%+v, want %s", got, c.want)
			}
			if says(a, "PCR 14 (sha1)") != (c.want == Unexplained) {
				t.Errorf("%q", a.Sentences)
			}
		})
	}
}

// TestKnownLogAndAWholeOne: a whole log is held against the state that is known from
// before, unless it is of another boot or machine, which is said.
func TestKnownLogAndAWholeOne(t *testing.T) {
	for _, c := range []struct {
		name    string
		recipe  func(*evidencetest.Recipe)
		verdict Verdict
	}{
		{"later state", func(*evidencetest.Recipe) {}, Pass},
		{"same state", func(r *evidencetest.Recipe) { r.Events = r.Events[:1] }, Pass},
		{"another boot", func(r *evidencetest.Recipe) { otherAgent(t, r); r.Batch.Reset++ }, NotAsserted},
		{"another AK", func(r *evidencetest.Recipe) { otherAgent(t, r); r.AK = evidencetest.ECCKey('o') }, NotAsserted},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			continued(func(*LogState) {})(t, &o)
			r := evidencetest.New()
			c.recipe(r)
			a, err := Evidence(r.Encode(t), o)
			if err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			if got := a.Check(LogContinuation).Verdict; got != c.verdict {
				t.Errorf("%s is %s, want %s", LogContinuation, got, c.verdict)
			}
			if says(a, "not a later state") != (c.verdict == NotAsserted) {
				t.Errorf("%q", a.Sentences)
			}
			if a.Accepted.Log.AKName != a.Accepted.AKName || a.Accepted.Log.ResetCount != r.Batch.Reset {
				t.Errorf("state %+v of AK %s", a.Accepted.Log, a.Accepted.AKName)
			}
		})
	}
}

// TestExplainBehindFirmware: a PCR that says nothing of the kernel does not silence the
// danger that any kernel is accepted.
func TestExplainBehindFirmware(t *testing.T) {
	pin := func(indexes ...string) string {
		var out string
		for _, i := range indexes {
			out += "[[pcr]]\nbank = \"sha256\"\nindex = " + i + "\nvalues = [\"" + repeated(1, 32) + "\"]\n"
		}
		return out
	}
	for _, c := range []struct {
		name, covers, tables string
		danger, open         bool
	}{
		{"nothing", "firmware", "", true, false},
		{"PCR 0", "firmware", pin("0"), true, false},
		{"what later software extends", "firmware", pin("9", "11"), true, false},
		{"PCR 4", "firmware", pin("4"), false, true},
		{"PCRs 4 and 9", "firmware", pin("4", "9"), false, false},
		{"direct boot", "firmware+kernel+cmdline", "", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(makePolicy("", c.tables), `"firmware+kernel+cmdline"`, `"`+c.covers+`"`, 1)
			w := mustPolicy(t, text).Explain()
			if got := slices.ContainsFunc(w.Dangers, func(s string) bool { return strings.Contains(s, "any kernel and any disk image") }); got != c.danger {
				t.Errorf("danger is %t: %q", got, w.Dangers)
			}
			if got := slices.ContainsFunc(w.Unchecked, func(s string) bool { return strings.Contains(s, "program behind PCR 4") }); got != c.open {
				t.Errorf("open is %t: %q", got, w.Unchecked)
			}
		})
	}
}
