// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// policyTexts returns the policies of the tests: each rule that explain_test.go names,
// those of the corpus, and those of docs/policy.md.
func policyTexts(t *testing.T) []string {
	t.Helper()
	texts := []string{makePolicy("", floors("committed", "")+app("optional", "required = false", "1"))}
	for _, issuer := range []string{`'CN=x'`, `"'\"\\\u0001\u007f\n'''"`, `"\u2028\U0010FFFF # = ["`} {
		texts = append(texts, makePolicy("", strings.Replace(enrolment(repeated(1, 32), "CN=y"), `"CN=y"`, issuer, 1)))
	}
	for _, c := range explained {
		texts = append(texts, makePolicy(c.root, c.tables))
	}
	all, err := corpus.Read("../internal/corpus/cases")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all.Cases {
		texts = append(texts, string(c.Policy))
	}
	doc, err := os.ReadFile(filepath.FromSlash(policyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(doc), "```toml\n")[1:] {
		example, _, _ := strings.Cut(block, "```")
		texts = append(texts, example)
	}
	return texts
}

// values returns a copy of a policy without the digests of its text.
func values(t *testing.T, p *Policy) *Policy {
	t.Helper()
	c, err := p.Compile()
	if err != nil {
		t.Fatal(err)
	}
	return &c.Policy
}

// TestPolicyEncode: the text of a policy gives an equal policy, whatever keys it has.
func TestPolicyEncode(t *testing.T) {
	given := make(map[string]bool)
	for _, text := range policyTexts(t) {
		p := mustPolicy(t, text)
		if p.Digest() != evidence.Digest(sha256.Sum256([]byte(text))) {
			t.Errorf("the digest is not that of the text:\n%s", text)
		}
		encoded, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again := mustPolicy(t, string(encoded))
		if !reflect.DeepEqual(values(t, p), values(t, again)) {
			t.Errorf("%s\nbecame\n%s", text, encoded)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
			t.Errorf("a second encoding differs: %v", err)
		}
		for _, k := range policyKeys() {
			if name := k[strings.LastIndex(k, ".")+1:]; strings.Contains(string(encoded), name+" = ") || strings.Contains(string(encoded), "."+name+"]") {
				given[k] = true
			}
		}
	}
	for _, k := range policyKeys() {
		if !given[k] {
			t.Errorf("no policy of the tests gives %s", k)
		}
	}
}

// TestPolicyInGo: a policy that is built in Go equals that of its text, and its digest is
// that of its encoding.
func TestPolicyInGo(t *testing.T) {
	text := mustPolicy(t, makePolicy(anchoredPolicy, "[caller]\nuid = 0\n"))
	age, uid := text.MaxAnchorAge, int64(0)
	p := &Policy{Version: PolicyVersion}
	p.Freshness, p.MaxAnchorAge = AnchoredReport, age
	p.Launches = []Launch{{Measurement: repeated(0x4d, 48), Kind: KindPlain, Covers: CoversKernel, Label: "test firmware"}}
	p.Caller.UID = &uid
	if !reflect.DeepEqual(values(t, p), values(t, text)) {
		t.Errorf("got %+v, want %+v", p, text)
	}
	encoded, err := p.Encode()
	if err != nil || p.Digest() != evidence.Digest(sha256.Sum256(encoded)) {
		t.Errorf("the digest is not that of the encoding: %v", err)
	}
	before := text.Digest()
	text.Products = []string{"turin"}
	if text.Digest() == before {
		t.Error("a policy that was changed has the digest of its text")
	}
	text.Products = nil
	if text.Digest() != before {
		t.Error("a change that was taken back changes the digest")
	}
}

// TestPolicyInGoIsChecked: what is refused in a text is refused in Go, by key.
func TestPolicyInGoIsChecked(t *testing.T) {
	for key, change := range map[string]func(*Policy){
		"version":                 func(p *Policy) { p.Version = 0 },
		"unlisted_launch":         func(p *Policy) { p.Launches = nil },
		"launch":                  func(p *Policy) { p.Launches = []Launch{} },
		"launch[0]":               func(p *Policy) { p.Launches[0].Kind = "" },
		"launch[0].measurement":   func(p *Policy) { p.Launches[0].Measurement = "4D" },
		"products":                func(p *Policy) { p.Products = []string{} },
		"products[0]":             func(p *Policy) { p.Products = []string{"rome"} },
		"min_report_version":      func(p *Policy) { p.MinReportVersion = 6 },
		"vmpl[0]":                 func(p *Policy) { p.VMPL = []int{-1} },
		"freshness":               func(p *Policy) { p.Freshness = AnchoredReport },
		"max_anchor_age":          func(p *Policy) { p.Freshness, p.MaxAnchorAge = AnchoredReport, -7 },
		"guest_policy.min_abi":    func(p *Policy) { p.GuestPolicy.MinABI = "0.0" },
		"tcb":                     func(p *Policy) { p.TCB = map[string]TCB{} },
		"tcb.genoa.reported":      func(p *Policy) { p.TCB = map[string]TCB{"genoa": {Reported: map[string]int{"snp": 1}}} },
		"mitigations.launch":      func(p *Policy) { p.Mitigations.Launch = -1 },
		"image.image_id":          func(p *Policy) { p.Image.ImageID = repeated(1, 16) },
		"gcp.zones":               func(p *Policy) { p.GCP.Zones = []string{"a"} },
		"gcp.projects":            func(p *Policy) { p.GCP.Projects = []string{} },
		"pcr[0].index":            func(p *Policy) { p.PCRs = []PCR{{Bank: "sha256", Index: 24, Values: []string{repeated(1, 32)}}} },
		"pcr[0]":                  func(p *Policy) { p.PCRs = []PCR{{Bank: "sha256"}} },
		"start_value[0].value":    func(p *Policy) { p.StartValues = []StartValue{{Bank: "sha256", Value: repeated(0, 32)}} },
		"enrolment[0]":            func(p *Policy) { p.Enrolments = []Enrolment{{AK: "000b" + repeated(1, 32)}} },
		"ak_origin":               func(p *Policy) { p.AKOrigin = AKEnrolled },
		"app[0]":                  func(p *Policy) { p.Apps = []App{{Name: "a"}} },
		"log":                     func(p *Policy) { p.Log, p.UnlistedApps = Optional, Refuse },
		"agent.versions[0]":       func(p *Policy) { p.Agent.Versions = []string{"a\nb"} },
		"caller.covered":          func(p *Policy) { p.Caller.Covered = true },
		"platform.refuse":         func(p *Policy) { p.Platform = Platform{Require: []string{"ecc"}, Refuse: []string{"ecc"}} },
		"guest_policy.min_abi ":   func(p *Policy) { p.GuestPolicy.MinABI = "1" },
		"image.id_key_digests":    func(p *Policy) { p.Image.IDKeyDigests = []string{} },
		"denied_measurements[0]":  func(p *Policy) { p.DeniedMeasurements = []string{""} },
		"launch[0].measurement  ": func(p *Policy) { p.DeniedMeasurements = []string{p.Launches[0].Measurement} },
		"enrolment":               func(p *Policy) { p.Enrolments = []Enrolment{} },
		"unlisted_apps":           func(p *Policy) { p.UnlistedApps = "maybe" },
		"caller.uid":              func(p *Policy) { p.Caller.UID = new(int64); *p.Caller.UID = -1 },
		"chips": func(p *Policy) {
			p.Signers, p.VLEKCSPs, p.Chips = []string{"vlek"}, []string{"a"}, []string{repeated(1, 64)}
		},
		"signers":               func(p *Policy) { p.Signers = []string{"vlek"} },
		"vlek_csps":             func(p *Policy) { p.VLEKCSPs = []string{"a"} },
		"ek_roots":              func(p *Policy) { p.EKRoots = "none" },
		"ak_names[0]":           func(p *Policy) { p.AKNames = []string{"0004" + repeated(1, 32)} },
		"revocation":            func(p *Policy) { p.Revocation = Allow },
		"caller.executables[0]": func(p *Policy) { p.Caller.Executables = []string{repeated(0, 32)} },
	} {
		t.Run(key, func(t *testing.T) {
			p := mustPolicy(t, makePolicy("", ""))
			change(p)
			var e *PolicyError
			if err := p.Check(); !errors.As(err, &e) || e.Key != strings.TrimSpace(key) || e.Line != 0 {
				t.Errorf("got %v", err)
			}
			if _, err := p.Encode(); err == nil {
				t.Error("it is encoded")
			}
			if _, err := New(p, Config{}); !errors.Is(err, ErrMisuse) {
				t.Errorf("got %v from New", err)
			}
		})
	}
}

// TestVerifierKeepsItsPolicy: a Verifier does not follow what happens to the policy that
// it was made from.
func TestVerifierKeepsItsPolicy(t *testing.T) {
	document := evidencetest.New().Encode(t)
	text := makePolicy("products = [\"genoa\"]", app("billing", "", "billing 1"))
	p := mustPolicy(t, text)
	o := baseOptions(t)
	o.Policy = p
	v, err := o.verifier()
	if err != nil {
		t.Fatal(err)
	}
	p.Products[0], p.Launches[0].Measurement, p.Apps[0].Digests[0] = "turin", repeated(1, 48), repeated(1, 32)
	p.TolerateGaps, p.GuestPolicy.AllowDebug = true, true
	a, err := v.Appraise(document, o.expect(), o.Time)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	if want := mustPolicy(t, text).Digest().String(); a.Policy != want {
		t.Errorf("digest %s, want %s", a.Policy, want)
	}
}

// TestSurveyIsAPolicy: the policy of a draft is checked like every other.
func TestSurveyIsAPolicy(t *testing.T) {
	if err := rule.Survey().Check(); err != nil {
		t.Error(err)
	}
}

// TestEnrolmentOf: the rule of a record is read as the record.
func TestEnrolmentOf(t *testing.T) {
	text := mustPolicy(t, makePolicy("", certified(tpmRoot.certify('e', nil))))
	want := text.Enrolments[0]
	record := &keys.Enrolment{Type: want.Type, EKIssuer: want.EKIssuer}
	if err := errors.Join(record.EK.UnmarshalText([]byte(want.EK)), record.AK.UnmarshalText([]byte(want.AK)),
		record.EKCertificates.UnmarshalText([]byte(want.EKCertificates)), record.Enrolled.UnmarshalText([]byte(want.Enrolled))); err != nil {
		t.Fatal(err)
	}
	if got := EnrolmentOf(record); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
