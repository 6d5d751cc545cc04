// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestUnreadableExecutable: an agent that cannot tell which program it is ends, before it
// opens a socket or a device. The program is a copy of this test that its user may execute
// and not read.
func TestUnreadableExecutable(t *testing.T) {
	const variable = "AGENTD_TEST_UNREADABLE"
	if os.Getenv(variable) != "" {
		err := Run(t.Context(), Options{}, nil) // a device would be a nil function
		if !errors.Is(err, fs.ErrPermission) || !strings.HasPrefix(err.Error(), "hash the agent's own executable: ") || Refused(err) {
			t.Errorf("got %v, want why the executable cannot be read", err)
		}
		return
	}
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp("", "agentd-executable-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	program := filepath.Join(folder, "agent.test")
	if err := errors.Join(os.WriteFile(program, b, 0o111), os.Chmod(program, 0o111), os.Chmod(folder, 0o711)); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program, "-test.run=^TestUnreadableExecutable$", "-test.v")
	c.Dir, c.Env = "/", []string{variable + "=1"}
	if os.Geteuid() == 0 { // root may read every file
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := c.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EINVAL) {
		t.Skipf("this machine does not let root run a program as another user: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS: TestUnreadableExecutable") {
		t.Errorf("%v\n%s", err, out)
	}
}
