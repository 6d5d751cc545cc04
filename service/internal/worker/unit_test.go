// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/service/internal/settings"
)

// TestStopFitsTheUnit: systemd kills a worker only after all that its end waits for at most.
func TestStopFitsTheUnit(t *testing.T) {
	b, err := os.ReadFile("../../systemd/agentd-verifier.service")
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
	if most := settings.MaxDrain*time.Second + endPatience + tracesPatience; unit <= most {
		t.Errorf("the unit waits for %v, a worker ends within %v", unit, most)
	}
}
