// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// first is the first line of every drop-in of ours. A file without it belongs to another
// program, and is neither replaced nor removed.
const first = "# Written by `agentctl app enable`. Remove it with `agentctl app disable`."

// DropIn returns the drop-in that measures app before its unit starts, and that lets the unit
// ask for evidence.
//
// It says Wants and not Requires: neither an upgrade of the agent nor another application that
// cannot be measured stops the unit. Only its own measurement delays it. That runs as root ("+")
// outside the unit's sandbox, but in its environment. EnvironmentFile= may belong to the unit's
// user, so nothing depends on it: the line names the admin socket, and agentctl has no loader
// that LD_PRELOAD could reach.
//
// Start is the timeout of the unit's start, of [Service.StartTimeout]. Zero leaves it as it is.
// Credentials are names that [unitname.CheckCredential] accepts: systemd asks the agent for them
// before it runs anything of the unit, and does not start it without them.
//
// Gate is for an application that asks for the gate: what starts before the gate guards it is not
// known. The unit starts without the gate too, and the log says so.
func DropIn(app string, start time.Duration, gate bool, credentials ...string) []byte {
	limit, guarded := "", ""
	if gate {
		guarded = "Wants=" + gatewire.Unit + "\nAfter=" + gatewire.Unit + "\n"
	}
	if start > 0 {
		limit = fmt.Sprintf("TimeoutStartSec=%d\n", (start+time.Second-1)/time.Second)
	}
	for _, name := range credentials {
		limit += loads + name + from
	}
	return []byte(first + `
[Unit]
Wants=agentd-measured.target
After=agentd-measured.target
` + guarded + `
[Service]
SupplementaryGroups=agentd-clients
` + limit + `ExecStartPre=+/usr/bin/agentctl --admin ` + api.AdminSocket + ` measure --app ` + app + `
`)
}

// A line of the drop-in that loads a credential, before and after its name.
const (
	loads = "LoadCredential="
	from  = ":" + unitname.CredentialsSocket + "\n"
)

// MostNames is how long the names of a unit and of its credential can be together. The address
// with which systemd asks has 108 bytes (sun_path in unix(7)), of which it needs 24 or 25 itself.
const MostNames = 83

// Credentials returns the names of the credentials that a drop-in loads from the agent.
func Credentials(dropIn []byte) (names []string) {
	for line := range strings.Lines(string(dropIn)) {
		rest, ok := strings.CutPrefix(line, loads)
		name, ours := strings.CutSuffix(rest, from)
		if ok && ours && unitname.CheckCredential(name) == nil {
			names = append(names, name)
		}
	}
	return names
}

// DropInPath returns the path of the drop-in of unit.
func DropInPath(unit string) string {
	return "/etc/systemd/system/" + unit + ".d/50-agentd.conf"
}

// ErrForeign is returned for a file at the path of the drop-in that is not ours.
var ErrForeign = errors.New("the file was not written by `agentctl app enable`")

// Write writes the drop-in of unit below root as a whole.
func Write(root, unit string, content []byte) error {
	path, err := dropIn(root, unit)
	if err != nil {
		return err
	}
	if _, err := ours(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write drop-in: %w", err)
	}
	return durable.WriteReadable(path, content)
}

// Remove removes the drop-in, and its folder if that is empty then.
func Remove(root, unit string) error {
	path, err := dropIn(root, unit)
	if err != nil {
		return err
	}
	if _, err := ours(path); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove drop-in: %w", err)
	}
	os.Remove(filepath.Dir(path)) // fails if the folder contains other drop-ins
	return nil
}

// Read returns the content of the drop-in of unit.
func Read(root, unit string) ([]byte, error) {
	path, err := dropIn(root, unit)
	if err != nil {
		return nil, err
	}
	return ours(path)
}

// dropIn returns where the drop-in of unit below root is, or would be made.
func dropIn(root, unit string) (string, error) { return Place(root, DropInPath(unit)) }

// Place returns where a file below root is, or would be made. The folders on the way may be links, which
// lead as they do when root is "/". So what is written to an image never goes to this machine.
func Place(root, path string) (string, error) {
	dir, err := Within(root, filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return filepath.Join(dir, filepath.Base(path)), nil
}

func ours(path string) ([]byte, error) {
	b, err := durable.ReadRegular(path, maxFile) // a pipe in an image would wait for a writer
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(string(b), first+"\n") {
		return b, fmt.Errorf("%s: %w: move it away first", path, ErrForeign)
	}
	return b, nil
}
