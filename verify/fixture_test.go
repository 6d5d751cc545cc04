// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// basePolicy accepts what evidencetest.New makes. Cases put root keys before its
// tables and further tables behind them.
const basePolicy = `version = 1
%s

[[launch]]
measurement = "%s"
kind = "plain"
covers = "firmware+kernel+cmdline"
label = "test firmware"
%s
`

// policyText is basePolicy with root keys and tables of a case.
func makePolicy(root, tables string) string {
	return fmt.Sprintf(basePolicy, root, hex.EncodeToString(evidencetest.Measurement), tables)
}

func mustPolicy(tb testing.TB, text string) *Policy {
	tb.Helper()
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		tb.Fatalf("%v\n%s", err, text)
	}
	return p
}

func baseOptions(tb testing.TB) Options {
	tb.Helper()
	return Options{
		Policy: mustPolicy(tb, makePolicy("", "")),
		Nonce:  evidencetest.Nonce,
		Time:   evidencetest.Time,
		Roots:  evidencetest.Roots(tb),
	}
}

// anchored turns a recipe into one of anchored evidence.
func anchored(r *evidencetest.Recipe) {
	r.Anchored = true
	r.Statement.Freshness = evidence.Anchored
}

const anchoredPolicy = "freshness = \"anchored\"\nmax_anchor_age = \"2m\""

// failedIDs lists the checks that failed, without those that were not reached.
func failedIDs(a *Appraisal) []CheckID {
	var ids []CheckID
	for _, c := range a.Checks {
		if c.Verdict == Fail {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func explain(a *Appraisal) string {
	var b strings.Builder
	for _, c := range a.Checks {
		if c.Verdict == Fail || c.Verdict == NotAsserted && c.Required {
			fmt.Fprintf(&b, "%s %s: %s (expected %s, found %s)\n", c.Verdict, c.ID, c.Sentence, c.Expected, c.Found)
		}
	}
	return b.String()
}

// says reports whether one of the sentences for people holds this text.
func says(a *Appraisal, text string) bool {
	for _, s := range a.Sentences {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}
