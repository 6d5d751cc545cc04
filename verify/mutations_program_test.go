// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// programOf returns the application of the recipe as if its files had these paths, and the table
// of a policy that lists it.
func programOf(extra string, paths ...string) (pcr.Event, string) {
	e := *billingApp.App
	e.Manifest = nil
	for _, p := range paths {
		file := billingApp.App.Manifest[0]
		file.Path = p
		e.Manifest = append(e.Manifest, file)
	}
	e.Digest = pcr.ManifestDigest(e.Manifest)
	return pcr.Event{Type: pcr.EventApp, App: &e}, fmt.Sprintf("[[app]]\nname = \"billing\"\ndigests = [%q]\n%s\n", e.Digest, extra)
}

// programMutations are applications of which only an interpreter was measured (case 110).
func programMutations() []mutation {
	var out []mutation
	add := func(name string, paths ...string) {
		event, table := programOf(`interpreter_only = "refuse"`, paths...)
		out = append(out, mutation{id: PolicyAppProgram, name: name, tables: table, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			event.Time = r.Events[1].Time
			r.Events[1] = event
		}})
	}
	add("java alone", "/usr/lib/jvm/java-17-openjdk-amd64/bin/java")
	add("node and libraries", "/usr/bin/node", "/usr/lib/libnode.so.108")
	add("a shell", "/bin/sh")
	event, _ := programOf("", "/usr/bin/python3.12")
	whole, _ := programOf("", "/opt/app.py", "/usr/bin/python3.12")
	out = append(out, mutation{id: PolicyAppProgram, name: "an interpreter alone, once",
		tables: fmt.Sprintf("[[app]]\nname = \"billing\"\ndigests = [%q, %q]\ninterpreter_only = \"refuse\"\n", event.App.Digest, whole.App.Digest),
		recipe: func(_ *testing.T, r *evidencetest.Recipe) {
			event.Time = r.Events[1].Time
			r.Events = append([]pcr.Event{r.Events[0], event}, at(2000, whole))
		}})
	return out
}

// TestProgramIsMoreThanAnInterpreter: a manifest that lists more is accepted by the same rule, and
// one that does not is named in an appraisal that does not refuse it.
func TestProgramIsMoreThanAnInterpreter(t *testing.T) {
	for name, c := range map[string]struct {
		extra   string
		paths   []string
		verdict Verdict
	}{
		"refused, and more is measured": {`interpreter_only = "refuse"`, []string{"/opt/app.jar", "/usr/bin/java"}, Pass},
		"refused, a program":            {`interpreter_only = "refuse"`, []string{"/usr/bin/billing"}, Pass},
		"not asked":                     {"", []string{"/usr/bin/java"}, NotAsserted},
	} {
		event, table := programOf(c.extra, c.paths...)
		r := evidencetest.New()
		event.Time = r.Events[1].Time
		r.Events[1] = event
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy("", table))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Check(PolicyAppProgram); a.Verdict != Pass || got.Verdict != c.verdict {
			t.Errorf("%s: %s, %+v\n%s", name, a.Verdict, got, explain(a))
		}
	}
}
