// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
)

// TestDeviceOfAnotherUser: a device that the agent may not open is told from one that is not
// there, and the error has the command that helps.
func TestDeviceOfAnotherUser(t *testing.T) {
	const name = "AGENTD_TEST_DEVICE"
	if path := os.Getenv(name); path != "" {
		_, err := snp.Open(path)
		if !errors.Is(err, platform.ErrDenied) || errors.Is(err, platform.ErrAbsent) || !errors.Is(err, fs.ErrPermission) ||
			!strings.Contains(err.Error(), "udevadm trigger --action=change "+path) {
			t.Errorf("%v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become another user")
	}
	path := filepath.Join(t.TempDir(), "sev-guest")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(path); dir != os.TempDir(); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Open("/proc/self/exe") // whose folder the other user may not enter
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^TestDeviceOfAnotherUser$")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Env, cmd.Dir = append(os.Environ(), name+"="+path), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
