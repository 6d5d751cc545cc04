// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

var (
	inPart  = regexp.MustCompile(`([a-z]+) \(([a-z0-9-]+(?:, [a-z0-9-]+)*)\)`)
	allOf   = regexp.MustCompile(`all [0-9]+ of ([a-z]+)|all of ([a-z]+(?:, [a-z]+)* and [a-z]+)`)
	aPart   = regexp.MustCompile(`, | and `)
	aRule   = regexp.MustCompile(`policy \(([0-9]+) rules that it lacks or that do not apply\)`)
	fullyID = regexp.MustCompile(`[a-z]+\.[a-z0-9-]+`)
)

// namedIn returns which checks a short list names, and how many rules it counts.
func namedIn(text string, a *verify.Appraisal) (named map[string]bool, rules string) {
	text = strings.Join(strings.Fields(text), " ")
	named = map[string]bool{}
	for _, id := range fullyID.FindAllString(text, -1) {
		named[id] = true
	}
	for _, m := range inPart.FindAllStringSubmatch(text, -1) {
		for _, check := range strings.Split(m[2], ", ") {
			named[m[1]+"."+check] = true
		}
	}
	for _, m := range allOf.FindAllStringSubmatch(text, -1) {
		for _, part := range aPart.Split(m[1]+m[2], -1) {
			for _, c := range a.Checks {
				if strings.HasPrefix(string(c.ID), part+".") {
					named[string(c.ID)] = true
				}
			}
		}
	}
	if m := aRule.FindStringSubmatch(text); m != nil {
		rules = m[1]
	}
	return named, rules
}

// TestNothingLooksMoreProven: whatever the verdicts are, the short form names each check
// that failed and each that is not asserted, except rules that the policy does not have,
// which it counts. The first and last lines say how many, and that it is refused.
func TestNothingLooksMoreProven(t *testing.T) {
	model := modelAppraisal(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		a := anyAppraisal(random, model, []string{"one reason", "another reason", "a third"})
		var out bytes.Buffer
		(&terminal{out: &out}).printAppraisal(a, false)
		failed, open := verdict.With(a, verify.Fail), verdict.With(a, verify.NotAsserted)
		text := out.String()
		if len(failed) > 0 && !strings.HasPrefix(text, fmt.Sprintf("Failed, %d of %d checks:\n", len(failed), len(a.Checks))) ||
			!strings.Contains(text, fmt.Sprintf("\nNot asserted, %d of %d checks", len(open), len(a.Checks))) && len(failed) > 0 ||
			!strings.HasSuffix(text, "\nFAIL: refused (signature or binding), exit code 2.\n") {
			t.Fatalf("not counted, or not refused:\n%s", text)
		}
		for _, c := range failed {
			if !strings.Contains(text, "FAIL  "+string(c.ID)+" ") {
				t.Errorf("%s is not named:\n%s", c.ID, text)
			}
		}
		_, list, _ := strings.Cut(text, "Not asserted, ")
		named, rules := namedIn(list, a)
		unused := 0
		for _, c := range open {
			switch rule := strings.HasPrefix(string(c.ID), "policy."); {
			case rule && !c.Required:
				unused++
			case !named[string(c.ID)]:
				t.Errorf("%s is not named:\n%s", c.ID, text)
			}
		}
		if unused > 0 && rules != fmt.Sprint(unused) {
			t.Errorf("%s rules are counted, want %d:\n%s", rules, unused, text)
		}
		for _, c := range verdict.With(a, verify.Pass) {
			if named[string(c.ID)] && !strings.Contains(text, "FAIL  "+string(c.ID)) {
				t.Errorf("%s passed and is named:\n%s", c.ID, text)
			}
		}
	}
}
