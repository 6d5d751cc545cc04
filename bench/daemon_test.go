// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

// agent is agentd as it is installed, with its own swtpm and without a report device.
type agent struct {
	commands, dir string
}

// newAgent starts swtpm on a socket and writes the configuration. The swtpm keeps running
// when an agent ends, so that the next agent finds the attestation key.
func newAgent(b *testing.B) *agent {
	b.Helper()
	a := &agent{commands: b.TempDir(), dir: b.TempDir()}
	// Like packaging/build.sh: position-independent, and stripped. The agent hashes itself at
	// each start, so every megabyte counts.
	build := exec.Command("make", "-s", "-C", "..", "build", "COMMANDS=agentd", "OUT="+a.commands, "LDFLAGS=-s -w -buildid=")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build agentd as it is installed: %v\n%s", err, out)
	}
	for _, sub := range []string{"apps.d", "state", "files"} {
		if err := os.Mkdir(filepath.Join(a.dir, sub), 0o700); err != nil {
			b.Fatal(err)
		}
	}
	startTPM(b, a.dir)
	text := strings.ReplaceAll(`
[sockets]
client = "DIR/agentd.sock"
client_group = ""
admin = "DIR/admin.sock"
[tpm]
device = "unix:DIR/tpm.sock"
[report]
device = "DIR/sev-guest"
certificate_folder = "DIR/certs"
[measurement]
application_folders = ["DIR/apps.d"]
log_folder = "LOG"
[state]
folder = "DIR/state"
`, "DIR", a.dir)
	text = strings.ReplaceAll(text, "LOG", inMemory(b))
	if err := os.WriteFile(filepath.Join(a.dir, "config.toml"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return a
}

// inMemory returns a folder in memory, as that of the log is on a machine, if there is one.
func inMemory(b *testing.B) string {
	b.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "agentd-bench-")
	if err != nil {
		return b.TempDir()
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// pause is short beside the times that are measured, and what asks so often costs little of them.
const pause = 5 * time.Millisecond

func waitFor(b *testing.B, what string, f func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			b.Fatalf("no success before the deadline: %s", what)
		}
	}
}

// start starts the agent, and returns when the agent tells systemd that it is ready.
func (a *agent) start(b *testing.B) (stop func(), took time.Duration, pid int) {
	b.Helper()
	path := filepath.Join(a.dir, "notify")
	os.Remove(path)
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		b.Fatal(err)
	}
	defer notify.Close()
	cmd := exec.Command(filepath.Join(a.commands, "agentd"), "--config", filepath.Join(a.dir, "config.toml"), "--log-level", "error")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+path)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, 4096)
	notify.SetReadDeadline(begin.Add(time.Minute))
	for {
		n, err := notify.Read(buffer)
		if err != nil {
			cmd.Process.Kill()
			b.Fatalf("agentd did not become ready: %v\n%s", err, &stderr)
		}
		if bytes.Contains(buffer[:n], []byte("READY=1")) {
			break
		}
	}
	took = time.Since(begin)
	return func() {
		cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			b.Errorf("agentd: %v\n%s", err, &stderr)
		}
	}, took, cmd.Process.Pid
}

// rss returns the resident memory of a process in MB, as the kernel counts it.
func rss(b *testing.B, pid int) float64 {
	b.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if rest, ok := strings.CutPrefix(s.Text(), "VmRSS:"); ok {
			kb, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				b.Fatal(err)
			}
			return float64(kb) / 1024
		}
	}
	b.Fatal("/proc/PID/status does not contain VmRSS")
	return 0
}

// BenchmarkStart measures the start of the agent and the memory of the idle agent, for several
// numbers and sizes of applications.
//
//   - ready-of-hashing: the time from exec to READY=1, as a part of what one processor needs to
//     hash all files of the applications in the same run.
//   - measured-of-hashing: the same until all applications are measured.
//   - at-best: what all processors together need to hash all files, as a part of the same. Two
//     processors that share one core, or that other machines use too, are far from a half.
//   - cpu-of-hashing: the processor time of the agent until then, as a part of that of the hashing.
//   - MB-RSS: resident memory after one answer; idle-MB-RSS: some seconds later.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct{ apps, size int }{{0, 0}, {10, 1 << 20}, {50, 10 << 20}} {
		b.Run(fmt.Sprintf("apps=%d/MB=%d", c.apps, c.apps*c.size>>20), func(b *testing.B) {
			a := newAgent(b)
			files := a.declare(b, c.apps, c.size)
			stop, _, _ := a.start(b) // this one makes the attestation key
			stop()
			var ready, measured, hashing, together, used, usedToHash []time.Duration
			var memory []float64
			for b.Loop() {
				before := processorTime(b)
				hashing = append(hashing, hash(b, files))
				usedToHash = append(usedToHash, processorTime(b)-before)
				together = append(together, hashTogether(b, files))
				begin := time.Now()
				stop, took, pid := a.start(b)
				ready = append(ready, took)
				a.waitMeasured(b, c.apps)
				measured = append(measured, time.Since(begin))
				used = append(used, processorTimeOf(b, pid))
				if _, err := a.client().Status(b.Context()); err != nil {
					b.Fatal(err)
				}
				memory = append(memory, rss(b, pid))
				stop()
			}
			stop, _, pid := a.start(b)
			a.waitMeasured(b, c.apps)
			idle := rss(b, pid)
			for end := time.Now().Add(15 * time.Second); time.Now().Before(end); time.Sleep(time.Second) { // the agent becomes idle
				idle = min(idle, rss(b, pid))
			}
			stop()
			if c.apps > 0 {
				b.ReportMetric(float64(middle(ready))/float64(middle(hashing)), "ready-of-hashing")
				b.ReportMetric(float64(middle(measured))/float64(middle(hashing)), "measured-of-hashing")
				b.ReportMetric(float64(middle(together))/float64(middle(hashing)), "at-best")
				b.ReportMetric(float64(middle(used))/float64(middle(usedToHash)), "cpu-of-hashing")
			}
			b.ReportMetric(float64(middle(ready).Microseconds())/1000, "ms/ready")
			b.ReportMetric(part(memory, 0.5), "MB-RSS")
			b.ReportMetric(idle, "idle-MB-RSS")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func (a *agent) client() *client.Client {
	return &client.Client{Socket: filepath.Join(a.dir, "agentd.sock")}
}

// declare declares applications of one file of size bytes each, and returns the files.
func (a *agent) declare(b *testing.B, apps, size int) (files []string) {
	b.Helper()
	for i := range apps {
		file := filepath.Join(a.dir, "files", strconv.Itoa(i))
		if err := os.WriteFile(file, bytes.Repeat([]byte{byte(i)}, size), 0o600); err != nil {
			b.Fatal(err)
		}
		text := fmt.Sprintf("unit = \"app%d.service\"\nuser = \"root\"\nfiles = [%q]\n", i, file)
		if err := os.WriteFile(filepath.Join(a.dir, "apps.d", fmt.Sprintf("app%d.toml", i)), []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// waitMeasured waits until all applications are measured.
func (a *agent) waitMeasured(b *testing.B, apps int) {
	b.Helper()
	admin := &client.Admin{Socket: filepath.Join(a.dir, "admin.sock")}
	defer admin.Close()
	waitFor(b, "all applications are measured", func() bool {
		list, err := admin.Apps(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return len(list) == apps && !slices.ContainsFunc(list, func(x api.App) bool { return x.State != api.AppMeasured })
	})
}

// hash reads and hashes files one after the other, and returns how long that took.
func hash(b *testing.B, files []string) time.Duration {
	b.Helper()
	begin := time.Now()
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(sha256.New(), f); err != nil {
			b.Fatal(err)
		}
		f.Close()
	}
	return time.Since(begin)
}

// hashTogether does the same with as many goroutines as there are processors.
func hashTogether(b *testing.B, files []string) time.Duration {
	b.Helper()
	begin := time.Now()
	var all sync.WaitGroup
	n := runtime.GOMAXPROCS(0)
	for i := range n {
		all.Go(func() {
			for k := i; k < len(files); k += n {
				hash(b, files[k:k+1])
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}

// processorTimeOf returns how long another process has used the processors.
func processorTimeOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest) // from field 3 of proc_pid_stat(5) on
	var ticks int
	for _, f := range fields[11:13] { // utime and stime
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}
