// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"testing"

	"github.com/cvm-agentd/agentd/internal/flags"
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
