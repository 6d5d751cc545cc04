// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestFailuresOfDisksHaveCodes: a failure of a file of the agent has a code of its own, wherever
// it comes from: a record, a measurement, a part that does not come up. Case 26.
func TestFailuresOfDisksHaveCodes(t *testing.T) {
	for errno, want := range map[unix.Errno]api.Code{
		unix.ENOSPC: api.CodeDiskFull, unix.EDQUOT: api.CodeDiskFull, unix.EROFS: api.CodeDiskReadOnly, unix.EIO: api.CodeDiskFailed,
		unix.EACCES: api.CodeDiskFailed, unix.ENOENT: api.CodeDiskFailed, unix.EMFILE: api.CodeResources, unix.ENFILE: api.CodeResources, unix.ENOMEM: api.CodeResources,
	} {
		failed := &durable.FailedError{Attempt: "replace ledger.json", Err: errno}
		for what, err := range map[string]error{
			"bare":        failed,
			"a record":    fmt.Errorf("append event %q: %w", "app", failed),
			"measuring":   &apps.RecordError{App: "billing", Err: failed},
			"not started": fmt.Errorf("%w: %w", startup.ErrNotUp, failed),
			"reading":     fmt.Errorf("measure billing: %w", failed),
		} {
			if p := server.Explain(err, errorCodes); p == nil || p.Code != want || p.RetryAfter == 0 {
				t.Errorf("%v, %s: %+v, want %s", errno, what, p, want)
			}
		}
		// What only a boot repairs is not a matter of the disk.
		both := fmt.Errorf("%w: %w", ledger.ErrDesynchronised, failed)
		if p := server.Explain(both, errorCodes); p == nil || p.Code != api.CodeDesynchronised {
			t.Errorf("%v: %+v", errno, p)
		}
	}
	// Errors of a device are not those of a disk.
	if p := server.Explain(fmt.Errorf("%w: %w", enrol.ErrNoTPM, unix.EIO), errorCodes); p == nil || p.Code != api.CodeTPM {
		t.Errorf("%+v", p)
	}
	// So it is if the caller could not be identified.
	if p := server.Explain(fmt.Errorf("%w: read its cgroup: %w", caller.ErrUnknown, unix.EMFILE), errorCodes); p == nil || p.Code != api.CodeResources {
		t.Errorf("%+v", p)
	}
	// Shortage says nothing about what was looked at, and passes.
	for _, errno := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if p := server.Explain(fmt.Errorf("measure billing: the agent is short of it: %w", errno), errorCodes); p == nil || p.Code != api.CodeResources || p.RetryAfter == 0 {
			t.Errorf("%v: %+v", errno, p)
		}
	}
}
