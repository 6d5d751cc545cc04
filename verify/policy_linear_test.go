// SPDX-License-Identifier: Apache-2.0

//go:build unix

package verify

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestPolicyIsReadInLinearTime: what a policy costs is in proportion to its length,
// however many values a list has. Eight times as many take eight times as long, and would
// take 64 times as long if each were compared with all others. Processor time is measured,
// in one run: the load of the machine hardly adds to it. Rules that are tables of their own
// cost so much each that a policy of the greatest length has too few of them to tell.
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

// TestRulesAreNotHeldAgainstEachEvent: what a log costs does not grow with the number of
// rules. Otherwise the author of the log could make a long policy take minutes.
func TestRulesAreNotHeldAgainstEachEvent(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes seconds")
	}
	const events, rules, most = 2000, 30000, 3
	several := func(format string) string {
		var b strings.Builder
		for i := range rules {
			fmt.Fprintf(&b, format, i+1)
		}
		return b.String()
	}
	for name, c := range map[string]struct {
		few, many string
		event     func(i int) pcr.Event
	}{
		"applications": {"[[app]]\nname = \"a\"\nrequired = false\ndigests = [\"" + repeated(1, 32) + "\"]\n",
			several("[[app]]\nname = \"a%05d\"\nrequired = false\ndigests = [\"" + repeated(1, 32) + "\"]\n"),
			func(i int) pcr.Event { return evidencetest.App(fmt.Sprintf("b%05d", i), "", "", "") }},
		"digests": {"[[app]]\nname = \"a\"\ndigests = [\"" + repeated(1, 32) + "\"]\n",
			"[[app]]\nname = \"a\"\ndigests = [" + several("\"%064x\",") + "]\n",
			func(i int) pcr.Event { return evidencetest.App("a", "", "", fmt.Sprint(i)) }},
		"agents": {"[agent]\nversions = [\"1\"]\n", "[agent]\nversions = [" + several("\"a%05d\",") + "]\n",
			func(i int) pcr.Event {
				return evidencetest.Agent(pcr.EventAgent, fmt.Sprintf("b%05d", i), evidencetest.Key('a'))
			}},
	} {
		t.Run(name, func(t *testing.T) {
			r := evidencetest.New()
			r.Events = r.Events[:1]
			for i := range events {
				r.Events = append(r.Events, c.event(i))
			}
			document := r.Encode(t)
			appraisal := func(policy *Policy) time.Duration {
				o := baseOptions(t)
				o.Policy = policy
				v, err := o.verifier()
				if err != nil {
					t.Fatal(err)
				}
				begin := processorTime(t)
				if _, err := v.Appraise(document, o.expect(), o.Time); err != nil {
					t.Fatal(err)
				}
				return processorTime(t) - begin
			}
			few, many := mustPolicy(t, makePolicy("", c.few)), mustPolicy(t, makePolicy("", c.many))
			appraisal(few) // whatever is done once
			short := min(appraisal(few), appraisal(few), appraisal(few))
			var long time.Duration
			for range 5 {
				if long = appraisal(many); long <= most*short {
					return
				}
			}
			t.Errorf("%v with one rule, %v with %d", short, long, rules)
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
