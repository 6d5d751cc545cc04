// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// lookAtLocks names processes of earlier agents that were killed and cannot end. What keeps them
// in the kernel, such as a file system that does not answer, keeps the present agent from it too.
func (d *doctor) lookAtLocks(folders ...string) {
	seen := make(map[int]bool)
	for _, folder := range folders {
		holders, err := durable.Holders(folder)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			d.note("folders", "", "%v", err)
		}
		for _, h := range holders {
			if h.Ended && !seen[h.PID] {
				d.note("folders", fmt.Sprintf("find the file system or device that does not answer: `cat /proc/%d/task/*/stack` as root", h.PID),
					"process %d, an earlier agent, was killed and waits in the kernel: it has a lock of %s, which the next agent passes over", h.PID, folder)
			}
			seen[h.PID] = true
		}
	}
}
