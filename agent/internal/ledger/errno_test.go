// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestEveryFailureHasAKind: each durable call of a start and of records fails with each errno. The
// error says which kind of failure of the disk it is, so that its caller gets a code.
func TestEveryFailureHasAKind(t *testing.T) {
	for errno, kind := range map[syscall.Errno]error{
		syscall.ENOSPC: durable.ErrNoRoom, syscall.EDQUOT: durable.ErrNoRoom, syscall.EROFS: durable.ErrReadOnly,
		syscall.EIO: durable.ErrFailed, syscall.EMFILE: durable.ErrResources, syscall.ENOMEM: durable.ErrResources,
	} {
		for _, mode := range []durabletest.Mode{durabletest.FailBefore, durabletest.FailAfter, durabletest.FailTorn, durabletest.FailFrom} {
			failed := 0
			for step := 1; ; step++ {
				m := newMachine()
				m.faults.Break(step, mode, errno)
				err := startAndRecord(m)
				broken := ""
				if _, broken = m.faults.Steps(); broken == "" {
					break
				}
				if err == nil {
					continue // nothing depended on it
				}
				failed++
				want := kind
				if strings.HasPrefix(broken, "TPM ") {
					want = ledger.ErrTPM
				}
				// If all fails from a step on, the TPM may fail first.
				if !errors.Is(err, want) && !(mode == durabletest.FailFrom && errors.Is(err, ledger.ErrTPM)) {
					t.Errorf("%v at step %d, %s (%v): %v is not %v", errno, step, broken, mode, err, want)
				}
			}
			if failed < 10 {
				t.Errorf("%v, %v: only %d steps failed", errno, mode, failed)
			}
		}
	}
}

// startAndRecord starts an agent, which records two apps and ends, and then another one. It
// returns the first error.
func startAndRecord(m *machine) error {
	for range 2 {
		l, err := m.open()
		if err != nil {
			return err
		}
		for _, e := range []pcr.Event{agentEvent(pcr.EventAgent), appEvent("a"), appEvent("b"), stopEvent()} {
			if _, err := l.Append(background, e); err != nil {
				return err
			}
		}
		m.log.Kill()
	}
	return nil
}
