// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
)

// readFirmwareLog reads the event log of the firmware from path. It is none, without an
// error, where path is empty or the machine has no such file. Files of securityfs tell
// no size beforehand.
func readFirmwareLog(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the firmware's log: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, evidence.MaxFirmwareLog+1))
	if err != nil {
		return nil, fmt.Errorf("read the firmware's log: %w", err)
	}
	if len(b) > evidence.MaxFirmwareLog {
		return nil, fmt.Errorf("read the firmware's log: %s is longer than the %d bytes that evidence takes", path, evidence.MaxFirmwareLog)
	}
	return b, nil
}
