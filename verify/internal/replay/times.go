// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"

	"github.com/cvm-agentd/agentd/verify/internal/check"
)

var logTime = check.Definition{ID: "log.time", Class: check.Binding, Ground: check.OnHistory, Checks: "no record of the log is of a later time than the quote that covers it, by the guest's clock", Stops: "a quote that is dated back: its age, and whether something was measured before it, would be wrong"}

// checkTimes compares the last record that each quote covers with the time of that quote. Times of
// records do not fall, so that it is the latest.
func (w *walk) checkTimes() {
	if len(w.records) == 0 {
		w.Skip(logTime.ID, "the evidence contains no record")
		return
	}
	type covered struct {
		by      string
		records uint64
		at      uint64
	}
	quotes := []covered{{"quote", w.in.Head.Count, w.in.Time}}
	if a := w.in.AnchorHead; a != nil {
		quotes = append(quotes, covered{"quote of the anchor", a.Count, w.in.AnchorTime})
	}
	for _, q := range quotes {
		if q.records <= w.first.Count || q.records > w.first.Count+uint64(len(w.records)) {
			continue // the last record that it covers is not here
		}
		e, err := w.event(int(q.records - w.first.Count - 1))
		if err != nil { // checkRecords has refused it
			w.Skip(logTime.ID, "the last record cannot be read")
			return
		}
		if !w.Decide(logTime.ID, e.Time <= q.at, fmt.Sprintf("at most %d ms", q.at), fmt.Sprintf("%d ms", e.Time),
			"record %d of the log is of a later time than the %s that covers it", q.records-1, q.by) {
			return
		}
	}
}
