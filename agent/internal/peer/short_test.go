// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"os"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestShortOfDescriptors: the agent has no descriptor left at any of the steps of identifying a
// caller. Either the caller is refused for the shortage, or what is known of it is what is known
// without one: nothing that is wrong stays for the life of the connection.
func TestShortOfDescriptors(t *testing.T) {
	i, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	l := listenAt(t)
	start(t, l, "stay", nil)
	c := accept(t, l)
	want := identify(t, i, c)
	executable := want.Process.Executable(t.Context())

	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	allow := func(n uint64) {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
	}
	defer allow(limit.Cur)
	refused := 0
	for n := highest(t) + 12; n > 3; n-- {
		allow(n)
		got, err := i.Identify(c)
		if err != nil {
			allow(limit.Cur)
			if refused++; !durable.Short(err) {
				t.Errorf("with %d descriptors: %v", n, err)
			}
			continue
		}
		<-got.Process.(*process).image.opened
		allow(limit.Cur)
		if got.Unit != want.Unit || got.UnitReason != want.UnitReason || got.Started != want.Started || got.Method != want.Method {
			t.Errorf("with %d descriptors: %+v, want %+v", n, got, want)
		}
		if x := got.Process.Executable(t.Context()); x.State != executable.State || x.Path != executable.Path {
			t.Errorf("with %d descriptors: executable %+v, want %+v", n, x, executable)
		}
		got.Process.Close()
	}
	if refused == 0 {
		t.Error("no limit was too low")
	}
}

// highest returns the highest descriptor in use.
func highest(t *testing.T) (most uint64) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			most = max(most, n)
		}
	}
	return most
}

// TestShortageIsNotRemembered: that a unit could not be looked at for want of descriptors is
// forgotten with the answer.
func TestShortageIsNotRemembered(t *testing.T) {
	r := runs{earliest: make(map[string]uint64)}
	run := make([]byte, 16)
	if got := r.of("a.service", run, func() (uint64, bool) { return 0, true }); got != 0 {
		t.Error(got)
	}
	if got := r.of("a.service", run, func() (uint64, bool) { return 7, false }); got != 7 {
		t.Error(got)
	}
}
