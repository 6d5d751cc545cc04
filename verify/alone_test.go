// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestParavisorWithoutAQuote: the HCL report alone is appraised, and never accepted: each check of
// the quote is open, whatever the policy is content with. Less than a whole quote is broken.
func TestParavisorWithoutAQuote(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*AzureSet)
		class  Class
		open   bool // whether the checks of the quote are open, and nothing failed
	}{
		"whole":        {func(*AzureSet) {}, ClassAccepted, false},
		"no quote":     {func(s *AzureSet) { s.Quote, s.Signature, s.PCRs = nil, nil, nil }, ClassBinding, true},
		"no signature": {func(s *AzureSet) { s.Signature = nil }, ClassBinding, false},
		"values alone": {func(s *AzureSet) { s.Quote, s.Signature = nil, nil }, ClassBinding, false},
		"no values":    {func(s *AzureSet) { s.PCRs = nil }, ClassBinding, false},
	} {
		for _, freshness := range []string{"", `freshness = "any"`} {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, paravisorPolicy("paravisor", freshness))
			m := paravisorSet(nil, func(s *AzureSet, _ *options) { c.change(s) })(t, &o)
			a, err := appraiseParavisor(*m.set, o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Class != c.class || (a.Verdict == Pass) != (c.class == ClassAccepted) {
				t.Errorf("%s, %q: %s, class %v\n%s", name, freshness, a.Verdict, a.Class, explain(a))
			}
			for _, x := range a.Checks {
				if c.open && strings.HasPrefix(string(x.ID), "quote.") && (x.Verdict != NotAsserted || !x.Required) {
					t.Errorf("%s, %q: %s is %s, required %v", name, freshness, x.ID, x.Verdict, x.Required)
				}
			}
		}
	}
}

// TestFurtherUserOfALaterRecord: an application that got a further user later is another version,
// although unit, user, files and the bytes of the declaration are those of before.
func TestFurtherUserOfALaterRecord(t *testing.T) {
	r := evidencetest.New()
	for i, users := range []pcr.AppUsers{nil, {{User: "www-data", UID: 991}}, {{User: "www-data", UID: 992}}} {
		e := *billingApp.App
		e.Users = users
		r.Events = append(r.Events, at(uint64(3000+i), pcr.Event{Type: pcr.EventApp, App: &e}))
	}
	for users, want := range map[string]Verdict{`users = ["www-data"]`: Pass, `users = ["mail"]`: Fail, "": Fail} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", "[[app]]\nname = \"billing\"\ndigests = [\""+billingApp.App.Digest.String()+"\"]\ncovered = \"now\"\nuser = \"billing\"\n"+users+"\n"))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Check(PolicyAppUnit).Verdict; got != want {
			t.Errorf("%s: %s, want %s\n%s", users, got, want, explain(a))
		}
	}
}

// TestDynamicUserOfALaterRecord: an application whose user became a dynamic one is another version.
func TestDynamicUserOfALaterRecord(t *testing.T) {
	r := evidencetest.New()
	e := *billingApp.App
	e.UID, e.Dynamic = nil, true
	r.Events = append(r.Events, at(3000, pcr.Event{Type: pcr.EventApp, App: &e}))
	for kind, want := range map[string]Verdict{"user = \"billing\"": Fail, "user = \"billing\"\ndynamic_user = true": Fail, "": Pass} {
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", "[[app]]\nname = \"billing\"\ndigests = [\""+billingApp.App.Digest.String()+"\"]\ncovered = \"now\"\nunit = \"billing.service\"\n"+kind+"\n"))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Check(PolicyAppUnit).Verdict; got != want {
			t.Errorf("%q: %s, want %s\n%s", kind, got, want, explain(a))
		}
	}
}
