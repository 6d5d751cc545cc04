// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// world is a directory of processes and one of control groups.
type world struct {
	t            *testing.T
	proc, cgroup string
}

func newWorld(t *testing.T) (world, *Identifier) {
	t.Helper()
	w := world{t, t.TempDir(), t.TempDir()}
	w.write(filepath.Join(w.cgroup, "cgroup.controllers"), "")
	i, err := New(Options{Proc: w.proc, Cgroup: w.cgroup})
	if err != nil {
		t.Fatal(err)
	}
	return w, i
}

func (w world) write(path, content string) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// starts makes a process that started at a number of clock ticks.
func (w world) starts(pid, ticks int) {
	w.write(filepath.Join(w.proc, strconv.Itoa(pid), "stat"), fmt.Sprintf("%d (a) b) S%s %d 0 0", pid, strings.Repeat(" 0", 18), ticks))
}

func (w world) ends(pid int) { os.RemoveAll(filepath.Join(w.proc, strconv.Itoa(pid))) }

// group makes a control group with processes.
func (w world) group(path string, pids ...int) {
	var b strings.Builder
	for _, pid := range pids {
		fmt.Fprintln(&b, pid)
	}
	w.write(filepath.Join(w.cgroup, path, "cgroup.procs"), b.String())
}

// A child that a process forked after its files were measured is as old as the process.
func TestUnitStarted(t *testing.T) {
	const unit = "/system.slice/billing.service"
	for name, c := range map[string]struct {
		prepare func(w world)
		want    uint64
	}{
		"alone":                   {func(w world) { w.group(unit, 30) }, 3000},
		"parent":                  {func(w world) { w.group(unit, 10, 30) }, 1000},
		"parent in a group below": {func(w world) { w.group(unit, 30); w.group(unit + "/a"); w.group(unit+"/a/b", 10) }, 1000},
		"another unit is older":   {func(w world) { w.group(unit, 30); w.group("/system.slice/other.service", 10) }, 3000},
		"child":                   {func(w world) { w.group(unit, 30, 40) }, 3000},
		"one ended meanwhile":     {func(w world) { w.group(unit, 30, 99) }, 3000},
		"first thread of one has ended": {func(w world) {
			w.group(unit, 10, 30)
			w.write(filepath.Join(w.proc, "10", "stat"), "10 (a) Z"+strings.Repeat(" 0", 18)+" 100 0 0")
		}, 1000},
		"one that cannot be read": {func(w world) {
			w.group(unit, 30, 50)
			w.write(filepath.Join(w.proc, "50", "stat"), "50 (a) S 0")
		}, 0},
		"no group":                      {func(world) {}, 0},
		"no process":                    {func(w world) { w.group(unit) }, 0},
		"what is not a number":          {func(w world) { w.write(filepath.Join(w.cgroup, unit, "cgroup.procs"), "../10 30 -10") }, 3000},
		"more processes than are read":  {func(w world) { w.group(unit, make([]int, maxProcesses+1)...) }, 0},
		"more groups than are read":     {func(w world) { manyGroups(w, unit) }, 0},
		"more bytes than are read":      {func(w world) { w.write(filepath.Join(w.cgroup, unit, "cgroup.procs"), strings.Repeat(" ", maxProcs+1)) }, 0},
		"the unit is escaped by a line": {func(w world) { w.group("/system.slice/_billing.service", 10); w.group(unit, 30) }, 3000},
	} {
		t.Run(name, func(t *testing.T) {
			w, i := newWorld(t)
			w.starts(10, 100)
			w.starts(30, 300)
			w.starts(40, 400)
			c.prepare(w)
			if got, _ := i.unitStarted(unit, 3000); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func manyGroups(w world, unit string) {
	w.group(unit, 30)
	for n := range maxGroups {
		w.group(fmt.Sprintf("%s/%d", unit, n))
	}
}

// What was seen of a run of a unit is remembered when the parent has ended, and is not taken
// for another run.
func TestUnitStartedIsRemembered(t *testing.T) {
	const unit = "/system.slice/billing.service"
	w, i := newWorld(t)
	w.starts(10, 100)
	w.starts(30, 300)
	w.group(unit, 10, 30)
	find := func() (uint64, bool) { return i.unitStarted(unit, 3000) }
	first, second := []byte("0123456789abcdef"), []byte("fedcba9876543210")
	if got := i.runs.of("billing.service", first, find); got != 1000 {
		t.Errorf("got %d, want 1000", got)
	}
	w.ends(10)
	if got := i.runs.of("billing.service", first, find); got != 1000 {
		t.Errorf("the parent has ended: got %d, want 1000", got)
	}
	if got := i.runs.of("billing.service", second, find); got != 3000 {
		t.Errorf("the unit was started again: got %d, want 3000", got)
	}
	if got := i.runs.of("billing.service", nil, find); got != 3000 {
		t.Errorf("without an id: got %d, want 3000", got)
	}
	for n := range 3 * maxRuns {
		i.runs.of(strconv.Itoa(n), first, find)
	}
	if n := len(i.runs.earliest); n > maxRuns {
		t.Errorf("%d runs are remembered, want at most %d", n, maxRuns)
	}
}

func TestGroupOf(t *testing.T) {
	for path, want := range map[string]string{
		"/system.slice/billing.service":               "/system.slice/billing.service",
		"/system.slice/billing.service/billing/child": "/system.slice/billing.service",
		"/a.slice/a-b.slice/_billing.service/x":       "/a.slice/a-b.slice/_billing.service",
	} {
		if got := groupOf(path, "billing.service"); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}
