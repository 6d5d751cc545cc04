// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/oci"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// beHook passes the state on to the test at socket, and fails with its answer.
func beHook(socket string) error {
	state, err := oci.ReadState(os.Stdin)
	if err != nil {
		return err
	}
	c, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(api.ContainerRequest{Engine: "podman", ID: state.ID, PID: uint32(state.PID), Bundle: state.Bundle}); err != nil {
		return err
	}
	answer, err := io.ReadAll(c)
	if err == nil && len(answer) > 0 {
		err = fmt.Errorf("%s", answer)
	}
	return err
}

// TestRealRuntime: with runc, nothing of the container has run when it is measured, a refusal is
// runc's own error, and then nothing ever runs. The container's program is the process that was
// recorded.
func TestRealRuntime(t *testing.T) {
	runc := os.Getenv("AGENTD_TEST_RUNC")
	if runc == "" {
		t.Skip("make test-engines runs it: it needs runc, root and control groups that can be written")
	}
	for _, refuse := range []bool{false, true} {
		dir := t.TempDir()
		os.Chmod(dir, 0o755)
		root := filepath.Join(dir, "rootfs")
		for _, sub := range []string{"proc", "dev", "etc"} {
			if err := os.MkdirAll(filepath.Join(root, sub), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		program(t, filepath.Join(root, "first"))
		socket := filepath.Join(dir, "s")
		self, err := os.Readlink("/proc/self/exe")
		if err != nil {
			t.Fatal(err)
		}
		config := map[string]any{
			"ociVersion": "1.0.2",
			"process":    map[string]any{"args": []string{"/first"}, "cwd": "/", "user": map[string]any{"uid": 0, "gid": 0}},
			"root":       map[string]any{"path": "rootfs"},
			"mounts":     []any{map[string]any{"destination": "/proc", "type": "proc", "source": "proc"}, map[string]any{"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}},
			"linux":      map[string]any{"namespaces": []any{map[string]any{"type": "mount"}, map[string]any{"type": "pid"}}, "cgroupsPath": fmt.Sprintf("/agentd-test-%d", os.Getpid())},
			"hooks":      map[string]any{"createRuntime": []any{map[string]any{"path": self, "args": []string{"hook", socket}, "env": []string{role + "=" + roleHook}}}},
		}
		b, err := json.Marshal(config)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, "config.json"), b, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		made := filepath.Join(root, "made")
		measured := newBed(func(c *Config) {
			c.Groups = peer.FindGroups("/sys/fs/cgroup")
			c.Root = nil
		})
		measured.Containers.c.Root = rootOf(t, made, refuse)
		serve(t, socket, measured)
		cmd := exec.Command(runc, "--root", filepath.Join(dir, "state"), "run", "--bundle", dir, fmt.Sprintf("agentd-%d", os.Getpid()))
		out, err := cmd.CombinedOutput()
		_, ran := os.Stat(made)
		events := measured.log.all()
		switch {
		case refuse && (err == nil || ran == nil || len(events) != 0 || !strings.Contains(string(out), "not today")):
			t.Errorf("refused: %v, ran %v, %d events: %s", err, ran, len(events), out)
		case !refuse && (err != nil || ran != nil || len(events) != 1 || events[0].Container.Root.Digest != rootDigest):
			t.Errorf("%v, ran %v, %d events: %s", err, ran, len(events), out)
		}
		if !refuse {
			b, err := os.ReadFile(made)
			if want := fmt.Sprint(events[0].Container.Started); err != nil || string(b) != want {
				t.Errorf("the program started at %s, want %s: %v", b, want, err)
			}
		}
		measured.Close()
	}
}

// first is the program of the container: its first act is to write when its process started.
const first = `package main

import (
	"os"
	"strings"
)

func main() {
	b, _ := os.ReadFile("/proc/self/stat")
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	os.WriteFile("/made", []byte(fields[19]+"0"), 0o644)
}
`

// program builds the program of the container, which needs no library.
func program(t *testing.T, path string) {
	t.Helper()
	source := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(source, []byte(first), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-o", path, source)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// rootOf measures a root file system, in which made is not there yet.
func rootOf(t *testing.T, made string, refuse bool) func(context.Context, *os.File, *rootfs.Layers, func(string) bool) (pcr.ContainerRoot, error) {
	return func(_ context.Context, root *os.File, _ *rootfs.Layers, mounted func(string) bool) (pcr.ContainerRoot, error) {
		var st unix.Stat_t
		if err := unix.Fstatat(int(root.Fd()), "made", &st, 0); err == nil {
			t.Errorf("%s is there: the program ran before the container was measured", made)
		}
		if !mounted("/proc") || mounted("/etc") {
			t.Error("what is mounted over the root file system is not seen")
		}
		if refuse {
			return pcr.ContainerRoot{}, errors.New("not today")
		}
		return pcr.ContainerRoot{Digest: rootDigest, Files: 1, Bytes: 1}, nil
	}
}

// serve answers hooks as the agent would.
func serve(t *testing.T, socket string, b *bed) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			answerHook(t, c, b)
			c.Close()
		}
	}()
}

func answerHook(t *testing.T, c *net.UnixConn, b *bed) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	var cred *unix.Ucred
	raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil {
		t.Error(err)
		return
	}
	var r api.ContainerRequest
	line, err := bufio.NewReader(c).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &r)
	}
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := b.Record(context.Background(), Hook{PID: int(cred.Pid), Running: func() error { return nil }}, r); err != nil {
		io.WriteString(c, err.Error())
	}
}
