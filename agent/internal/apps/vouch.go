// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// confirm checks that the TPM's PCR still matches the log. An unchanged app adds no record, so
// that nothing else would notice: a unit must not start on a log that proves nothing any more.
func (s *Service) confirm(ctx context.Context, app string) error {
	l, err := s.Ledger.Wait(ctx)
	if err == nil {
		err = l.Confirm(ctx)
	}
	if err != nil {
		return fmt.Errorf("measure %s: its files are as the log says, and the log could not be compared with the TPM: %w", app, err)
	}
	return nil
}

// vouched takes back what is said of an app, if no record of this boot can be relied on.
func (s *Service) vouched(a api.App) api.App {
	l, up := s.Ledger.Now()
	if !up || a.State != api.AppMeasured {
		return a
	}
	if state := l.State(); !state.Synchronised {
		a.State, a.Digest, a.Covered, a.Files, a.Bytes = api.AppUnmeasured, (*evidence.Digest)(nil), nil, 0, 0
		a.Reason = "log and PCR do not match, so that no record proves anything until the next boot: " + state.Reason
	}
	return a
}
