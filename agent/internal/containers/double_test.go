// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// Roles of the test binary.
const (
	role          = "AGENTD_CONTAINERS_TEST_ROLE"
	roleContainer = "container"
	roleHook      = "hook"
)

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(role) {
	case roleContainer:
		err = beContainer(os.Args[1], os.Args[2:])
	case roleHook:
		err = beHook(os.Args[1])
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// beContainer does what a runtime has done when it runs the hooks of the stage createRuntime: in a
// mount namespace of its own it mounts root on itself, and something over it. It stays until its
// standard input ends.
func beContainer(root string, over []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := unix.Mount(root, root, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	for _, path := range over {
		from := "none"
		if source, to, ok := strings.Cut(path, ":"); ok {
			from, path = source, to
			if err := unix.Mount(from, filepath.Join(root, path), "", unix.MS_BIND, ""); err != nil {
				return err
			}
			continue
		}
		if err := unix.Mount(from, filepath.Join(root, path), "tmpfs", 0, ""); err != nil {
			return err
		}
	}
	fmt.Println("ready")
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// spec is a configuration as an engine writes it. The tests change what they are about.
func spec() map[string]any {
	return map[string]any{
		"ociVersion": "1.0.2", "hostname": "4f1c",
		"process": map[string]any{
			"args": []string{"/bin/web", "--serve"}, "cwd": "/", "user": map[string]any{"uid": 0, "gid": 0, "additionalGids": []int{7, 3, 7}},
			"env":          []string{"PATH=/bin", "TOKEN=geheim", "HOSTNAME=4f1c"},
			"capabilities": map[string]any{"bounding": []string{"CAP_KILL", "CAP_CHOWN"}, "effective": []string{"CAP_CHOWN"}}, "noNewPrivileges": true,
		},
		"root": map[string]any{"path": "rootfs", "readonly": true},
		"mounts": []any{
			map[string]any{"destination": "/proc", "type": "tmpfs", "source": "proc", "options": []string{"nosuid"}},
			map[string]any{"destination": "/etc/hosts", "source": "/srv/hosts", "options": []string{"rbind", "ro"}},
		},
		"linux": map[string]any{
			"seccomp":   map[string]any{"syscalls": []any{}, "defaultAction": "SCMP_ACT_ERRNO"},
			"resources": map[string]any{"devices": []any{map[string]any{"allow": false, "access": "rwm"}, map[string]any{"allow": true, "type": "c", "major": 1, "minor": 3}}},
			"devices":   []any{map[string]any{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}},
		},
	}
}

// container is a double of a container that is being created.
type container struct {
	t      *testing.T
	bundle string
	over   []string
	cmd    *exec.Cmd
	stay   io.Closer
	group  string
}

// create makes a bundle, and a process as a runtime would.
func create(t *testing.T, g *groups, config map[string]any) *container {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to mount")
	}
	bundle := t.TempDir()
	for _, dir := range []string{"", "rootfs/etc", "rootfs/bin", "rootfs/proc"} {
		if err := os.MkdirAll(filepath.Join(bundle, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	os.Chmod(bundle, 0o755)
	for name, content := range map[string]string{"rootfs/bin/web": "program", "rootfs/etc/hosts": "", "hosts": "127.0.0.1"} {
		if err := os.WriteFile(filepath.Join(bundle, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c := &container{t: t, bundle: bundle, over: []string{"/proc", filepath.Join(bundle, "hosts") + ":/etc/hosts"}}
	c.write(config)
	c.begin(g)
	return c
}

func (c *container) write(config map[string]any) {
	c.t.Helper()
	b, err := json.Marshal(config)
	if err == nil {
		err = os.WriteFile(filepath.Join(c.bundle, "config.json"), b, 0o644)
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *container) root() string { return filepath.Join(c.bundle, "rootfs") }

// begin starts the process, and waits until it has mounted.
func (c *container) begin(g *groups) {
	c.t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{c.root()}, c.over...)...)
	cmd.Env = []string{role + "=" + roleContainer}
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS, Pdeathsig: syscall.SIGKILL}
	stay, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, unix.EPERM) {
			c.t.Skip("namespaces cannot be made here")
		}
		c.t.Fatal(err)
	}
	c.cmd, c.stay = cmd, stay
	c.t.Cleanup(c.end)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		c.t.Fatal("the double of a container did not start:", line, err)
	}
	c.group = fmt.Sprintf("/machine.slice/libpod-%d.scope/container", cmd.Process.Pid)
	g.put(c.group, cmd.Process.Pid)
}

// end ends the process, and waits for that.
func (c *container) end() {
	if c.cmd != nil {
		c.stay.Close()
		c.cmd.Wait()
		c.cmd = nil
	}
}

// request names the container as a hook would.
func (c *container) request(id string) api.ContainerRequest {
	return api.ContainerRequest{Engine: "podman", ID: id, PID: uint32(c.cmd.Process.Pid), Bundle: c.bundle}
}

// peer is a caller in the container.
func (c *container) peer() *caller.Peer {
	c.t.Helper()
	held, err := peer.Hold("/proc", c.cmd.Process.Pid)
	if err != nil {
		c.t.Fatal(err)
	}
	defer held.Close()
	mounts, err := held.Namespace("mnt")
	if err != nil {
		c.t.Fatal(err)
	}
	return &caller.Peer{PID: held.PID, Started: held.Started, Group: c.group + "/below", MountNamespace: mounts}
}

// groups are control groups without a kernel.
type groups struct {
	mu     sync.Mutex
	of     map[int]string
	inodes map[string]uint64
	pids   map[string][]int
}

func newGroups() *groups {
	return &groups{of: map[int]string{}, inodes: map[string]uint64{}, pids: map[string][]int{}}
}

// put puts a process into a group, which is made if it is not there.
func (g *groups) put(path string, pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.of[pid] = path
	g.pids[path] = append(g.pids[path], pid)
	if g.inodes[path] == 0 {
		g.inodes[path] = uint64(len(g.inodes)) + 100
	}
}

func (g *groups) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func (g *groups) Of(h *peer.Held) (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if path, ok := g.of[h.PID]; ok {
		return path, nil
	}
	return "", errors.New("no group")
}

func (g *groups) Inode(path string) (uint64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n, ok := g.inodes[path]; ok {
		return n, nil
	}
	return 0, unix.ENOENT
}

func (g *groups) Processes(path string) ([]int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.pids[path]), nil
}

// log is a measurement log in memory.
type log struct {
	mu     sync.Mutex
	events []pcr.Event
	err    error
	before func() // called before an event is in the log
}

func (l *log) Append(_ context.Context, e pcr.Event) (pcr.Record, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil {
		l.before()
	}
	if l.err != nil {
		return pcr.Record{}, l.err
	}
	if _, err := e.Encode(); err != nil {
		return pcr.Record{}, err
	}
	l.events = append(l.events, e)
	return pcr.Record{Number: uint64(len(l.events)) - 1}, nil
}

func (l *log) all() []pcr.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

// bed is what the tests measure with.
type bed struct {
	*Containers
	log     *log
	groups  *groups
	apps    []Declared
	mounted []string       // of the paths that tests ask for
	layers  *rootfs.Layers // that the last root file system had
	during  func()         // while the root file system is measured; may be nil
	rootErr error
}

var rootDigest = evidence.Digest{7}

func newBed(change func(*Config)) *bed {
	b := &bed{log: new(log), groups: newGroups(), apps: []Declared{{"web", evidence.Digest{1}}}}
	c := Config{
		Proc: "/proc", Machine: os.Getpid(), Groups: b.groups,
		Recorder: func(context.Context) (identity.Recorder, error) { return b.log, nil },
		Apps: func(engine, _ string, _ func(string) bool) []Declared {
			if engine != "podman" {
				return nil
			}
			return b.apps
		},
		Root: func(_ context.Context, root *os.File, layers *rootfs.Layers, mounted func(string) bool) (pcr.ContainerRoot, error) {
			if b.during != nil {
				b.during()
			}
			b.mounted, b.layers = nil, layers
			for _, path := range []string{"/proc", "/etc/hosts", "/etc", "/bin/web", "/"} {
				if mounted(path) {
					b.mounted = append(b.mounted, path)
				}
			}
			names, err := root.Readdirnames(-1)
			if err != nil || !slices.Contains(names, "bin") {
				return pcr.ContainerRoot{}, fmt.Errorf("not the root of the container: %v %v", names, err)
			}
			return pcr.ContainerRoot{Digest: rootDigest, Files: 2, Bytes: 7}, b.rootErr
		},
	}
	if change != nil {
		change(&c)
	}
	b.Containers = New(c)
	return b
}

// hook is this process: the engine's mount namespace is the test's.
var hook = Hook{PID: os.Getpid(), Running: func() error { return nil }}
