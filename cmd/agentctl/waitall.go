// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// pollPause is the time between two questions to the agent.
const pollPause = 200 * time.Millisecond

// waitMeasured waits until every declared application is measured, or until the agent
// reports one that cannot be.
func (t *terminal) waitMeasured(ctx context.Context, s *sockets) error {
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		done, err := t.allMeasured(ctx, s)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitUnavailable, err: fmt.Errorf("wait until every application is measured: %w", ctx.Err())}
		case <-tick.C:
		}
	}
}

// allMeasured checks once.
func (t *terminal) allMeasured(ctx context.Context, s *sockets) (bool, error) {
	st, err := soon(ctx, s.clientSocket().Status)
	if err != nil {
		return false, failed(err)
	}
	switch {
	case st.TPM.Reason == api.ReasonStarting:
		return false, nil
	case st.TPM.State != api.StateOK:
		return false, (&exitError{code: exitUnavailable, err: fmt.Errorf("nothing can be measured: the TPM is %s: %s", st.TPM.State, st.TPM.Reason)}).withHint("`agentctl doctor` looks for it")
	case st.Ledger.Full:
		return false, (&exitError{code: exitUnavailable, err: errors.New("nothing can be measured: the measurement log is full")}).withHint(api.CodeLogFull.Info().Hint)
	case st.Ledger.Reason == api.ReasonStarting:
		return false, nil
	case !st.Ledger.Synchronised:
		return false, (&exitError{code: exitUnavailable, err: fmt.Errorf("nothing can be measured: %s", st.Ledger.Reason)}).withHint("`agentctl status` says more")
	}
	all, err := soon(ctx, s.adminSocket().Apps)
	if err != nil {
		return false, failed(err)
	}
	var refused []string
	pending := 0
	for _, a := range all {
		switch a.State {
		case api.AppMeasured:
		case api.AppPending:
			pending++
		default:
			refused = append(refused, fmt.Sprintf("%s: %s", a.Name, a.Reason))
		}
	}
	switch {
	case pending > 0:
		return false, nil
	case len(refused) > 0:
		return false, misuse(fmt.Errorf("%d of %d applications are not measured: %s", len(refused), len(all), strings.Join(refused, "; "))).
			withHint("`agentctl app list` has the reasons; each is measured again before its unit starts")
	}
	if t.json {
		return true, t.writeJSON(all)
	}
	fmt.Fprintf(t.out, "%s measured\n", count(len(all), "application"))
	return true, nil
}
