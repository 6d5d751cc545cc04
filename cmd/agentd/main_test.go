// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/flags"
)

// TestFlagsAreGivenOnce: the daemon refuses any of its flags if it is given twice, in a
// drop-in of its unit for instance.
func TestFlagsAreGivenOnce(t *testing.T) {
	flagSet(new(options)).VisitAll(func(x *flag.Flag) {
		if _, once := x.Value.(*flags.Single); !once {
			t.Errorf("-%s may be given twice", x.Name)
		}
	})
	if _, err := parse([]string{"--config", "/a.toml", "--check", "--config=/b.toml"}); err == nil || !strings.Contains(err.Error(), `"/b.toml" for flag -config: it was given before, as "/a.toml"`) {
		t.Errorf("got %v", err)
	}
	if o, err := parse([]string{"--config", "/a.toml", "--check"}); err != nil || !o.named || !o.check {
		t.Errorf("got %+v, %v", o, err)
	}
}
