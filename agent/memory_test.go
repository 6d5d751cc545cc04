// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"
	"time"
)

// TestWhenIdle: memory is returned once in each pause, and not while there is work.
func TestWhenIdle(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	tick, allocated, freed := make(chan time.Time), make(chan uint64), make(chan bool, 1)
	go whenIdle(ctx, tick, func() uint64 { return <-allocated }, func() { freed <- true })
	total := uint64(0)
	for i, step := range []struct {
		bytes uint64
		frees bool
	}{
		{50 << 20, false}, // the start
		{idleBytes + 1, false},
		{1000, true},
		{1000, false}, {idleBytes, false}, {0, false}, // still idle
		{10 << 20, false}, {10 << 20, false},
		{0, true}, {0, false},
	} {
		total += step.bytes
		tick <- time.Time{}
		allocated <- total
		tick <- time.Time{} // the step before is complete
		got := false
		select {
		case got = <-freed:
		default:
		}
		if got != step.frees {
			t.Errorf("step %d: freed %v, want %v", i, got, step.frees)
		}
		if step.bytes > idleBytes { // of the tick in between, which must not look idle
			total += step.bytes
		}
		allocated <- total
	}
}
