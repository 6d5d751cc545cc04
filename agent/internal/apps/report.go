// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// Long readings are in the log every reportEvery. Shorter ones are not.
const (
	reportEvery  = 10 * time.Second
	mostReported = 4 // applications that one line names
)

// Report says in the log how far readings are that take long, until ctx ends. One line is about
// all of them.
func (s *Service) Report(ctx context.Context) { report(ctx, s.Log, s.List) }

func report(ctx context.Context, log *slog.Logger, list func() []api.App) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if which, progress := underWay(list()); which != "" {
			log.Info("files of applications are being read", "apps", which, "progress", progress)
		}
	}
}

// underWay returns which readings take long, and how far they are together. Stuck ones were
// reported when they became stuck.
func underWay(all []api.App) (which, progress string) {
	var names []string
	var sum api.Reading
	for _, a := range all {
		r := a.Reading
		if r == nil || r.Stuck || r.Since < uint64(reportEvery/time.Second) {
			continue
		}
		names = append(names, a.Name)
		sum.Bytes, sum.Of, sum.Since = sum.Bytes+r.Bytes, sum.Of+r.Of, max(sum.Since, r.Since)
	}
	if len(names) == 0 {
		return "", ""
	}
	if more := len(names) - mostReported; more > 0 {
		names = append(names[:mostReported], fmt.Sprintf("%d more", more))
	}
	progress = fmt.Sprintf("%d of %d MiB in %d s", sum.Bytes>>20, sum.Of>>20, sum.Since)
	if left, known := sum.Left(); known {
		progress += fmt.Sprintf(", about %d s left", left)
	}
	return strings.Join(names, ", "), progress
}
