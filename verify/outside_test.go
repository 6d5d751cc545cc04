// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
)

// setOf returns a set with the enrolment of a recipe's AK, or of another key. Without by, it is
// pending.
func setOf(t *testing.T, ak, by string, certificates ...*x509.Certificate) *keys.Enrolments {
	t.Helper()
	e := &keys.Enrolment{Type: keys.EnrolmentType, EKIssuer: keys.NoIssuer, Enrolled: evidencetest.Time}
	for _, x := range []struct {
		to   *keys.Name
		text string
	}{{&e.AK, "000b" + ak}, {&e.EK, ekName('e')}} {
		if err := x.to.UnmarshalText([]byte(x.text)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range certificates {
		e.EKCertificates = append(e.EKCertificates, c.Raw)
	}
	l, err := keys.NewListed(e, by, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Encode()
	if err != nil {
		t.Fatal(err)
	}
	set, err := keys.ParseEnrolments(b)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// TestEnrolmentsOutside: an enrolment apart from the policy counts if the policy says so and a party
// approved it, and then as one of the policy. The appraisal names the set, accepted or not.
func TestEnrolmentsOutside(t *testing.T) {
	document := evidencetest.New().Encode(t)
	none, other := repeated(9, 32), otherRoot.certify('e', nil)
	good := tpmRoot.certify('e', nil)
	const approved = "outside_enrolments = \"approved\"\n"
	for _, c := range []struct {
		name, root, tables string
		set                *keys.Enrolments
		origin             AKOrigin
		failed             CheckID
		says               string // of the check that failed
	}{
		{name: "approved", root: approved, set: setOf(t, recipeAK(), "alice"), origin: AKEnrolled},
		{name: "approved, and asked for", root: approved + "ak_origin = \"enrolled\"", set: setOf(t, recipeAK(), "alice"), origin: AKEnrolled},
		{name: "pending", root: approved, set: setOf(t, recipeAK(), ""), origin: AKNone, failed: PolicyAK, says: "pending"},
		{name: "another key", root: approved, set: setOf(t, none, "alice"), origin: AKNone, failed: PolicyAK, says: "do not have it"},
		{name: "no set", root: approved, origin: AKNone, failed: PolicyAK, says: "was given no enrolments"},
		{name: "not looked at", root: `outside_enrolments = "none"`, set: setOf(t, recipeAK(), "alice"), origin: AKNone},
		{name: "not looked at, another is named", root: `ak_names = ["000b` + none + `"]`, set: setOf(t, recipeAK(), "alice"), origin: AKNone, failed: PolicyAK, says: "not one that the policy names"},
		{name: "in the policy, and not in the set", root: approved, tables: enrolment(recipeAK(), "none"), set: setOf(t, none, "alice"), origin: AKEnrolled},
		{name: "in the policy, and pending in the set", root: approved, tables: enrolment(recipeAK(), "none"), set: setOf(t, recipeAK(), ""), origin: AKEnrolled},
		{name: "named in the policy, no set", root: approved + `ak_names = ["000b` + recipeAK() + `"]`, origin: AKEnrolled},
		{name: "certified", root: approved + trusting(tpmRoot), set: setOf(t, recipeAK(), "alice", good), origin: AKCertified},
		{name: "certified elsewhere", root: approved + trusting(tpmRoot), set: setOf(t, recipeAK(), "alice", other), origin: AKEnrolled, failed: PolicyEKChain, says: ""},
		{name: "certified, and pending", root: approved + trusting(tpmRoot), set: setOf(t, recipeAK(), "", good), origin: AKNone, failed: PolicyAK, says: "pending"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy, o.Enrolments = mustPolicy(t, makePolicy(c.root, c.tables)), c.set
			a, err := appraiseEvidence(document, o)
			if err != nil {
				t.Fatal(err)
			}
			ids := failedIDs(a)
			if (a.Verdict == Pass) != (c.failed == "") || c.failed != "" && ids[0] != c.failed || a.AKOrigin != c.origin {
				t.Fatalf("%s, failed %v, AK %s, want %s\n%s", a.Verdict, ids, a.AKOrigin, c.origin, explain(a))
			}
			if c.failed != "" && !strings.Contains(a.Check(c.failed).Sentence, c.says) {
				t.Errorf("%s", a.Check(c.failed).Sentence)
			}
			looked := c.set != nil && strings.Contains(c.root, approved)
			switch u := a.Enrolments; {
			case (u != nil) != looked:
				t.Errorf("the appraisal names %+v", u)
			case u != nil && (u.Digest != hex.EncodeToString(sumOf(c.set)) || u.Count != 1):
				t.Errorf("the appraisal names %+v", u)
			case u != nil && u.State == keys.Approved != (u.By == "alice"):
				t.Errorf("the appraisal names %+v", u)
			}
			said := strings.Contains(strings.Join(a.Sentences, " "), `approved by "alice"`)
			if want := a.Verdict == Pass && looked && a.Enrolments.State == keys.Approved; said != want {
				t.Errorf("the sentences name the party: %v, want %v", said, want)
			}
		})
	}
}

func sumOf(s *keys.Enrolments) []byte { d := s.Digest(); return d[:] }

// TestOutsideEndorsementKey: the endorsement key of an enrolment apart from the policy is compared with that
// of an SVSM's manifest, as one of the policy is. One that is pending ties nothing.
func TestOutsideEndorsementKey(t *testing.T) {
	for _, c := range []struct {
		name   string
		by     string
		ek     byte // in the manifest; the enrolment has 'e'
		failed CheckID
	}{
		{"approved", "alice", 'e', ""},
		{"approved, with another vTPM", "alice", 'g', PolicyEndorsementKey},
		{"pending", "", 'e', PolicyBinding},
	} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, listed("svsm", "binding = \"svsm\"\noutside_enrolments = \"approved\""))
		o.Enrolments = setOf(t, recipeAK(), c.by)
		r := evidencetest.New()
		manifest(version0(c.ek))(t, r)
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		ids := failedIDs(a)
		if (c.failed == "") != (a.Verdict == Pass) || (c.failed == "") != (a.Binding == BindingSVSM) || c.failed != "" && !slices.Contains(ids, c.failed) {
			t.Errorf("%s: %s, binding %s, failed %v\n%s", c.name, a.Verdict, a.Binding, ids, explain(a))
		}
	}
}

// TestOutsideInPolicies: what no evidence could meet is refused, and the words say what the policy
// rests on.
func TestOutsideInPolicies(t *testing.T) {
	p := mustPolicy(t, makePolicy("outside_enrolments = \"approved\"\n"+trusting(tpmRoot), "[basis]\nhistory = \"tpm\"\n"))
	words := p.Explain()
	if !strings.Contains(strings.Join(words.Demands, " "), "approved enrolment apart from the policy") || !strings.Contains(strings.Join(words.Unchecked, " "), "can write to it decides") {
		t.Errorf("%+v", words)
	}
	if _, err := ParsePolicy([]byte(makePolicy(`outside_enrolments = "pending"`, ""))); err == nil {
		t.Error("pending enrolments would count")
	}
}

// TestEnrolmentsOfConfig: a verifier uses the set that it was made with, unless one comes with what is
// expected.
func TestEnrolmentsOfConfig(t *testing.T) {
	document := evidencetest.New().Encode(t)
	approved, pending := setOf(t, recipeAK(), "alice"), setOf(t, recipeAK(), "")
	for _, c := range []struct {
		name            string
		config, request *keys.Enrolments
		by              string // that the appraisal names
		verdict         Verdict
	}{
		{"of the verifier", approved, nil, "alice", Pass},
		{"of the verifier, pending", pending, nil, "", Fail},
		{"of the request before that of the verifier", pending, approved, "alice", Pass},
		{"of the request, pending, before that of the verifier", approved, pending, "", Fail},
	} {
		o := baseOptions(t)
		v, err := New(mustPolicy(t, makePolicy("outside_enrolments = \"approved\"\n", "")), Config{Roots: Roots{SNP: o.Roots}, Revocation: Revocation{SNP: o.Revocation}, Enrolments: c.config})
		if err != nil {
			t.Fatal(err)
		}
		o.Enrolments = c.request
		a, err := v.Appraise(document, o.expect(), o.Time)
		if err != nil {
			t.Fatal(err)
		}
		if a.Verdict != c.verdict || a.Enrolments == nil || a.Enrolments.By != c.by {
			t.Errorf("%s: %s, the appraisal names %+v", c.name, a.Verdict, a.Enrolments)
		}
	}
}
