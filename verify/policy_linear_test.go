//go:build unix

package verify

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestPolicyIsReadInLinearTime: what a policy costs is in proportion to its length,
// however many values a list of it holds: eight times as many take eight times as long,
// and would take 64 times as long where each was held against all others. Processor time
// is measured, which others on the machine hardly add to, and both within one run. Rules
// that are tables of their own cost so much each that a policy of the greatest length
// does not hold enough of them to tell.
func TestPolicyIsReadInLinearTime(t *testing.T) {
	const few, times, most = 4000, 8, 24
	list := func(n int, format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i+1)
		}
		return b.String()
	}
	for name, text := range map[string]func(n int) string{
		"names": func(n int) string { return makePolicy("", "[agent]\nversions = ["+list(n, "\"%x\",\n")+"]") },
		"digests": func(n int) string {
			return makePolicy("", "[[app]]\nname = \"a\"\ndigests = ["+list(n, "\"%064x\",\n")+"]")
		},
		"PCR values": func(n int) string {
			return makePolicy("", "[[pcr]]\nbank = \"sha256\"\nindex = 4\nvalues = ["+list(n, "\"%064x\",\n")+"]")
		},
		"keys": func(n int) string { return makePolicy("ak_names = ["+list(n, "\"000b%064x\",\n")+"]", "") },
		"chips": func(n int) string {
			return makePolicy("chips = ["+list(n/2, "\"01%014x\",\n")+"]\ndenied_chips = ["+list(n/2, "\"02%014x\",\n")+"]", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			small, large := text(few), text(times*few)
			cost(t, small) // whatever is done once
			short := min(cost(t, small), cost(t, small), cost(t, small))
			var long time.Duration
			for range 5 { // a mistake shows in each of them
				if long = cost(t, large); long <= most*short {
					t.Logf("%v for %d bytes, %v for %d", short, len(small), long, len(large))
					return
				}
			}
			t.Errorf("%v for %d bytes, %v for %d: more than %d times as long", short, len(small), long, len(large), most)
		})
	}
}

// cost is the processor time of this process that it takes to read a policy.
func cost(t *testing.T, text string) time.Duration {
	t.Helper()
	begin := processorTime(t)
	mustPolicy(t, text)
	return processorTime(t) - begin
}

func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
