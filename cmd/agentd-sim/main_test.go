// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/cvm-agentd/agentd/internal/flags"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
)

// TestOnlyFaultsAreAList: each flag but --fault can be given once.
func TestOnlyFaultsAreAList(t *testing.T) {
	n := 0
	flagSet(new(options)).VisitAll(func(x *flag.Flag) {
		n++
		if _, once := x.Value.(*flags.Single); once == (x.Name == "fault") {
			t.Errorf("--%s can be given once: %v", x.Name, once)
		}
	})
	if n < 10 {
		t.Errorf("the simulator has only %d flags", n)
	}
	if _, err := parse([]string{"--dir", "/a", "--fault", "busy", "--fault", "stall"}); err != nil {
		t.Error(err)
	}
	if o, err := parse([]string{"--dir", "/a", "--dir", "/b"}); err == nil {
		t.Errorf("the simulator would use %s", o.dir)
	}
}

// TestFaultsAreInHelp: the help lists every fault, since tests try all that it lists.
func TestFaultsAreInHelp(t *testing.T) {
	_, rest, _ := strings.Cut(usage, "--fault NAME[=VALUE]")
	list, _, _ := strings.Cut(rest, "--raise-tcb")
	listed := strings.FieldsFunc(list, func(r rune) bool { return !unicode.IsLower(r) && r != '-' })
	for name := range new(simulation).switches() {
		if !slices.Contains(listed, name) {
			t.Errorf("%s is not in the help", name)
		}
	}
	for name := range soft.Fields() {
		if !slices.Contains(listed, name) {
			t.Errorf("ignores=%s is not in the help", name)
		}
	}
}
