// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// start starts a program of this machine that says when it has everything open, and waits.
func start(t *testing.T, program string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

// unitOf returns a folder like /proc in which processes are in cgroups of these units.
func unitOf(t *testing.T, units map[int]string, parents map[int]int) string {
	t.Helper()
	proc := t.TempDir()
	for pid, unit := range units {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"cgroup": "0::/system.slice/" + unit + "/below\n", "stat": fmt.Sprintf("%d (a ) b) S %d 1 1", pid, parents[pid])} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"exe", "maps", "fd", "fdinfo", "root", "ns"} {
			of := fmt.Sprintf("/proc/%d/%s", pid, name)
			if at, err := os.Readlink(of); err == nil {
				of = at
			}
			if err := os.Symlink(of, filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return proc
}

// TestRunning: of a real process the program, its libraries, what it loaded by dlopen, the files that it
// reads and those that it writes show. What root alone can change is added to the proposal, and the rest
// is said.
func TestRunning(t *testing.T) {
	const python = "/usr/bin/python3"
	if _, err := os.Stat(python); err != nil {
		t.Skip("/usr/bin/python3 is not installed")
	}
	dir := t.TempDir()
	read, write, gone := filepath.Join(dir, "read"), filepath.Join(dir, "written"), filepath.Join(dir, "gone")
	for _, f := range []string{read, write, gone} {
		if err := os.WriteFile(f, []byte(strings.Repeat("x", 8192)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const program = `
import mmap, os, sys, _ctypes
r = open(sys.argv[1]); w = open(sys.argv[2], "a"); g = open(sys.argv[3], "rb")
m = mmap.mmap(g.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
j = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
os.unlink(sys.argv[3])
print("ready", flush=True)
sys.stdin.read()
`
	cmd := start(t, python, "-c", program, read, write, gone)
	pid := cmd.Process.Pid
	proc := unitOf(t, map[int]string{pid: "a.service"}, map[int]int{pid: 1})
	live, err := look(t.Context(), proc, func(u string) bool { return u == "a.service" })
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	if live.Processes != 1 || !slices.Contains(live.Code, exe) || !slices.ContainsFunc(live.Code, func(f string) bool { return strings.Contains(f, "libc.so") || strings.Contains(f, "libc-") }) {
		t.Errorf("code %q", live.Code)
	}
	extension := slices.IndexFunc(live.Code, func(f string) bool { return strings.Contains(f, "libffi") })
	if !slices.Contains(live.Opened, read) || !slices.Equal(live.Written, []string{write}) || slices.Contains(live.Opened, write) {
		t.Errorf("opened %q, written %q", live.Opened, live.Written)
	}
	said := strings.Join(live.Notes, "\n")
	for _, words := range []string{"executable memory that is not of a file", "as it was before it was replaced or removed"} {
		if !strings.Contains(said, words) {
			t.Errorf("does not say %q:\n%s", words, said)
		}
	}
	d := &declaration.Declaration{Files: []string{python}, Directories: []string{dir}, Exclude: []string{"writ*"}}
	said = strings.Join(live.Compare(Declared(d)), "\n")
	if strings.Contains(said, read) || !strings.Contains(said, "files that the running unit writes, which are data or logs: "+write) || !strings.Contains(said, "code that the running unit has mapped: ") {
		t.Errorf("compared with a declaration, says\n%s", said)
	}
	p := &Proposal{}
	if err := p.Running(t.Context(), live); err != nil {
		t.Fatal(err)
	}
	if extension >= 0 && os.Geteuid() == 0 && !slices.Contains(p.paths(groupRunning), live.Code[extension]) {
		t.Errorf("%s is not added: %q", live.Code[extension], p.paths(""))
	}
	if said = strings.Join(p.Uncovered, "\n"); !strings.Contains(said, read) || strings.Contains(said, "code that the running unit has mapped") {
		t.Errorf("says\n%s", said)
	}
}

// TestWhoseProcesses: the processes of a unit are those in its cgroup, and of a template those of its
// instances. Children in another unit are named.
func TestWhoseProcesses(t *testing.T) {
	proc := unitOf(t, map[int]string{1 << 23: "a.service", 1<<23 + 1: "b.service", 1<<23 + 2: "a.service", 1<<23 + 3: "user@7.service"}, map[int]int{1<<23 + 1: 1 << 23, 1<<23 + 3: 1<<23 + 1})
	live, err := look(t.Context(), proc, func(u string) bool { return u == "a.service" })
	if err != nil || live.Processes != 2 { // they have ended meanwhile
		t.Fatalf("%+v, %v", live, err)
	}
	if len(live.Notes) == 0 || !strings.HasPrefix(live.Notes[0], "process 8388609 is a child of process 8388608 of the unit, but runs outside") {
		t.Errorf("said %q", live.Notes)
	}
	none, err := look(t.Context(), proc, func(u string) bool { return u == "c.service" })
	if err != nil || !slices.Equal(none.Compare(&Proposal{}), []string{"the unit does not run, so nothing was compared"}) {
		t.Errorf("%+v, %v", none, err)
	}
}

// TestMapping: lines of maps are read as the kernel writes them.
func TestMapping(t *testing.T) {
	for line, want := range map[string]mapped{
		"00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon":           {true, "/usr/bin/dbus-daemon"},
		"00400000-00452000 r--p 00000000 08:02 173521      /opt/a b\\012c (deleted)":       {false, "/opt/a b\nc (deleted)"},
		"7f0000000000-7f0000001000 rwxp 00000000 00:00 0 ":                                 {true, ""},
		"7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]": {false, "[stack]"},
	} {
		if got, ok := mapping(line); !ok || got != want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
	for _, line := range []string{"", "x", "a b c d e f", "00-01 r-x 0 0 0 /x"} {
		if got, ok := mapping(line); ok {
			t.Errorf("%q: %+v", line, got)
		}
	}
}
