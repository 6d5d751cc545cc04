// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"os"
	"runtime"
	"testing"
)

// The agent runs one thread more than it has processors, once, unless the environment decides.
func TestProcessors(t *testing.T) {
	if os.Getenv("GOMAXPROCS") != "" {
		t.Skip("GOMAXPROCS is set")
	}
	n := processors()
	if again := processors(); again != n || n > runtime.NumCPU() {
		t.Errorf("%d processors, then %d, of %d", n, again, runtime.NumCPU())
	}
	if got := runtime.GOMAXPROCS(0); got != n+1 {
		t.Errorf("%d threads for %d processors", got, n)
	}
}
