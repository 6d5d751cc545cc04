// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"runtime"
	"testing"
)

// The agent runs one thread more than it has processors, unless a quota or the environment decides.
func TestThreads(t *testing.T) {
	for _, c := range []struct {
		processors, machine int
		variable            string
		want                int
	}{
		{1, 1, "", 2}, {2, 2, "", 3}, {64, 64, "", 65},
		{2, 8, "", 2}, {1, 2, "", 1},
		{2, 2, "2", 2}, {4, 2, "4", 4},
	} {
		if got := threads(c.processors, c.machine, c.variable); got != c.want {
			t.Errorf("%+v: %d threads", c, got)
		}
	}
}

// The number of processors is that without the further thread, however often it is asked for.
func TestUseProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	first := useProcessors()
	if again := useProcessors(); again != first || first < 1 {
		t.Errorf("%d processors, then %d", first, again)
	}
}
