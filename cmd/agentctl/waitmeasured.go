// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// pollPause is the time between two questions to the agent, and tellPause the time after which
// the command says again what it waits for.
const (
	pollPause = 200 * time.Millisecond
	tellPause = 10 * time.Second
)

// waitMeasured waits until every application that can be measured is, and fails if one cannot
// be. It says now and then which it waits for.
func (t *terminal) waitMeasured(ctx context.Context, s *sockets) error {
	tick, tell := time.NewTicker(pollPause), time.NewTicker(tellPause)
	defer tick.Stop()
	defer tell.Stop()
	late := "the agent is starting"
	for {
		now, done, err := t.allMeasured(ctx, s)
		switch {
		case done, err != nil && ctx.Err() == nil:
			return err
		case err == nil:
			late = now
		}
		select {
		case <-ctx.Done():
			return &exitError{code: exitUnavailable, err: fmt.Errorf("wait until every application is measured: %w: %s", ctx.Err(), late)}
		case <-tell.C:
			fmt.Fprintf(t.err, "agentctl: still waiting: %s\n", late)
		case <-tick.C:
		}
	}
}

// allMeasured checks once. Late is what is waited for.
func (t *terminal) allMeasured(ctx context.Context, s *sockets) (late string, done bool, err error) {
	starting := "the agent is starting"
	st, err := soon(ctx, s.clientSocket().Status)
	if err != nil {
		return "", false, failed(err)
	}
	switch {
	case st.TPM.Reason == api.ReasonStarting:
		return starting, false, nil
	case st.TPM.State != api.StateOK:
		return "", false, (&exitError{code: exitUnavailable, err: fmt.Errorf("nothing can be measured: the TPM is %s: %s", st.TPM.State, st.TPM.Reason)}).withHint("`agentctl doctor` looks for it")
	case st.Ledger.Full:
		return "", false, (&exitError{code: exitUnavailable, err: errors.New("nothing can be measured: the measurement log is full")}).withHint(api.CodeLogFull.Info().Hint)
	case st.Ledger.Reason == api.ReasonStarting:
		return starting, false, nil
	case !st.Ledger.Synchronised:
		return "", false, (&exitError{code: exitUnavailable, err: fmt.Errorf("nothing can be measured: %s", st.Ledger.Reason)}).withHint("`agentctl status` says more")
	}
	all, err := soon(ctx, s.adminSocket().Apps)
	if err != nil {
		return "", false, failed(err)
	}
	var refused, pending []string
	for _, a := range all {
		switch {
		case a.State == api.AppMeasured:
		case a.State == api.AppPending, a.Reading != nil && !a.Reading.Stuck:
			pending = append(pending, cleanLine(a.Name+" ("+readingText(a.Reading)+")"))
		default:
			refused = append(refused, fmt.Sprintf("%s: %s", a.Name, a.Reason))
		}
	}
	switch {
	case len(pending) > 0:
		return strings.Join(pending, ", "), false, nil
	case len(refused) > 0:
		return "", false, misuse(fmt.Errorf("%d of %d applications are not measured: %s", len(refused), len(all), strings.Join(refused, "; "))).
			withHint("`agentctl app list` has the reasons; each is measured again before its unit starts")
	}
	if t.json {
		return "", true, t.writeJSON(api.Apps{Apps: all})
	}
	fmt.Fprintf(t.out, "%s measured\n", count(len(all), "application"))
	return "", true, nil
}

// tellReading says now and then how far the agent is with an application, until the function that
// it returns is called. A failure to ask is not said: the request that goes on will fail as well.
func (t *terminal) tellReading(ctx context.Context, s *sockets, name string, every time.Duration) (ended func()) {
	return t.tellEvery(ctx, every, func(ctx context.Context) string {
		all, err := soon(ctx, s.adminSocket().Apps)
		i := slices.IndexFunc(all, func(a api.App) bool { return a.Name == name && a.Reading != nil })
		if err != nil || i < 0 {
			return ""
		}
		return fmt.Sprintf("%s is being measured: %s", name, readingText(all[i].Reading))
	})
}

// tellEvery says now and then what words returns, unless that is empty, until the function that it
// returns is called.
func (t *terminal) tellEvery(ctx context.Context, every time.Duration, words func(context.Context) string) (ended func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		tell := time.NewTicker(every)
		defer tell.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tell.C:
			}
			if say := words(ctx); say != "" {
				fmt.Fprintf(t.err, "agentctl: %s\n", cleanLine(say))
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// readingText says how far the agent is with the files of an application.
func readingText(r *api.Reading) string {
	switch {
	case r == nil:
		return "not begun"
	case r.Stuck:
		return fmt.Sprintf("no answer of the file system of %q for %d s", r.Path, r.Since)
	}
	out := fmt.Sprintf("%d of %d MiB read in %d s", r.Bytes>>20, r.Of>>20, r.Since)
	if left, known := r.Left(); known {
		out += fmt.Sprintf(", about %d s left", left)
	}
	if r.Path != "" {
		out += fmt.Sprintf(", at %q", r.Path)
	}
	return out
}
