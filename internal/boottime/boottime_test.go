// SPDX-License-Identifier: Apache-2.0

package boottime_test

import (
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/boottime"
)

// The clock is the one that /proc/uptime shows, which is the one of start times.
func TestNow(t *testing.T) {
	before := boottime.Now()
	b, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	after := boottime.Now()
	seconds, err := strconv.ParseFloat(strings.Fields(string(b))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	shown := uint64(seconds * 1000)
	if before > after || shown+boottime.Tick < before || shown > after+boottime.Tick {
		t.Errorf("/proc/uptime shows %d ms, read between %d and %d ms", shown, before, after)
	}
}
