// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// maxResident is how much memory an agent may take that does not start, in bytes.
const maxResident = 256 << 20

// An agent that is started with descriptors that are not its sockets ends at once, and says why,
// and takes little memory for it: any parent can set these variables.
func TestForeignDescriptors(t *testing.T) {
	m := prepare(t, setup{})
	dir := t.TempDir()
	file := func(c interface{ File() (*os.File, error) }, err error) *os.File {
		t.Helper()
		must(t, err)
		f, err := c.File()
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	unixAt := func(name string) *net.UnixAddr { return &net.UnixAddr{Name: name, Net: "unix"} }
	null, err := os.Open(os.DevNull)
	must(t, err)
	elsewhere := file(net.ListenUnix("unix", unixAt(filepath.Join(dir, "elsewhere"))))
	connected := file(net.DialUnix("unix", nil, unixAt(filepath.Join(dir, "elsewhere"))))
	for name, test := range map[string]struct {
		files []*os.File
		names string
		fds   string // LISTEN_FDS; by files if empty
		want  string // part of the reason
	}{
		"two thousand million": {nil, "", "2147483647", "LISTEN_FDS"},
		"not a number":         {nil, "", "-1", "LISTEN_FDS"},
		"one that is not open": {nil, "client", "1", "client"},
		"another name":         {[]*os.File{elsewhere}, "other", "", "other"},
		"twice":                {[]*os.File{elsewhere, elsewhere}, "client:client", "", "client"},
		"another path":         {[]*os.File{elsewhere}, "client", "", "path"},
		"connected":            {[]*os.File{connected}, "client", "", "listening"},
		"a datagram socket":    {[]*os.File{file(net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "datagram"), Net: "unixgram"}))}, "client", "", "stream"},
		"an abstract socket":   {[]*os.File{file(net.ListenUnix("unix", unixAt("@agentd-test-"+strconv.Itoa(os.Getpid()))))}, "client", "", "path"},
		"a device":             {[]*os.File{null}, "admin", "", "socket"},
	} {
		t.Run(name, func(t *testing.T) {
			fds := test.fds
			if fds == "" {
				fds = strconv.Itoa(len(test.files))
			}
			var out bytes.Buffer
			c := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$@"`, "sh", filepath.Join(shared.commands, "agentd-sim"), "--dir", m.Dir}, m.args...)...)
			c.ExtraFiles, c.Stderr, c.Stdout = test.files, &out, &out
			c.Env = append(os.Environ(), "LISTEN_FDS="+fds, "LISTEN_FDNAMES="+test.names)
			c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
			must(t, c.Start())
			done := make(chan error, 1)
			go func() { done <- c.Wait() }()
			largest, began := uint64(0), time.Now()
			for ended := false; !ended; {
				select {
				case err := <-done:
					ended = true
					if _, ok := errors.AsType[*exec.ExitError](err); !ok {
						t.Errorf("it ended with %v, want a failure", err)
					}
				case <-time.After(5 * time.Millisecond):
					if largest = max(largest, resident(c.Process.Pid)); largest > maxResident || time.Since(began) > patience {
						must(t, c.Process.Kill())
						t.Fatalf("after %v it still runs, with %d MB of memory", time.Since(began), largest>>20)
					}
				}
			}
			if !strings.Contains(out.String(), test.want) || out.Len() > 4<<10 {
				t.Errorf("it says %.4000q, want a sentence with %q", out.String(), test.want)
			}
		})
	}
}

// resident returns how much memory a process has, in bytes.
func resident(pid int) uint64 {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
	if fields := strings.Fields(string(b)); len(fields) > 1 {
		pages, _ := strconv.ParseUint(fields[1], 10, 64)
		return pages * uint64(os.Getpagesize())
	}
	return 0
}
