// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/cvm-agentd/agentd/internal/caller"
)

// maxCommand is the longest command line that is read: that of systemd-cryptsetup has a few paths.
const maxCommand = 64 << 10

// Command returns the command line of a process, which its own memory says. The caller checks
// before and after which process and program that is.
func Command(pid int) ([]string, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return nil, fmt.Errorf("%w: read the command line of process %d: %w", caller.ErrUnknown, pid, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCommand+1))
	if err != nil || len(b) > maxCommand {
		return nil, fmt.Errorf("%w: read the command line of process %d, at most %d bytes: %d, %v", caller.ErrUnknown, pid, maxCommand, len(b), err)
	}
	var out []string
	for _, x := range bytes.Split(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		out = append(out, string(x))
	}
	return out, nil
}
