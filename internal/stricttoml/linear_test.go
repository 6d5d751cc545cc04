// SPDX-License-Identifier: Apache-2.0

//go:build unix

package stricttoml_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

// TestLinear: the cost of a text is in proportion to its length. Eight times as many keys
// take eight times as long, and would take 64 times as long if each were compared with all
// others. Processor time is measured, in one run: the load of the machine hardly adds to it.
func TestLinear(t *testing.T) {
	const few, times, most = 2000, 8, 24
	for name, text := range map[string]func(n int) string{
		"list":          func(n int) string { return "names = [" + lines(n, "'%d',\n") + "]" },
		"tables":        func(n int) string { return lines(n, "[[app]]\nname = '%d'\n") },
		"tables below":  func(n int) string { return "[[app]]\n" + lines(n, "[[app.part]]\nsize = %d\n") },
		"inline tables": func(n int) string { return "app = [" + lines(n, "{name = '%d'},") + "]" },
		"comments":      func(n int) string { return "names = [" + lines(n, "# %d\n'a',\n") + "]" },
		"blank lines":   func(n int) string { return lines(n, "\n\n\n\n# %d\n") + "version = 1" },
		"a late fault":  func(n int) string { return "names = [" + lines(n, "'%d',\n") + "1]" },
	} {
		t.Run(name, func(t *testing.T) {
			cost := func(text string) time.Duration {
				begin := processorTime(t)
				_, _ = stricttoml.Decode([]byte(text), limit, new(document))
				return processorTime(t) - begin
			}
			small, large := text(few), text(times*few)
			cost(small) // what is done once
			short := min(cost(small), cost(small), cost(small))
			var long time.Duration
			for range 5 { // a mistake shows in each of them
				if long = cost(large); long <= most*max(short, time.Millisecond/2) {
					return
				}
			}
			t.Errorf("%v for %d bytes, %v for %d: more than %d times as long", short, len(small), long, len(large), most)
		})
	}
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
