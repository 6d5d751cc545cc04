// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
)

// ReadFirmwareLog returns the event log of the firmware from path, or nil without an error
// if path is empty or the machine has no such file. Files of securityfs have no size
// before they are read.
func ReadFirmwareLog(path string) ([]byte, error) {
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
