// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// fakeProc makes a proc root that shows this process as the test likes.
func fakeProc(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		write(t, filepath.Join(dir, name), content)
	}
	return root
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// toSelf is a connection to this process.
func toSelf(t *testing.T) *net.UnixConn {
	t.Helper()
	l := listenAt(t)
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return accept(t, l)
}

func statLine(state string, start uint64) string {
	// The name holds what breaks naive readers.
	return "77 (a) Z 1 2) " + state + strings.Repeat(" 9", 18) + fmt.Sprintf(" %d 1 1\n", start)
}

func TestUnitFromProc(t *testing.T) {
	v2, hybrid, v1 := t.TempDir(), t.TempDir(), t.TempDir()
	write(t, filepath.Join(v2, "cgroup.controllers"), "")
	write(t, filepath.Join(hybrid, "unified/cgroup.controllers"), "")
	write(t, filepath.Join(hybrid, "systemd/tasks"), "")
	write(t, filepath.Join(v1, "systemd/tasks"), "")
	const both = "2:name=systemd:/system.slice/one.service\n0::/system.slice/two.service\n"
	for name, c := range map[string]struct{ cgroup, content, unit string }{
		"unified":               {v2, both, "two.service"},
		"hybrid":                {hybrid, both, "two.service"},
		"legacy":                {v1, both, "one.service"},
		"case 86, user manager": {v2, "0::/user.slice/user-1000.slice/user@1000.service/app.slice/one.service\n", "user@1000.service"},
		"outside":               {v2, "0::/../../system.slice/one.service\n", ""},
		"too long":              {v2, "0::/" + strings.Repeat("a.slice/", 20000) + "one.service\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i, err := New(Options{Proc: fakeProc(t, map[string]string{"cgroup": c.content, "stat": statLine("S", 5)}), Cgroup: c.cgroup})
			if err != nil {
				t.Fatal(err)
			}
			p := identify(t, i, toSelf(t))
			if p.Unit != c.unit || (p.UnitReason == "") != (c.unit != "") {
				t.Errorf("unit %q, reason %q; want %q", p.Unit, p.UnitReason, c.unit)
			}
			if x := p.Process.Executable(t.Context()); x.State != evidence.ExecutableUnreadable {
				t.Errorf("no exe is there: %+v", x)
			}
		})
	}
}

// case 7: without SO_PEERPIDFD, the start time has to be the same before and after.
func TestStartTime(t *testing.T) {
	old := func(root string) *Identifier {
		i, err := New(Options{Proc: root})
		if err != nil {
			t.Fatal(err)
		}
		i.pidfd = func(int) (int, error) { return -1, unix.ENOPROTOOPT }
		return i
	}
	t.Run("same", func(t *testing.T) {
		root := fakeProc(t, map[string]string{"stat": statLine("S", 5), "cgroup": "0::/a.service\n"})
		p := identify(t, old(root), toSelf(t))
		if p.Method != evidence.MethodStartTime {
			t.Errorf("method %s", p.Method)
		}
		write(t, filepath.Join(root, strconv.Itoa(os.Getpid()), "stat"), statLine("S", 6))
		if err := p.Process.Running(); !errors.Is(err, caller.ErrGone) {
			t.Errorf("another process has the number by now: %v", err)
		}
	})
	t.Run("number passed on", func(t *testing.T) {
		root := fakeProc(t, map[string]string{"stat": statLine("S", 5)})
		i := old(root)
		dir, err := openDir(filepath.Join(root, strconv.Itoa(os.Getpid())))
		if err != nil {
			t.Fatal(err)
		}
		defer dir.Close()
		if err := i.sameNumber(&process{pid: os.Getpid(), dir: dir, start: 4}); !errors.Is(err, caller.ErrGone) {
			t.Errorf("got %v", err)
		}
	})
	for name, stat := range map[string]string{
		"zombie": statLine("Z", 5), "dead": statLine("X", 5), "short": "77 (a) S 1 2\n", "empty": "", "no number": strings.Replace(statLine("S", 5), " 5 ", " x ", 1),
	} {
		t.Run(name, func(t *testing.T) {
			root := fakeProc(t, map[string]string{"stat": stat})
			if _, err := old(root).Identify(toSelf(t)); !errors.Is(err, caller.ErrGone) && !errors.Is(err, caller.ErrUnknown) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("not in proc", func(t *testing.T) {
		if _, err := old(t.TempDir()).Identify(toSelf(t)); !errors.Is(err, caller.ErrGone) {
			t.Errorf("got %v", err)
		}
	})
}

// A /proc that hides other users' processes hides when they started: such a caller is refused.
func TestHiddenProcess(t *testing.T) {
	if !hasPidfd(t) {
		t.Skip("this kernel has no SO_PEERPIDFD")
	}
	i, err := New(Options{Proc: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := i.Identify(toSelf(t)); !errors.Is(err, caller.ErrUnknown) {
		t.Errorf("got %+v, %v; want ErrUnknown", p, err)
	}
}

// Start time and the id of the unit's run are read for every caller, and an id that is not one
// is left out.
func TestStartedAndInvocation(t *testing.T) {
	v2 := t.TempDir()
	write(t, filepath.Join(v2, "cgroup.controllers"), "")
	const id = "00112233445566778899aabbccddeeff"
	for name, c := range map[string]struct{ unit, target, want string }{
		"known":        {"one.service", id, id},
		"no link":      {"one.service", "", ""},
		"short":        {"one.service", id[2:], ""},
		"long":         {"one.service", id + "00", ""},
		"not a number": {"one.service", strings.Repeat("x", 32), ""},
		"no unit":      {"", id, ""},
	} {
		t.Run(name, func(t *testing.T) {
			units := t.TempDir()
			if c.target != "" {
				if err := os.Symlink(c.target, filepath.Join(units, "invocation:one.service")); err != nil {
					t.Fatal(err)
				}
			}
			cgroup := "0::/\n"
			if c.unit != "" {
				cgroup = "0::/system.slice/" + c.unit + "\n"
			}
			i, err := New(Options{Proc: fakeProc(t, map[string]string{"cgroup": cgroup, "stat": statLine("S", 1234)}), Cgroup: v2, Units: units})
			if err != nil {
				t.Fatal(err)
			}
			p := identify(t, i, toSelf(t))
			if p.Started != 12340 || hex.EncodeToString(p.Invocation) != c.want || p.Unit != c.unit {
				t.Errorf("started %d, invocation %x of %q; want 12340, %s of %q", p.Started, p.Invocation, p.Unit, c.want, c.unit)
			}
		})
	}
}

func FuzzStat(f *testing.F) {
	f.Add([]byte(statLine("S", 1<<63)))
	f.Add([]byte("1 (x) R"))
	f.Fuzz(func(t *testing.T, b []byte) { parseStart(b) })
}

// One user on two sockets is two parties, and two users on one are.
func TestParties(t *testing.T) {
	i, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	parties := map[string]bool{}
	for range 2 { // each on a socket of its own
		p := identify(t, i, toSelf(t)).Process.(*process)
		parties[p.party()] = true
		other := *p
		other.uid++
		parties[other.party()] = true
	}
	if len(parties) != 4 {
		t.Errorf("parties %v, want 4", parties)
	}
}

// One user whose files never answer leaves slots for others.
func TestSlots(t *testing.T) {
	slots := newImages(Options{}).slots
	first, err := slots.Enter(of(t.Context(), "1"), 1)
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := slots.Enter(of(ended, "1"), 1); err == nil {
		t.Error("a second slot of one uid")
	}
	second, err := slots.Enter(of(t.Context(), "2"), 1)
	if err != nil {
		t.Fatal(err)
	}
	first()
	second()
	if n := slots.Used(); n != 0 {
		t.Errorf("%d slots are left in use", n)
	}
}

// The digest of an executable is kept only once its change time says it is settled.
func TestDigestCache(t *testing.T) {
	m := newImages(Options{})
	path := filepath.Join(t.TempDir(), "program")
	write(t, path, "one")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, _, err := m.digest(t.Context(), "1", f); err != nil {
		t.Fatal(err)
	}
	if len(m.digests) != 0 {
		t.Error("a file changed a moment ago is cached")
	}
	real := m.now
	m.now = func() time.Time { return real().Add(time.Hour) }
	d, _, err := m.digest(t.Context(), "1", f)
	if err != nil || len(m.digests) != 1 {
		t.Fatal(err, len(m.digests))
	}
	write(t, path, "two")
	g, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if e, _, err := m.digest(t.Context(), "1", g); err != nil || e == d {
		t.Errorf("after a change: %v, same digest %v", err, e == d)
	}
}

// Many users of the same file share one reading; a user whose slot is taken delays no other
// user of it.
func TestSharedReading(t *testing.T) {
	m := newImages(Options{})
	path := filepath.Join(t.TempDir(), "program")
	write(t, path, strings.Repeat("x", 4<<20))
	stuck, err := m.slots.Enter(of(t.Context(), "1"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer stuck()
	late, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	digest := func(ctx context.Context, uid uint32) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		_, _, err = m.digest(ctx, fmt.Sprint(uid), f)
		return err
	}
	wg.Go(func() { digest(late, 1) })
	for uid := range uint32(20) {
		wg.Go(func() {
			if err := digest(t.Context(), 2+uid%3); err != nil {
				t.Error(err)
			}
		})
	}
}
