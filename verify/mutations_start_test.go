// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

const startValueTable = `
[[start_value]]
bank = "sha256"
value = "0101010101010101010101010101010101010101010101010101010101010101"
`

// afterShim are values of PCR 14 that a machine of Ubuntu 24.04 quoted.
var afterShim = map[pcr.Algorithm]string{
	pcr.SHA256: "306f9d8b94f17d93dc6e7cf8f5c79d652eb4c6c4d13de2dddc24af416e13ecaf",
	pcr.SHA384: "937437d07298010015f4598395c9f8dc202ef36e0be3897bba89874bf612b5da092beadfe37f79714a60193819e384ad",
}

// began puts the log into a PCR that had these values before. A bank that is left out was
// zero.
func began(index uint32, values map[pcr.Algorithm][]byte) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.LogPCR, r.Start = index, values
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, index}}, {Algorithm: pcr.SHA384, PCRs: []uint32{index}}}
	}
}

func startAt(value byte) func(*testing.T, *evidencetest.Recipe) {
	return began(13, map[pcr.Algorithm][]byte{pcr.SHA256: bytes.Repeat([]byte{value}, 32)})
}

// shimStart returns the values after shim, after n separators.
func shimStart(n int) map[pcr.Algorithm][]byte {
	out := map[pcr.Algorithm][]byte{}
	for bank, text := range afterShim {
		out[bank], _ = hex.DecodeString(text)
		out[bank] = separators(bank, out[bank], n)
	}
	return out
}

func zeroStart(n int) map[pcr.Algorithm][]byte {
	out := map[pcr.Algorithm][]byte{}
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
		out[bank] = separators(bank, make([]byte, bank.Size()), n)
	}
	return out
}

func separators(bank pcr.Algorithm, value []byte, n int) []byte {
	for range n {
		value = bank.Sum(value, bank.Sum([]byte("os-separator")))
	}
	return value
}

// oneBank changes one bit of one bank.
func oneBank(values map[pcr.Algorithm][]byte, bank pcr.Algorithm) map[pcr.Algorithm][]byte {
	values[bank][5] ^= 1
	return values
}

// told gives the recipe a firmware's log that leads to the value that a PCR had when the
// log began, in bank SHA-256.
func told(index uint32) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Booted()
		e := evidencetest.FirmwareEvent{PCR: index, Digest: evidencetest.Firmware[0].Digest}
		r.FirmwareLog = evidencetest.FirmwareLog(append(evidencetest.Firmware[:2:2], e)...)
		began(index, map[pcr.Algorithm][]byte{pcr.SHA256: pcr.SHA256.Sum(make([]byte, 32), e.Digest)})(t, r)
	}
}

var startMutations = []mutation{
	{id: PolicyStartValue, name: "case 88 unexplained start value", recipe: startAt(1)},
	{id: PolicyStartValue, name: "case 88 another start value than the listed", tables: startValueTable, recipe: startAt(2)},
	{id: PolicyStartValue, name: "case 88 from an index", recipe: fromTwo, opts: continued(func(s *LogState) { s.Start[0].Value = bytes.Repeat([]byte{1}, 32) })},
	{id: PolicyStartValue, name: "case 88 the firmware's log leads to it", recipe: told(13)},
	{id: PolicyStartValue, name: "case 102 after two separators", recipe: began(13, zeroStart(2))},
	{id: PolicyStartValue, name: "case 102 after a separator in a PCR that gets none", root: "log_pcr = 15", recipe: began(15, zeroStart(1))},
	{id: PolicyStartValue, name: "case 102 after a separator in one bank, another value in the other", recipe: began(13, oneBank(zeroStart(1), pcr.SHA384))},
	{id: PolicyStartValue, name: "case 102 after shim in another PCR", recipe: began(13, shimStart(0))},
	{id: PolicyStartValue, name: "case 102 after shim and two separators", root: "log_pcr = 14", recipe: began(14, shimStart(2))},
	{id: PolicyStartValue, name: "case 102 after shim in one bank, another value in the other", root: "log_pcr = 14", recipe: began(14, oneBank(shimStart(0), pcr.SHA384))},
}

// TestStartValues: a value that only boot software leaves is accepted and named, and one
// that the policy lists (case 102).
func TestStartValues(t *testing.T) {
	for _, c := range []struct {
		tables, want string
		recipe       func(*testing.T, *evidencetest.Recipe)
	}{
		{"", "PCR 13 had the value zero", began(13, nil)},
		{"", "PCR 14 had the value zero", began(14, nil)},
		{"", "PCR 13 had the value after one os-separator of systemd", began(13, zeroStart(1))},
		{"", "PCR 14 had the value after one os-separator of systemd", began(14, zeroStart(1))},
		{"", "PCR 14 had the value after shim of Ubuntu without MOKs", began(14, shimStart(0))},
		{"", "PCR 14 had the value after shim of Ubuntu without MOKs, and one os-separator of systemd", began(14, shimStart(1))},
		{"", "PCR 13 had the value after one os-separator of systemd or zero", began(13, map[pcr.Algorithm][]byte{pcr.SHA384: zeroStart(1)[pcr.SHA384]})},
		{startValueTable, "PCR 13 had the value that the policy lists or zero", startAt(1)},
	} {
		r := evidencetest.New()
		c.recipe(t, r)
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(fmt.Sprintf("log_pcr = %d", r.LogPCR), c.tables))
		a, err := appraiseEvidence(r.Encode(t), o)
		if err != nil || a.Verdict != Pass {
			t.Fatalf("%s: %v\n%s", c.want, err, explain(a))
		}
		if got := a.Check(PolicyStartValue).Sentence; got != "when the log began, "+c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if said := says(a, "When the log began, "+c.want+"."); said == strings.HasSuffix(c.want, "value zero") {
			t.Errorf("%s: said to people is %v", c.want, said)
		}
	}
}

// TestStartValueRefused: another value is refused as a matter of policy, with what leads to
// it and what to do; the evidence is genuine, and so says the appraisal (case 102).
func TestStartValueRefused(t *testing.T) {
	for _, c := range []struct {
		want   []string
		recipe func(*testing.T, *evidencetest.Recipe)
	}{
		{[]string{"PCR 13", "nothing in the evidence tells what extended it", "[[start_value]]", "deleted"}, startAt(1)},
		{[]string{"PCR 14", "the firmware's log leads to it, which proves nothing", "[[start_value]]", "deleted"}, told(14)},
		{[]string{"PCR 13", "the firmware's log leads to it, with one os-separator of systemd, which proves nothing"}, func(t *testing.T, r *evidencetest.Recipe) {
			told(13)(t, r)
			r.Start[pcr.SHA256] = separators(pcr.SHA256, r.Start[pcr.SHA256], 1)
		}},
	} {
		r := evidencetest.New()
		c.recipe(t, r)
		a, err := appraiseEvidence(r.Encode(t), baseOptions(t))
		if err != nil || a.Verdict != Fail || a.Class != ClassPolicy || a.ExitCode() != 5 || a.Binding != BindingGuestAsserted {
			t.Fatalf("%v, class %v, binding %s\n%s", err, a.Class, a.Binding, explain(a))
		}
		found := a.Check(PolicyStartValue)
		for _, w := range c.want {
			if !strings.Contains(found.Sentence, w) {
				t.Errorf("%q is not in %q", w, found.Sentence)
			}
		}
		if found.Found != "sha256 "+hex.EncodeToString(r.Start[pcr.SHA256]) {
			t.Errorf("found is %q", found.Found)
		}
	}
}

// TestDraftOfStartValues: the draft from a golden machine accepts it if its start value is
// known, or if the firmware's log leads to it. It says which.
func TestDraftOfStartValues(t *testing.T) {
	for _, c := range []struct {
		want   string
		recipe func(*testing.T, *evidencetest.Recipe)
	}{
		{"", began(13, nil)},
		{"had the value after shim of Ubuntu without MOKs. That is known", began(14, shimStart(0))},
		{"had the value after one os-separator of systemd. That is known", began(13, zeroStart(1))},
		{"was not zero: the firmware's log leads to it. Keep this", told(14)},
	} {
		r := evidencetest.New()
		c.recipe(t, r)
		document := r.Encode(t)
		text, a, err := draftOf(t, DraftPolicy, document)
		if err != nil {
			t.Fatalf("%v\n%s", err, explain(a))
		}
		if plain := strings.ReplaceAll(string(text), "\n# ", " "); !strings.Contains(plain, c.want) || c.want == "" && strings.Contains(plain, "log began") {
			t.Errorf("%q is not in the draft:\n%s", c.want, text)
		}
		o := baseOptions(t)
		o.Policy = mustPolicy(t, string(text))
		if a, err = appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
			t.Errorf("%s: %v\n%s", c.want, err, explain(a))
		}
	}
}
