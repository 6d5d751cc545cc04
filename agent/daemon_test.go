// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// Work that does not end does not keep the agent from ending.
func TestEndsWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all sync.WaitGroup
		if !endsWithin(&all, time.Second) {
			t.Error("nothing was to end, and it did not")
		}
		hangs := make(chan struct{})
		all.Go(func() { <-hangs })
		began := time.Now()
		if endsWithin(&all, time.Second) || time.Since(began) != time.Second {
			t.Errorf("waited %v for work that hangs, want a second", time.Since(began))
		}
		close(hangs)
		if !endsWithin(&all, time.Second) {
			t.Error("it ended, and is said not to have")
		}
	})
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{errors.New("disk full"), false},
		{&startup.Refusal{Err: fmt.Errorf("lock: %w", &durable.LockedError{PID: 7})}, false}, // a later start may work
		{&startup.Refusal{Err: errors.New("PCR 16")}, true},
		{fmt.Errorf("start: %w", &startup.Refusal{Err: errors.New("PCR 16")}), true},
		{errors.Join(&config.Error{File: "c.toml", Err: errors.New("x")}), true},
	} {
		if Refused(c.err) != c.want {
			t.Errorf("%v: %v", c.err, !c.want)
		}
	}
}
