// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Go collects garbage when the heap has grown by this percentage of what is in use. In the agent
// that is a few MiB. With Go's usual 100 an agent that answers thousands of requests a second
// would collect every few milliseconds, and spend a third of its time on that. With 800 it gives 64
// clients a sixth more documents than with 300. The variable GOGC still decides if it is set, and
// GOMEMLIMIT of the unit limits the whole.
const collectAt = 800

// The agent is idle if it has allocated at most idleBytes in idleTime.
const (
	idleTime  = 5 * time.Second
	idleBytes = 1 << 20
)

// thrift returns memory to the system whenever the agent becomes idle, until ctx ends.
func thrift(ctx context.Context) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	tick := time.NewTicker(idleTime)
	defer tick.Stop()
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	whenIdle(ctx, tick.C, func() uint64 {
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}, giveBack)
}

// giveBack returns to the system what an idle agent does not need.
func giveBack() {
	debug.FreeOSMemory()
	forgetProgram()
}

// whenIdle looks at each tick how much was allocated so far, and calls free once in each time
// without work.
func whenIdle(ctx context.Context, tick <-chan time.Time, allocated func() uint64, free func()) {
	last, freed := uint64(0), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick:
		}
		now := allocated()
		idle := now-last <= idleBytes
		if last = now; idle && !freed {
			free()
		}
		freed = idle
	}
}
