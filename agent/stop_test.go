// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"regexp"
	"testing"
	"time"
)

// TestStopFitsTheUnit: systemd kills the agent only after all that a stop waits for at most.
func TestStopFitsTheUnit(t *testing.T) {
	b, err := os.ReadFile("../systemd/agentd.service")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindSubmatch(b)
	if m == nil {
		t.Fatal("the unit has no TimeoutStopSec= in seconds")
	}
	unit, err := time.ParseDuration(string(m[1]) + "s")
	if err != nil {
		t.Fatal(err)
	}
	// Requests, the parts, an earlier record, the record of the stop, the store, the AK's handle.
	if most := stopPatience + workPatience + workPatience + leavePatience + workPatience + closePatience; unit <= most {
		t.Errorf("the unit waits for %v, the agent stops within %v", unit, most)
	}
}
