// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take: tests share their processors.
const patience = 3 * time.Minute

// boot prepares the namespaces that unshare(1) made, and becomes systemd. Its arguments are a
// folder that stays writable, and systemd.
const boot = `set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /etc/systemd/system
cp "$1"/units/* /etc/systemd/system/
mount --make-rshared /
exec env -i container=other "PATH=$PATH" "$2" --system --unit=test.target --log-target=console
`

// machine is a running systemd.
type machine struct {
	t      *testing.T
	dir    string // writable on both sides
	cgroup string
	pid    string // of systemd, as the test sees it
	log    *os.File
}

// hierarchy returns where control groups v2 are mounted, or skips.
func hierarchy(t *testing.T) string {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 3 && f[2] == "cgroup2" && strings.HasPrefix(f[3], "rw") {
			return f[1]
		}
	}
	t.Skip("no writable hierarchy of control groups v2")
	return ""
}

// systemd returns the path of the service manager, or skips.
func systemd(t *testing.T) string {
	for _, path := range []string{"/usr/lib/systemd/systemd", "/lib/systemd/systemd"} {
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() {
			return path
		}
	}
	t.Skip("systemd is not installed")
	return ""
}

// start starts systemd with the units in dir/units.
func start(t *testing.T, dir string) *machine {
	t.Helper()
	m := &machine{t: t, dir: dir}
	m.cgroup = filepath.Join(hierarchy(t), fmt.Sprintf("agentd-test-%d", os.Getpid()))
	if err := os.Mkdir(m.cgroup, 0o755); err != nil {
		t.Skipf("no control group can be made: %v", err)
	}
	t.Cleanup(m.leave)
	var err error
	if m.log, err = os.Create(filepath.Join(dir, "systemd.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.log.Close() })
	cmd := exec.Command("sh", "-c", `echo $$ >"$0"/cgroup.procs && exec unshare -m -p -i -u -C -n --fork --kill-child sh -c "$1" boot "$2" "$3"`, m.cgroup, boot, dir, systemd(t))
	cmd.Stdout, cmd.Stderr = m.log, m.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	until(t, "systemd runs", func() bool {
		select {
		case err := <-ended:
			ended <- err
			b, _ := os.ReadFile(m.log.Name())
			if bytes.Contains(b, []byte("ermission denied")) || bytes.Contains(b, []byte("not permitted")) {
				t.Skipf("no systemd can run here: %s", b)
			}
			t.Fatalf("systemd did not start: %v\n%s", err, b)
		default:
		}
		b, err := os.ReadFile(filepath.Join(m.cgroup, "init.scope/cgroup.procs"))
		m.pid, _, _ = strings.Cut(string(b), "\n")
		return err == nil && m.pid != ""
	})
	until(t, "systemd answers", func() bool { return m.command("systemctl", "is-active", "test.target").Run() == nil })
	return m
}

// leave removes the control groups, once their processes have ended.
func (m *machine) leave() {
	until(m.t, "the control groups are empty", func() bool {
		var deep []string
		filepath.WalkDir(m.cgroup, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				deep = append(deep, path)
			}
			return nil
		})
		for i := len(deep) - 1; i >= 0; i-- {
			os.Remove(deep[i])
		}
		_, err := os.Stat(m.cgroup)
		return errors.Is(err, fs.ErrNotExist)
	})
}

// command returns a command of root inside the machine, and outside of every unit.
func (m *machine) command(program string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", m.pid, "-m", "-p", "-u", "-i", "-n", "-C", program}, args...)...)
}

// do runs a command that must succeed, with input, and returns what it printed.
func (m *machine) do(input, program string, args ...string) string {
	m.t.Helper()
	cmd := m.command(program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s %v: %v\n%s\n%s", program, args, err, out, m.said())
	}
	return string(out)
}

// said returns what systemd and its units printed.
func (m *machine) said() string {
	b, _ := os.ReadFile(filepath.Join(m.dir, "said"))
	return string(b)
}

// startUnit starts a unit, and returns how that ended: "success", or the exit status of what
// failed.
func (m *machine) startUnit(unit string) string {
	m.t.Helper()
	if m.command("systemctl", "start", unit).Run() == nil {
		return "success"
	}
	show := m.do("", "systemctl", "show", "-p", "ExecMainStatus", "--value", unit)
	m.command("systemctl", "reset-failed", unit).Run()
	return strings.TrimSpace(show)
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// process returns the number, as the test sees it, of the process of a service that runs a program
// of the machine.
func (m *machine) process(unit, program string) int {
	m.t.Helper()
	n := 0
	until(m.t, unit+" runs "+program, func() bool {
		b, _ := os.ReadFile(filepath.Join(m.cgroup, "system.slice", unit, "cgroup.procs"))
		for _, pid := range strings.Fields(string(b)) {
			if exe, _ := os.Readlink("/proc/" + pid + "/exe"); exe == filepath.Join(m.dir, "bin", program) {
				n, _ = strconv.Atoi(pid)
			}
		}
		return n > 0
	})
	return n
}

// opened says whether a process has a file open.
func opened(process int, path string) bool {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", process))
	return slices.ContainsFunc(links, func(link string) bool {
		to, _ := os.Readlink(link)
		return to == path
	})
}

// install copies a file for the machine.
func install(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}
