// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"strings"
	"testing"
)

// TestGate: the key says what happens, in exactly these spellings.
func TestGate(t *testing.T) {
	const rest = "unit = \"a.service\"\nuser = \"root\"\nfiles = [\"/usr/bin/a\"]\n"
	for line, want := range map[string]Gate{"": NoGate, "gate = false": NoGate, "gate = true": GateRecord, `gate = "enforce"`: GateEnforce} {
		if d, err := Parse("a", "a.toml", []byte(rest+line), AnyUser()); err != nil || d.Gate != want {
			t.Errorf("%s: %+v, %v", line, d, err)
		}
	}
	for _, line := range []string{`gate = "true"`, `gate = ""`, `gate = "record"`, "gate = 1", "gate = [true]", "gate = {}", "gate = true\ngate = true", "Gate = true"} {
		if d, err := Parse("a", "a.toml", []byte(rest+line), AnyUser()); err == nil || !strings.Contains(err.Error(), "a.toml:4") && !strings.Contains(err.Error(), "a.toml:5") {
			t.Errorf("%s: %+v, %v", line, d, err)
		}
	}
}
