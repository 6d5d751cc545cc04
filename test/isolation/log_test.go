// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"regexp"
	"strings"
	"testing"
)

// heldErrors finds the number of errors that were counted instead of written.
var heldErrors = regexp.MustCompile(`(?m)^agentd_journal_held_total\{level="error"\} (\d+)`)

// maxLines is how many lines about one failure the log may have, whatever clients do: a few of
// each kind, and then their number.
const maxLines = 20

// A client that asks for what fails all the time does not fill the log.
func TestFailuresDoNotFillTheLog(t *testing.T) {
	for _, fault := range []string{"status=0x16", "busy", "short-report", "wrong-report-data", "key-wiped"} {
		t.Run(fault, func(t *testing.T) {
			m := switchOn(t, "--fault", fault, "--log-level", "info")
			before := strings.Count(m.Output(), "\n")
			failed := 0
			users := m.attackers(2, party{Method: "POST", Path: "/v1/evidence", Body: freshBody, Connections: 4, For: usual})
			for _, x := range startAll(t, users...) {
				a := x.end(false)
				for _, n := range a.Refused {
					failed += n
				}
			}
			lines := strings.Count(m.Output(), "\n") - before
			t.Logf("%d requests failed, %d lines", failed, lines)
			if failed < 5*maxLines {
				t.Fatalf("only %d requests failed", failed)
			}
			admin := m.Admin()
			defer admin.Close()
			metrics, err := admin.Metrics(t.Context())
			must(t, err)
			if held := heldErrors.FindSubmatch(metrics); held == nil || len(held[1]) < 2 {
				t.Errorf("the metrics do not count what the log leaves out: %q", held)
			}
			if lines > maxLines {
				t.Errorf("%d lines for %d requests that failed, want at most %d:\n%.2000s", lines, failed, maxLines, m.Output())
			}
		})
	}
}
