// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// yardstick names what the test itself does beside its clients: it replaces a small file on the
// disk of the agent, durably, as the agent does for each change of its store. If that becomes
// slower, the machine has other work to do.
const yardstick = "yardstick"

// yardstick begins to replace files. The function that it returns ends that, and returns how long
// each took.
func (m *machine) yardstick() func() account {
	m.t.Helper()
	path := filepath.Join(m.t.TempDir(), yardstick)
	must(m.t, os.Mkdir(path, 0o700))
	dir, err := durable.Open(path)
	must(m.t, err)
	ended, done := make(chan struct{}), make(chan account, 1)
	go func() {
		var a account
		for {
			select {
			case <-ended:
				done <- a
				return
			case <-time.After(5 * time.Millisecond):
			}
			begun := time.Now()
			if err := dir.Replace(yardstick, make([]byte, 4096)); err != nil {
				m.t.Errorf("replace the file of the yardstick: %v", err)
				done <- a
				return
			}
			a.Times = append(a.Times, time.Since(begun))
		}
	}()
	return func() account {
		close(ended)
		a := <-done
		must(m.t, dir.Close())
		return a
	}
}

// ticks is how many a second of processor time has in /proc (USER_HZ, proc(5)).
const ticks = 100

// processorTime returns how long processors have worked for the agent.
func (m *machine) processorTime() time.Duration {
	m.t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(m.PID()), "stat"))
	must(m.t, err)
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from field 3 on
	return time.Duration(number(m.t, f[11])+number(m.t, f[12])) * time.Second / ticks
}

// answers returns how many requests were answered, at least 1.
func answers(table map[string]account) int {
	n := 0
	for name, a := range table {
		if name == yardstick {
			continue
		}
		n += len(a.Times)
		for _, refused := range a.Refused {
			n += refused
		}
	}
	return max(n, 1)
}
