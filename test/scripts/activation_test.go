// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

// TestSocketActivation: the agent takes over sockets that systemd made, says when it
// is ready, and leaves the sockets to the next one. There is no TPM here.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts the daemon: not with -short")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	text := strings.ReplaceAll(`
[sockets]
client = "DIR/client.sock"
client_group = ""
admin = "DIR/admin.sock"
[tpm]
device = "DIR/no-tpm"
[report]
device = "DIR/no-sev-guest"
[measurement]
application_folders = ["DIR"]
log_folder = "DIR/log"
[state]
folder = "DIR/state"
`, "DIR", dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notify.Close()

	// LISTEN_PID must be the daemon's own: the shell becomes the daemon.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" --config "$1"`, filepath.Join(shared.commands, "agentd"), config)
	cmd.Env = append(os.Environ(), "LISTEN_FDS=2", "LISTEN_FDNAMES=admin:client", "NOTIFY_SOCKET="+notify.LocalAddr().String())
	made := make(map[string]os.FileInfo)
	for _, name := range []string{"admin", "client"} {
		path := filepath.Join(dir, name+".sock")
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		if made[name], err = os.Lstat(path); err != nil {
			t.Fatal(err)
		}
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		l.Close()
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	states := func(want string) {
		t.Helper()
		b := make([]byte, 4096)
		notify.SetReadDeadline(time.Now().Add(patience))
		for {
			n, err := notify.Read(b)
			if err != nil {
				t.Fatalf("no %s: %v\n%s", want, err, &stderr)
			}
			if strings.Contains(string(b[:n]), want) {
				return
			}
		}
	}
	states("READY=1")
	st, err := (&client.Client{Socket: filepath.Join(dir, "client.sock")}).Status(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	if st.TPM.State != "absent" || st.Platform.State != "unknown" || st.Platform.Reason == "" {
		t.Errorf("status without devices: %+v, %+v", st.TPM, st.Platform)
	}
	// Without a TPM the agent has no applications, and says so.
	if _, err := (&client.Admin{Socket: filepath.Join(dir, "admin.sock")}).Apps(t.Context()); !errors.Is(err, &api.Problem{Code: api.CodeTPM}) {
		t.Errorf("admin socket: %v, want %s", err, api.CodeTPM)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	states("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &stderr)
	}
	for _, name := range []string{"admin", "client"} {
		if now, err := os.Lstat(filepath.Join(dir, name+".sock")); err != nil || !os.SameFile(now, made[name]) {
			t.Errorf("the inherited socket is gone, or another is in its place: %v", err)
		}
	}
}
