// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestShortOfDescriptors: the agent has no descriptor left at any of the steps of reading the
// declarations. Either reading fails as a whole, for the shortage, or it finds what it finds
// without one: no app is taken out of force.
func TestShortOfDescriptors(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		text := "unit = \"" + name + ".service\"\nuser = \"root\"\nfiles = [\"/bin/" + name + "\"]\n"
		if err := os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	source := Source{Directories: []string{dir}, Owners: []uint32{uint32(os.Geteuid())}, LookupUser: func(name string) (uint32, error) {
		f, err := os.Open("/etc/passwd") // as the search does
		if err != nil {
			return 0, err
		}
		defer f.Close()
		u, err := user.Lookup(name)
		if err != nil {
			return 0, err
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		return uint32(uid), err
	}}
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
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := uint64(len(open)) + 10; n > 3; n-- {
		allow(n)
		s, err := source.Load()
		allow(limit.Cur)
		switch {
		case err == nil && (len(s.Refused) > 0 || !slices.Equal(slices.Sorted(maps.Keys(s.Declarations)), []string{"a", "b"})):
			t.Errorf("with %d descriptors: %v are declared, %v refused", n, s.Declarations, s.Refused)
		case err != nil && !durable.Short(err):
			t.Errorf("with %d descriptors: %v", n, err)
		case err != nil:
			refused++
		}
	}
	if refused == 0 {
		t.Error("no limit was too low")
	}
}
