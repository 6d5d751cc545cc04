// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// first is the first line of every drop-in of ours. One without it is somebody else's
// and neither replaced nor removed.
const first = "# Written by `agentctl app enable`. Remove it with `agentctl app disable`."

// DropIn is the drop-in that has app measured before its unit starts, and that lets the
// unit ask for evidence.
//
// Wants and not Requires: neither an upgrade of the agent nor an application beside
// this one that cannot be measured stops the unit. What holds it back is its own
// measurement, which runs as root ("+") outside of the unit's sandbox, but in its
// environment. EnvironmentFile= may belong to the unit's user, so nothing is taken from
// there: the admin socket is named, and agentctl has no loader for LD_PRELOAD to reach.
func DropIn(app string) []byte {
	return []byte(first + `
[Unit]
Wants=agentd-measured.target
After=agentd-measured.target

[Service]
SupplementaryGroups=agentd-clients
ExecStartPre=+/usr/bin/agentctl --admin ` + api.AdminSocket + ` measure --app ` + app + `
`)
}

// DropInPath is where the drop-in of unit lies.
func DropInPath(unit string) string {
	return "/etc/systemd/system/" + unit + ".d/50-agentd.conf"
}

// ErrForeign: at the place of the drop-in lies a file that is not ours.
var ErrForeign = errors.New("the file was not written by `agentctl app enable`")

// Write puts the drop-in in its place, complete or not at all.
func Write(root, unit string, content []byte) error {
	path := filepath.Join(root, DropInPath(unit))
	if _, err := ours(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write drop-in: %w", err)
	}
	return durable.WriteFile(path, content, 0o644)
}

// Remove removes the drop-in, and its folder where nothing else is in it.
func Remove(root, unit string) error {
	path := filepath.Join(root, DropInPath(unit))
	if _, err := ours(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove drop-in: %w", err)
	}
	os.Remove(filepath.Dir(path)) // fails where others have drop-ins there
	return nil
}

// Read is the drop-in of unit as it is.
func Read(root, unit string) ([]byte, error) {
	return ours(filepath.Join(root, DropInPath(unit)))
}

func ours(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(b), first+"\n") {
		return b, fmt.Errorf("%s: %w: move it away first", path, ErrForeign)
	}
	return b, nil
}
