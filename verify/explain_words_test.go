// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// checksOf has, for each root key and table of a policy, the checks that it decides
// about. Their grounds tell on whose word a sentence about it can rest.
var checksOf = map[string][]CheckID{
	"version": nil, "products": {PolicyProduct}, "signers": {PolicySigner}, "vlek_csps": {PolicySigner}, "min_report_version": {PolicyReportVersion},
	"chips": {PolicyChip}, "denied_chips": {PolicyDenied}, "allow_masked_chip": {PolicyChip}, "revocation": {ReportRevocationList},
	"unlisted_launch": {PolicyLaunch}, "denied_measurements": {PolicyDenied}, "launch": {PolicyLaunch}, "vmpl": {PolicyVMPL}, "guest_policy": {PolicyDebug},
	"platform": {PolicyPlatform}, "tcb": {PolicyTCBReported}, "allow_provisional_firmware": {PolicyProvisional}, "mitigations": {PolicyMitigations},
	"image": {PolicyHostData}, "gcp": {PolicyGCPProject}, "ak_names": {PolicyAK}, "ak_origin": {PolicyAKOrigin}, "outside_enrolments": {PolicyAK}, "ek_roots": {PolicyEKChain}, "enrolment": {PolicyAK},
	"binding": {PolicyBinding}, "freshness": {PolicyFreshness}, "basis": {PolicyBasisHistory}, "log": {PolicyLog},

	"max_anchor_age": {PolicyAnchorAge}, "pcr": {PolicyPCR}, "firmware_log": {PolicyFirmwareLog},
	"start_value": {PolicyStartValue}, "continuation": {PolicyContinuation}, "log_pcr": {PolicyLogPCR}, "quoted": {PolicyQuoted}, "carried": {PolicyAppCovered}, "tolerate_gaps": {PolicyLogGaps}, "tolerate_unmeasured": {PolicyLogUnmeasured},
	"unlisted_apps": {PolicyAppUnlisted}, "unlisted_containers": {PolicyContainerUnlisted}, "container": {PolicyContainerRoot}, "app": {PolicyAppDigest, PolicyCallerCovered}, "gate": {PolicyAppGated}, "agent": {PolicyAgent}, "ima": {PolicyIMAFiles}, "ima_files": {PolicyIMAFiles}, "event": {PolicyEventPresent}, "caller": {PolicyCallerUnit},
}

// explainPolicies returns the policies from strict to loose, by file.
func explainPolicies(t *testing.T) map[string]*Policy {
	t.Helper()
	files, err := filepath.Glob("testdata/explain/*.toml")
	if err != nil || len(files) != 10 {
		t.Fatalf("%d policies, %v; want 10", len(files), err)
	}
	out := make(map[string]*Policy)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = mustPolicy(t, string(text))
	}
	return out
}

// promised returns the basis of a fact under the weakest evidence that a policy accepts, by
// its fields alone.
func promised(p *Policy, g check.Ground) Basis {
	system := p.Basis.Caller == ByLaunch || p.Basis.History == ByLaunch || p.Basis.All == ByLaunch
	if !system && p.UnlistedLaunch != Allow && !p.GuestPolicy.AllowDebug && !p.GuestPolicy.AllowMigrationAgent &&
		!p.GuestPolicy.AllowReservedBits && len(p.VMPL) == 0 {
		system = true
		for _, l := range p.Launches {
			system = system && l.Covers == CoversSystem
		}
	}
	known := len(p.AKNames) > 0 || len(p.Enrolments) > 0 || p.Binding == BindingParavisor || p.Basis.History == ByTPM
	switch {
	case g == check.OnAgent && system:
		return ByLaunch
	case g == check.OnAgent:
		return ByGuest
	case known:
		return ByTPM
	case g == check.OnHistory && system:
		return ByLaunch
	}
	return ByGuest
}

// without returns a copy of a policy without one of its root keys or tables.
func without(t *testing.T, p *Policy, key string) *Policy {
	t.Helper()
	c := *p
	var clearIn func(v reflect.Value) bool
	clearIn = func(v reflect.Value) bool {
		for field, f := range v.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
			if name == key {
				f.SetZero()
				return true
			}
			if field.Anonymous && clearIn(f) {
				return true
			}
		}
		return false
	}
	if !clearIn(reflect.ValueOf(&c).Elem()) {
		t.Fatalf("no key %s", key)
	}
	return &c
}

// given reports whether a policy gives a root key or table.
func given(t *testing.T, p *Policy, key string) bool {
	t.Helper()
	return !reflect.DeepEqual(p, without(t, p, key))
}

// changed returns the sentences that only one of two lists has.
func changed(a, b []string) (out []string) {
	for _, s := range slices.Concat(a, b) {
		if slices.Contains(a, s) != slices.Contains(b, s) {
			out = append(out, s)
		}
	}
	return out
}

// TestDemandsSayWhoseWord: case 97. Over ten policies from strict to loose, each sentence
// that a rule about PCRs, start, log, applications, agent or caller brings into the demands
// ends with the party on whose word it rests. If that is the guest alone, a danger names the
// rule. What a sentence is about is found by taking the rule out of the policy.
func TestDemandsSayWhoseWord(t *testing.T) {
	words := map[Basis]string{ByGuest: " By the guest's word alone.", ByTPM: " By the word of a TPM that the policy knows.", ByLaunch: " By the word of the measured system."}
	seen := make(map[Basis]int)
	for name, p := range explainPolicies(t) {
		w := p.Explain()
		for key, ids := range checksOf {
			if len(ids) == 0 || !given(t, p, key) {
				continue
			}
			var may []Basis
			for _, id := range ids {
				if g := definition(id).Ground; slices.Contains([]check.Ground{check.OnQuote, check.OnHistory, check.OnAgent}, g) {
					may = append(may, promised(p, g))
				}
			}
			if may == nil {
				continue
			}
			other := without(t, p, key).Explain()
			for _, s := range changed(w.Demands, other.Demands) {
				i := slices.IndexFunc(may, func(b Basis) bool { return strings.HasSuffix(s, words[b]) })
				if i < 0 {
					t.Errorf("%s: %s rests on %s, and the sentence is %q", name, key, may, s)
					continue
				}
				seen[may[i]]++
				if may[i] == ByGuest && slices.Contains(w.Demands, s) && !dangerous(w.Dangers) {
					t.Errorf("%s: %s rests on the guest alone, and no danger says so: %q", name, key, w.Dangers)
				}
			}
		}
		for _, s := range w.Demands {
			if strings.HasSuffix(s, words[ByGuest]) && !dangerous(w.Dangers) {
				t.Errorf("%s: %q, and no danger says so", name, s)
			}
		}
	}
	if seen[ByGuest] < 10 || seen[ByTPM] < 10 || seen[ByLaunch] < 5 {
		t.Errorf("looked at %v: the policies are too alike", seen)
	}
}

func dangerous(list []string) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		return strings.HasPrefix(s, "By the guest's word alone: ") || strings.HasPrefix(s, "By the word of a vTPM that the policy does not know: ")
	})
}

// TestDangerNamesItsRules: a rule whose demand rests on the guest alone is named in a
// danger, and taking the rule out takes the name away, whatever else is pinned.
func TestDangerNamesItsRules(t *testing.T) {
	p := explainPolicies(t)["testdata/explain/07-pins-without-a-known-key.toml"]
	all := strings.Join(p.Explain().Dangers, "\n")
	for key, name := range map[string]string{"pcr": "[[pcr]]", "agent": "[agent]", "caller": "[caller]"} {
		left := strings.Join(without(t, p, key).Explain().Dangers, "\n")
		if !strings.Contains(all, name) || strings.Contains(left, name) {
			t.Errorf("%s: with it %q, without it %q", key, all, left)
		}
	}
	p.AKNames = []string{"000b" + repeated(1, 32)}
	if s := strings.Join(p.Explain().Dangers, "\n"); strings.Contains(s, "[[pcr]]") || !strings.Contains(s, "[caller]") {
		t.Errorf("with a known key: %q", s)
	}
	p.Launches[0].Covers = CoversSystem
	if s := strings.Join(p.Explain().Dangers, "\n"); strings.Contains(s, "[caller]") {
		t.Errorf("with a measured system: %q", s)
	}
	p.GuestPolicy.AllowDebug = true
	if s := strings.Join(p.Explain().Dangers, "\n"); !strings.Contains(s, "[caller]") {
		t.Errorf("with a measured system that the host may debug: %q", s)
	}
}

// TestExplainPoliciesHaveEveryKey: the ten policies give each key of a policy.
func TestExplainPoliciesHaveEveryKey(t *testing.T) {
	var all strings.Builder
	files := slices.Sorted(maps.Keys(explainPolicies(t)))
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, key := range policyKeys() {
		if name := key[strings.LastIndex(key, ".")+1:]; !strings.Contains(all.String(), "\n"+name+" = ") {
			t.Errorf("no policy of testdata/explain gives %s", key)
		}
		root, _, _ := strings.Cut(key, ".")
		if _, ok := checksOf[root]; !ok {
			t.Errorf("%s: add its checks to the table of this file", root)
		}
	}
}
