// SPDX-License-Identifier: Apache-2.0

package host

import (
	"regexp"
	"slices"
	"testing"
)

// TestTwoMachines: two machines beside each other run each check once, and those twice that other
// checks need. The second one boots for nothing that comes after its last check.
func TestTwoMachines(t *testing.T) {
	all := regexp.MustCompile("")
	first, second := chosen(checks, all, "first"), chosen(checks, all, "second")
	last := 0
	for i, c := range checks {
		if slices.Contains(beside, c.name) {
			last = i
		}
	}
	for i, c := range checks {
		aside := slices.Contains(beside, c.name)
		if first[c.name] != !aside || second[c.name] != (aside || c.vital && i < last) {
			t.Errorf("%s: first %v, second %v", c.name, first[c.name], second[c.name])
		}
		if aside && c.vital {
			t.Errorf("%s: others need it: it runs on both", c.name)
		}
	}
	for _, name := range beside {
		if !slices.ContainsFunc(checks, func(c check) bool { return c.name == name }) {
			t.Errorf("%q is not a check", name)
		}
	}
	if whole := chosen(checks, all, ""); len(whole) != len(checks) {
		t.Errorf("one machine runs %d of %d checks", len(whole), len(checks))
	}
}
