// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestHostileEventIsCheap: refusing an event takes memory in proportion to its length,
// and to the longest list that is allowed.
func TestHostileEventIsCheap(t *testing.T) {
	fill := func(open, element, end string) []byte {
		n := (pcr.MaxContent - len(open) - len(end)) / len(element)
		return []byte(open + strings.Repeat(element, n) + end)
	}
	for name, event := range map[string][]byte{
		"values":       fill(`{"type":"log-start","time":1,"start":{"values":[`, `{},`, `{}]}}`),
		"declarations": fill(`{"type":"agent-start","time":1,"agent":{"declarations":[`, `{},`, `{}]}}`),
		"manifest":     fill(`{"type":"app","time":1,"app":{"manifest":[`, `{},`, `{}]}}`),
		"gated apps":   fill(`{"type":"gate-start","time":1,"gateStart":{"apps":[`, `{},`, `{}]}}`),
		"type":         fill(`{"type":"`, `\n`, `"}`),
		"bank":         fill(`{"type":"log-start","time":1,"start":{"values":[{"algorithm":"`, `\n`, `"}]}}`),
		"reason":       fill(`{"type":"gap","time":1,"gap":{"reason":"`, `\n`, `"}}`),
	} {
		t.Run(name, func(t *testing.T) {
			text := ""
			got := allocated(func() {
				if _, err := pcr.ParseEvent(event); err != nil {
					text = err.Error()
				}
			})
			if text == "" || len(text) > 1<<10 {
				t.Errorf("an error of %d bytes: %.200s", len(text), text)
			}
			if got > 12*pcr.MaxContent {
				t.Errorf("%d bytes allocated for %d", got, len(event))
			}
		})
	}
}

// TestEventValues: null is nowhere in an event, and an integer is one that every
// reader sees alike. The canonical spelling alone would let the latter pass.
func TestEventValues(t *testing.T) {
	records, _ := exampleLog()
	for _, r := range records {
		good := string(r.Content[5:])
		for old, bad := range map[string]string{
			`"values":[`:  `"values":[null,`,
			`"size":`:     `"size":9007199254740992,"x":`,
			`"count":`:    `"count":18446744073709551615,"x":`,
			`"type":`:     `"app":null,"type":`,
			`"manifest":`: `"manifest":null,"x":`,
			`"apps":[`:    `"apps":[null,`,
			`"refused":`:  `"refused":null,"x":`,
		} {
			event := strings.Replace(good, old, bad, 1)
			if at := strings.Index(event, `,"x":`); at >= 0 { // the old value goes
				end := at + strings.IndexAny(event[at+1:], ",}") + 1
				event = event[:at] + event[end:]
			}
			if event == good {
				continue
			}
			if e, err := pcr.ParseEvent([]byte(event)); err == nil {
				t.Errorf("%.200s: %+v", event, e)
			}
		}
	}
	big := &pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{App: "a", Manifest: pcr.Manifest{{Path: "/a", Mode: 0o100755, Size: 1 << 53}}}}
	big.App.Digest = pcr.ManifestDigest(big.App.Manifest)
	if _, err := big.Encode(); err == nil {
		t.Error("what no reader takes is encoded")
	}
	agent := func(count string) []byte {
		d := strings.Repeat("A", 42) + "E="
		return []byte(`{"type":"agent-start","time":1,"agent":{"version":"1","digest":"` + d + `","configuration":"` + d + `","agentKey":"` + d + `","previous":{"count":` + count + `,"digest":"` + d + `"}}}`)
	}
	if _, err := pcr.ParseEvent(agent("9007199254740991")); err != nil {
		t.Error(err)
	}
	if _, err := pcr.ParseEvent(agent("9007199254740992")); err == nil {
		t.Error("a log of 2^53 records is read")
	}
}
