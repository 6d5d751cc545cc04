// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"
	"runtime/debug"

	"github.com/cvm-agentd/agentd/service/internal/settings"
)

// Go collects garbage when the heap has grown by this percentage of what is in use. With Go's usual 100
// a worker under load spends a sixth of its processor time on that.
const collectAt = 300

// What clients can make a worker hold, in bytes, as docs/verifier-service.md says. The heap grows up to
// that before garbage is collected more often; the rest of what is said there is of the program itself.
const (
	heapBase      = 16 << 20
	heapEach      = 64 << 10 // of a connection
	heapAppraisal = 12       // times a body; the other quarter is for what the collector has not seen yet
)

// useMemory says when garbage is collected. The variables GOGC and GOMEMLIMIT decide if they are set.
func useMemory(l *settings.Limits) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(heapBase + heapEach*int64(l.Connections) + heapAppraisal*int64(l.Body)*int64(l.AtOnce))
	}
}
