// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strings"
	"testing"
)

// TestHintsDoNotLeadToForgedStores: case 96. An attacker who writes the disk chooses which
// code of a sealed blob a machine gives. So over all codes: no hint that leads to a recovery
// with the identity leaves the store key out, or comes before what to check first. The
// codes that a forgery gives on an unchanged machine speak of no recovery. No hint names the
// flag that goes without a sender.
func TestHintsDoNotLeadToForgedStores(t *testing.T) {
	forged := []Code{CodeWrongKey, CodeNoSender, CodeOtherStoreKey, CodeBadSignature}
	leads := 0
	for _, c := range Codes() {
		text := c.Title + c.Meaning + c.Hint
		if strings.Contains(text, "trust-unknown") {
			t.Errorf("%s: the hint names the flag that goes without a sender", c.Code)
		}
		if slices.Contains(forged, c.Code) && (strings.Contains(text, "recover") || !strings.Contains(c.Hint, "find out who wrote this disk")) {
			t.Errorf("%s: %s", c.Code, c.Hint)
		}
		before, after, ok := strings.Cut(c.Hint, "agentctl key recover")
		if !ok {
			if strings.Contains(strings.NewReplacer("recovery_recipients", "", "recovery identity", "").Replace(c.Hint), "recover") {
				t.Errorf("%s: the hint speaks of a recovery and does not say which: %s", c.Code, c.Hint)
			}
			continue
		}
		leads++
		command, _, _ := strings.Cut(after, "`")
		if !strings.Contains(command, "--recipient") {
			t.Errorf("%s: the recipients from now on are not named: %s", c.Code, c.Hint)
		}
		if strings.Contains(command, "--identity") && !strings.Contains(command, "--store-key") {
			t.Errorf("%s: recovery without the store key: %s", c.Code, c.Hint)
		}
		if strings.Contains(command, "--store-key") && c.Code != CodeAKUnusable && !strings.Contains(before, "check whether") {
			t.Errorf("%s: recovery before anything is checked: %s", c.Code, c.Hint)
		}
	}
	if leads < 15 {
		t.Errorf("only %d hints lead to a recovery: the test sees too little", leads)
	}
}
