// SPDX-License-Identifier: Apache-2.0

package containers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestRecord: what the log says of a container is what the agent read itself, and a process in it is
// known by control group, mount namespace and start.
func TestRecord(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	c := create(t, b.groups, spec())
	got, err := b.Record(t.Context(), hook, c.request("4f1c"))
	if err != nil {
		t.Fatal(err)
	}
	events := b.log.all()
	if len(events) != 1 || !got.Recorded || got.App != "web" || *got.Record != 0 || *got.Root != rootDigest || got.Files != 2 {
		t.Fatalf("%+v, %d events", got, len(events))
	}
	e := events[0].Container
	names := []string{"HOSTNAME", "PATH", "TOKEN"}
	p := e.Process
	if e.Engine != "podman" || e.ID != "4f1c" || e.App != "web" || *e.Declaration != (evidence.Digest{1}) || e.Cgroup != c.group || e.Root.Digest != rootDigest || !e.Root.ReadOnly ||
		string(p.Args[1]) != "--serve" || p.Cwd != "/" || !slices.Equal(p.Groups, []uint32{3, 7}) || !slices.Equal(p.Environment, names) || p.EnvironmentHash != nil ||
		!slices.Equal(p.Capabilities, []string{"CAP_CHOWN", "CAP_KILL"}) || !p.NoNewPrivileges || p.Seccomp == nil || p.Terminal || e.AllDevices || len(e.Devices) != 1 {
		t.Errorf("%+v", e)
	}
	if len(e.Mounts) != 2 || e.Mounts[1].Type != "bind" || e.Mounts[1].Source != "/srv/hosts" {
		t.Errorf("mounts %+v", e.Mounts)
	}
	if !slices.Equal(e.Namespaces, []string{"mnt", "uts"}) {
		t.Errorf("namespaces %q", e.Namespaces)
	}
	if !slices.Equal(b.mounted, []string{"/proc", "/etc/hosts"}) {
		t.Errorf("mounted %q", b.mounted)
	}
	if list := b.List(); len(list) != 1 || list[0].ID != "4f1c" || !list[0].Running {
		t.Errorf("%+v", list)
	}

	inside := c.peer()
	if found := b.In(inside); found == nil || found.ID != "4f1c" || found.Root != rootDigest || found.App != "web" || found.UID != 0 || found.Started != e.Started {
		t.Fatalf("%+v", found)
	}
	for what, change := range map[string]func(*caller.Peer){
		"another control group":      func(p *caller.Peer) { p.Group = "/machine.slice/libpod-x.scope" },
		"control group around":       func(p *caller.Peer) { p.Group = "/machine.slice" },
		"control group like it":      func(p *caller.Peer) { p.Group = c.group + "x" },
		"no control group":           func(p *caller.Peer) { p.Group = "" },
		"another mount namespace":    func(p *caller.Peer) { p.MountNamespace++ },
		"unreadable mount namespace": func(p *caller.Peer) { p.MountNamespace = 0 },
		"started before":             func(p *caller.Peer) { p.Started -= 10 },
	} {
		outside := *inside
		if change(&outside); b.In(&outside) != nil {
			t.Errorf("%s: it is in the container", what) // case 125
		}
	}
	before := b.groups.inodes[c.group]
	b.groups.change(func() { b.groups.inodes[c.group]++ })
	if b.In(inside) != nil {
		t.Error("a control group that was made again is taken for the old one")
	}
	b.groups.change(func() { b.groups.inodes[c.group] = before })
	if b.In(inside) == nil {
		t.Error("the container is not found any more")
	}
	c.end()
	if b.In(inside) != nil || len(b.List()) != 0 {
		t.Error("the first process ended, and the container is still there")
	}
}

// TestBeside: a process that made a mount namespace for itself, or that outlived the first process,
// came out of the container and is not one of the machine, as long as the control group is there
// (case 125).
func TestBeside(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	c := create(t, b.groups, spec())
	left := *c.peer()
	left.MountNamespace++
	if b.Beside(&left) {
		t.Error("the container is not recorded yet")
	}
	if _, err := b.Record(t.Context(), hook, c.request("4f1c")); err != nil {
		t.Fatal(err)
	}
	unread, other := left, left
	unread.MountNamespace, other.Group = 0, c.group+"x"
	if b.In(&left) != nil || !b.Beside(&left) || !b.Beside(&unread) || b.Beside(&other) || b.Beside(&caller.Peer{}) {
		t.Error("in another mount namespace")
	}
	inode := b.groups.inodes[c.group]
	b.groups.change(func() { b.groups.inodes[c.group]++ })
	if b.Beside(&left) {
		t.Error("a control group that was made again is taken for the old one")
	}
	b.groups.change(func() { b.groups.inodes[c.group] = inode })
	c.end()
	if len(b.List()) != 0 || !b.Beside(&left) {
		t.Error("the first process ended")
	}
	group := c.group
	c.begin(b.groups) // the engine starts it again, in the same control group
	b.groups.change(func() {
		pid := c.cmd.Process.Pid
		b.groups.of[pid], b.groups.pids[group], b.groups.inodes[group] = group, []int{pid}, inode
	})
	if _, err := b.Record(t.Context(), hook, c.request("4f1c")); err != nil {
		t.Fatal(err)
	}
	again := *c.peer()
	again.Group = group
	if b.In(&again) == nil || len(b.List()) != 1 || len(b.running) != 1 {
		t.Errorf("started again: %+v", b.List())
	}
	c.end()
	b.groups.change(func() { delete(b.groups.inodes, group) })
	if b.List(); b.Beside(&left) || len(b.running) != 0 {
		t.Error("the control group is gone")
	}
}

// TestRefused: what makes a container doubtful keeps it from starting, nothing of it is recorded,
// and no process is in it afterwards.
func TestRefused(t *testing.T) {
	type state struct {
		*bed
		c *container
		r *api.ContainerRequest
		h *Hook
	}
	for what, c := range map[string]struct {
		spec   func(map[string]any)
		change func(s state)
		code   api.Code
		want   string
	}{
		"the process ended":       {nil, func(s state) { s.c.end() }, api.CodeContainerState, "process"},
		"no process":              {nil, func(s state) { s.r.PID = 0 }, api.CodeContainerState, "process 0"},
		"a number of no process":  {nil, func(s state) { s.r.PID = 1<<32 - 1 }, api.CodeContainerState, "process"},
		"the hook ended":          {nil, func(s state) { s.h.Running = func() error { return caller.ErrGone } }, api.CodeContainerState, "hook"},
		"an unknown engine":       {nil, func(s state) { s.r.Engine = "lxc" }, api.CodeInvalidValue, "engine"},
		"a hostile id":            {nil, func(s state) { s.r.ID = "../x" }, api.CodeInvalidValue, "id"},
		"a process of this agent": {nil, func(s state) { s.r.PID = uint32(os.Getpid()); s.groups.put(s.c.group+"2", os.Getpid()) }, api.CodeContainerState, "mount namespace"},
		"no control group of its own": {nil, func(s state) {
			s.groups.change(func() { s.groups.of[s.c.cmd.Process.Pid] = "/" })
		}, api.CodeContainerState, "--cgroups=disabled"},
		"another process in the control group": {nil, func(s state) { s.groups.put(s.c.group, 1) }, api.CodeContainerState, "2 processes"},
		"control group that is not there": {nil, func(s state) {
			s.groups.change(func() { delete(s.groups.inodes, s.c.group) })
		}, api.CodeContainerState, "control group"},
		"no bundle":                   {nil, func(s state) { s.r.Bundle = "/none" }, api.CodeContainerConfig, "bundle"},
		"configuration of others":     {nil, func(s state) { os.Chmod(filepath.Join(s.c.bundle, "config.json"), 0o666) }, api.CodeContainerConfig, "0666"},
		"member in another case":      {func(m map[string]any) { m["Process"] = map[string]any{} }, nil, api.CodeContainerConfig, "another case"},
		"relative working directory":  {func(m map[string]any) { m["process"].(map[string]any)["cwd"] = "x" }, nil, api.CodeContainerConfig, "cwd"},
		"event that is too large":     {func(m map[string]any) { m["process"].(map[string]any)["args"] = many(3, 100<<10) }, nil, api.CodeContainerConfig, "size"},
		"user that is not there":      {func(m map[string]any) { m["process"].(map[string]any)["user"] = map[string]any{"uid": 1<<32 - 1} }, nil, api.CodeContainerConfig, "user"},
		"device before the first":     {device(-1, 3), nil, api.CodeContainerConfig, "no device has"},
		"device below the first":      {device(1, -1), nil, api.CodeContainerConfig, "no device has"},
		"device after the last":       {device(1, 1<<32), nil, api.CodeContainerConfig, "no device has"},
		"no root":                     {func(m map[string]any) { m["root"] = map[string]any{"path": "none"} }, nil, api.CodeContainerRoot, "root.path"},
		"a root without a mount":      {func(m map[string]any) { m["root"] = map[string]any{"path": "rootfs/bin"} }, nil, api.CodeContainerRoot, "not where something is mounted"},
		"a mount that is not named":   {func(m map[string]any) { m["mounts"] = m["mounts"].([]any)[:1] }, nil, api.CodeContainerRoot, "/etc/hosts"},
		"files that are not measured": {nil, func(s state) { s.rootErr = errors.New("a file changed") }, api.CodeContainerRoot, "a file changed"},
		"configuration that changes": {nil, func(s state) {
			s.during = func() { m := spec(); m["hostname"] = "other"; s.c.write(m) }
		}, api.CodeContainerConfig, "changed"},
		"process that ends meanwhile":  {nil, func(s state) { s.during = s.c.end }, api.CodeContainerState, "ended"},
		"process that joins meanwhile": {nil, func(s state) { s.during = func() { s.groups.put(s.c.group, 1) } }, api.CodeContainerState, "2 processes"},
		"moved meanwhile": {nil, func(s state) {
			s.during = func() { s.groups.change(func() { s.groups.of[s.c.cmd.Process.Pid] = "/x" }) }
		}, api.CodeContainerState, "moved"},
		"control group that is made again meanwhile": {nil, func(s state) {
			s.during = func() { s.groups.change(func() { s.groups.inodes[s.c.group]++ }) }
		}, api.CodeContainerState, "made again"},
		"more containers than are followed": {nil, func(s state) {
			for n := range maxRunning {
				e := &pcr.ContainerEvent{Engine: "docker", ID: strconv.Itoa(n), Cgroup: "/docker/" + strconv.Itoa(n)}
				s.running[keyOf(e)] = &running{event: e} // its record is being made
			}
		}, api.CodeQuotaExceeded, "1024"},
		"log that fails": {nil, func(s state) { s.log.err = errors.New("disk full") }, "", "disk full"},
		"several apps":   {nil, func(s state) { s.apps = []Declared{{"web", evidence.Digest{1}}, {"api", evidence.Digest{2}}} }, api.CodeContainerImage, "api, web"},
	} {
		t.Run(what, func(t *testing.T) {
			b := newBed(nil)
			defer b.Close()
			m := spec()
			if c.spec != nil {
				c.spec(m)
			}
			x := create(t, b.groups, m)
			inside := x.peer()
			h, r := hook, x.request("4f1c")
			if c.change != nil {
				c.change(state{b, x, &r, &h})
			}
			got, err := b.Record(t.Context(), h, r)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%+v %v, want %q", got, err, c.want)
			}
			if p, ok := errors.AsType[*api.Problem](err); c.code != "" && (!ok || p.Code != c.code) {
				t.Errorf("%v, want code %s", err, c.code)
			}
			if len(b.log.all()) != 0 || len(b.List()) != 0 || b.In(inside) != nil {
				t.Error("something is known of it")
			}
			if b.limits.spent != 0 {
				t.Errorf("%d bytes of the log are counted for it", b.limits.spent)
			}
			if b.running[key{r.Engine, r.ID}] != nil {
				t.Error("it takes a place among the containers that run")
			}
		})
	}
}

func many(n, size int) (out []string) {
	for range n {
		out = append(out, strings.Repeat("a", size))
	}
	return out
}

// TestSwappedRoot: the container's view of the root file system is another folder than the engine's
// (case 124): its files are not those that would be measured.
func TestSwappedRoot(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	c := create(t, b.groups, spec())
	c.end()
	other := t.TempDir()
	for _, dir := range []string{"proc", "etc", "bin"} {
		if err := os.Mkdir(filepath.Join(other, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.over = []string{other + ":/", "/proc"}
	c.begin(b.groups)
	got, err := b.Record(t.Context(), hook, c.request("4f1c"))
	if err == nil || !strings.Contains(err.Error(), "another folder") {
		t.Fatal(got, err)
	}
}

// TestLayers: of an overlay, the layers are looked at in the mount namespace of the hook, and one that
// cannot be measured keeps the container from starting.
func TestLayers(t *testing.T) {
	var asked string
	var refusal error
	var opened *rootfs.Layers
	b := newBed(func(c *Config) {
		c.Layers = func(options, root string, open rootfs.Opener) (*rootfs.Layers, error) {
			asked = root
			f, err := open(strings.TrimSuffix(root, "rootfs") + "empty")
			if err != nil {
				return nil, err
			}
			f.Close()
			if !strings.Contains(options, "lowerdir") {
				t.Errorf("options %q", options)
			}
			if refusal != nil {
				return nil, refusal
			}
			folder := strings.TrimSuffix(root, "rootfs") + "empty" // as if it were the upper layer too
			opened, err = rootfs.OpenLayers(rootfs.NewCache(), "upperdir="+folder+",lowerdir="+folder, root, open)
			return opened, err
		}
	})
	defer b.Close()
	c := create(t, b.groups, spec())
	before := descriptors(t)
	if _, err := b.Record(t.Context(), hook, c.request("4f1c")); err != nil || asked != "" {
		t.Fatalf("without an overlay: asked for %q, %v", asked, err)
	}
	kept := descriptors(t) - before
	c.end()
	empty := filepath.Join(c.bundle, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("overlay", c.root(), "overlay", 0, "lowerdir="+empty+":"+c.root()); err != nil {
		t.Skipf("no overlay can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(c.root(), 0); err != nil {
			t.Error(err)
		}
	})
	c.begin(b.groups)
	t.Cleanup(c.end) // before its mount is taken away
	refusal = errors.New("a layer is on NFS")
	_, err := b.Record(t.Context(), hook, c.request("9a9a"))
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeContainerRoot || !strings.Contains(err.Error(), "on NFS") || asked != c.root() {
		t.Errorf("asked for %q, %v", asked, err)
	}
	refusal = nil
	before = descriptors(t)
	if got, err := b.Record(t.Context(), hook, c.request("9a9a")); err != nil || !got.Recorded || opened == nil || b.layers != opened {
		t.Errorf("%+v %v; measured with %p of %p", got, err, b.layers, opened)
	}
	if more := descriptors(t) - before; more != kept {
		t.Errorf("the record keeps %d descriptors open, want %d as without layers", more, kept)
	}
}

// TestOtherApps: a container of no declared app starts without a record, unless all are to be
// measured.
func TestOtherApps(t *testing.T) {
	for _, all := range []bool{false, true} {
		b := newBed(func(c *Config) { c.All = all })
		b.apps = nil
		c := create(t, b.groups, spec())
		got, err := b.Record(t.Context(), hook, c.request("4f1c"))
		if err != nil || got.Recorded != all || got.App != "" || (got.Reason == "") != all {
			t.Errorf("all %t: %+v %v", all, got, err)
		}
		events := b.log.all()
		if (len(events) == 1) != all || all && (events[0].Container.App != "" || events[0].Container.Declaration != nil) {
			t.Errorf("all %t: %+v", all, events)
		}
		if found := b.In(c.peer()); (found != nil) != all || all && found.App != "" {
			t.Errorf("all %t: %+v", all, found)
		}
		b.Close()
	}
}

// TestSameID: a second container of an id that runs, and one in the control group of another, do
// not start. When the first has ended, its id may be used again.
func TestSameID(t *testing.T) {
	b := newBed(nil)
	defer b.Close()
	first, second := create(t, b.groups, spec()), create(t, b.groups, spec())
	if _, err := b.Record(t.Context(), hook, first.request("4f1c")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Record(t.Context(), hook, second.request("4f1c")); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Error(err)
	}
	for _, group := range []string{first.group, first.group + "/inner", "/machine.slice"} {
		pid := second.cmd.Process.Pid
		b.groups.change(func() {
			b.groups.of[pid], b.groups.pids[group], b.groups.inodes[group] = group, []int{pid}, b.groups.inodes[first.group]
		})
		if _, err := b.Record(t.Context(), hook, second.request("9a9a")); err == nil || !strings.Contains(err.Error(), "around it") {
			t.Errorf("%s: %v", group, err)
		}
	}
	first.end()
	b.groups.change(func() { b.groups.of[second.cmd.Process.Pid] = second.group })
	if _, err := b.Record(t.Context(), hook, second.request("4f1c")); err != nil {
		t.Error(err)
	}
	if found := b.In(second.peer()); found == nil {
		t.Error("the second is not known")
	}
}

// TestRestore: after a restart of the agent the containers that run are known from the log, and
// those that ended are not.
func TestRestore(t *testing.T) {
	b := newBed(nil)
	runs, ended := create(t, b.groups, spec()), create(t, b.groups, spec())
	for id, c := range map[string]*container{"aa": runs, "bb": ended} {
		if _, err := b.Record(t.Context(), hook, c.request(id)); err != nil {
			t.Fatal(err)
		}
	}
	inside, gone := runs.peer(), ended.peer()
	ended.end()
	b.Close()

	next := newBed(nil)
	next.Containers.c.Groups = b.groups
	defer next.Close()
	for n, e := range b.log.all() {
		next.Restore(uint64(n), e.Container, 1000)
		later := *e.Container
		later.ID, later.Started = "cc"+later.ID, later.Started+10
		next.Restore(uint64(n), &later, 1000) // a record of a process that is not there
	}
	if found := next.In(inside); found == nil || found.ID != "aa" || found.Root != rootDigest {
		t.Errorf("%+v", found)
	}
	if next.In(gone) != nil || len(next.List()) != 1 {
		t.Errorf("%+v", next.List())
	}
	if !next.Beside(gone) { // what its first process left
		t.Error("the control group of a container whose first process ended")
	}
	runs.end()
	if next.In(inside) != nil {
		t.Error("it ended")
	}
	next.limits.most = next.limits.spent
	for n, e := range b.log.all() { // the start of the agent begins again
		next.Restore(uint64(n), e.Container, 1000)
	}
	if next.limits.spent != next.limits.most {
		t.Errorf("%d bytes were counted, and then %d", next.limits.most, next.limits.spent)
	}
}

// TestFlood: a container that starts again and again does not fill the log, and does not keep
// containers of other apps from starting.
func TestFlood(t *testing.T) {
	l := newLimits(0)
	web, api2 := &Declared{Name: "web"}, &Declared{Name: "api"}
	for range burst {
		if err := l.enter(web); err != nil {
			t.Fatal(err)
		}
	}
	err := l.enter(web)
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeThrottled || p.RetryAfter == 0 {
		t.Errorf("%v", err)
	}
	if l.enter(api2) != nil || l.enter(nil) != nil {
		t.Error("another app is held back")
	}
	small := newBed(func(c *Config) { c.Most = 100 })
	defer small.Close()
	c := create(t, small.groups, spec())
	_, err = small.Record(t.Context(), hook, c.request("4f1c"))
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeLogFull || len(small.log.all()) != 0 {
		t.Errorf("%v", err)
	}
	busy := newBed(nil)
	defer busy.Close()
	for range cap(busy.places) {
		busy.places <- struct{}{}
	}
	_, err = busy.Record(t.Context(), hook, c.request("4f1c"))
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeBusy {
		t.Errorf("%v", err)
	}
}

// TestAtOnce: two containers are measured at once, as docs/containers.md says, and 30 wait.
func TestAtOnce(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	b := newBed(func(c *Config) {
		c.Root = func(context.Context, *os.File, *rootfs.Layers, func(string) bool) (pcr.ContainerRoot, error) {
			entered <- struct{}{}
			<-leave
			return pcr.ContainerRoot{Digest: rootDigest}, nil
		}
	})
	defer b.Close()
	if cap(b.places) != 2+30 {
		t.Errorf("%d places", cap(b.places))
	}
	done := make(chan error)
	for _, id := range []string{"4f1c", "9a9a"} {
		r := create(t, b.groups, spec()).request(id)
		go func() {
			_, err := b.Record(t.Context(), hook, r)
			done <- err
		}()
		select {
		case <-entered:
		case err := <-done:
			t.Fatal("not measured:", err)
		}
	}
	if leave := b.measure.Try(t.Context(), 1); leave != nil {
		t.Error("a third one is measured")
	}
	close(leave)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestTurns: apps have their turns by what they had before. So one app whose containers start again and
// again does not hold up the container of another one, nor take all places.
func TestTurns(t *testing.T) {
	entered, leave := make(chan string), make(chan struct{})
	b := newBed(func(c *Config) {
		c.Apps = func(_, _ string, fits func(string) bool) []Declared {
			for _, name := range []string{"flood", "calm"} {
				if fits("registry.example/" + name) {
					return []Declared{{name, evidence.Digest{1}}}
				}
			}
			return nil
		}
		c.Root = func(ctx context.Context, _ *os.File, _ *rootfs.Layers, _ func(string) bool) (pcr.ContainerRoot, error) {
			entered <- ""
			<-leave
			return pcr.ContainerRoot{Digest: rootDigest}, nil
		}
	})
	defer b.Close()
	done := make(chan error)
	begin := func(app, id string) {
		config := spec()
		config["annotations"] = map[string]any{criName: "registry.example/" + app + ":1"}
		r := create(t, b.groups, config).request(id)
		r.Engine = "containerd"
		go func() {
			_, err := b.Record(t.Context(), hook, r)
			done <- err
		}()
	}
	waits := func(n int) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if s := b.measure.Stats(); s.Waiting[turn.Start] == n {
				return
			} else if time.Now().After(end) {
				t.Fatalf("%d wait, want %d", s.Waiting[turn.Start], n)
			}
		}
	}
	for n := range atOnce + ofOneApp {
		begin("flood", fmt.Sprintf("f%d", n))
		if n < atOnce {
			<-entered
		} else {
			waits(n - atOnce + 1)
		}
	}
	begin("flood", "more")
	if err := <-done; err == nil || !strings.Contains(err.Error(), "of app flood: 20 wait") {
		t.Errorf("one more of the app: %v", err)
	}
	begin("calm", "c")
	waits(ofOneApp + 1)
	leave <- struct{}{} // of all that wait, the one of the other app is next
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	<-entered
	waits(ofOneApp)
	close(leave)
	go func() {
		for range entered {
		}
	}()
	for range atOnce + ofOneApp { // one is over, and one of the other app came in addition
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	calm := slices.IndexFunc(b.log.all(), func(e pcr.Event) bool { return e.Container.App == "calm" })
	if calm < 0 || calm > atOnce+1 {
		t.Errorf("the container of the other app is record %d of those that waited", calm)
	}
}

// TestWaitInAPlace: containers that wait for the declarations have a place, so that they do not take
// all connections of the admin socket while the agent does not come up.
func TestWaitInAPlace(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	b := newBed(func(c *Config) {
		c.Wait = func(context.Context) error {
			entered <- struct{}{}
			<-leave
			return errors.New("not up")
		}
	})
	defer b.Close()
	done := make(chan error)
	for range cap(b.places) {
		go func() {
			_, err := b.Record(t.Context(), hook, api.ContainerRequest{Engine: "podman", ID: "4f1c", PID: 1})
			done <- err
		}()
		<-entered
	}
	_, err := b.Record(t.Context(), hook, api.ContainerRequest{Engine: "podman", ID: "4f1c", PID: 1})
	if p, ok := errors.AsType[*api.Problem](err); !ok || p.Code != api.CodeBusy {
		t.Errorf("%v", err)
	}
	close(leave)
	for range cap(b.places) {
		if err := <-done; err == nil || err.Error() != "not up" {
			t.Error(err)
		}
	}
}

// TestParseMounts: a line of mountinfo is read as the kernel writes it.
func TestParseMounts(t *testing.T) {
	all, err := parseMounts([]byte("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw\n37 36 0:5 / /a\\134b\\9 rw - tmpfs none rw\n"))
	if err != nil || len(all) != 2 || all[0].id != 36 || all[0].point != "/mnt 2" || all[0].kind != "ext3" || all[1].kind != "tmpfs" || all[1].options != "rw" || all[1].point != `/a\b\9` {
		t.Errorf("%+v %v", all, err)
	}
	for _, line := range []string{"36 35 98:0 /mnt1 /mnt rw a b c d\n", "36 35 98:0 /mnt1 /mnt rw - ext3 rw\n", "36 35\n", "x 35 98:0 /mnt1 /mnt rw - ext3 /dev/root rw\n", "\n"} {
		if all, err := parseMounts([]byte(line)); err == nil {
			t.Errorf("%q: %+v", line, all)
		}
	}
}

// TestHostUID: the user of a container is found by its map of users.
func TestHostUID(t *testing.T) {
	held, err := peer.Hold("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := held.Namespace("mnt"); err != nil {
		t.Skip(err)
	}
	uid, err := hostUID(held, uint32(os.Getuid()))
	if b, e := os.ReadFile("/proc/self/uid_map"); e != nil || strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295" {
		t.Skip("in a user namespace")
	}
	if err != nil || uid != uint32(os.Getuid()) {
		t.Error(uid, err)
	}
}

// TestOwnNamespaces: Hold does not confuse processes, and its namespaces are the kernel's.
func TestOwnNamespaces(t *testing.T) {
	held, err := peer.Hold("/proc", os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/mnt", &st); err != nil {
		t.Skip(err)
	}
	if n, err := held.Namespace("mnt"); err != nil || n != st.Ino {
		t.Error(n, err, st.Ino)
	}
	if _, err := held.Namespace("none"); err == nil {
		t.Error("a namespace that does not exist")
	}
}

// descriptors returns how many descriptors this process has.
func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
