// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

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
	for _, sub := range []string{"apps.d", "log", "state", "files"} {
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
log_folder = "DIR/log"
[state]
folder = "DIR/state"
`, "DIR", a.dir)
	if err := os.WriteFile(filepath.Join(a.dir, "config.toml"), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	return a
}

func waitFor(b *testing.B, what string, f func() bool) {
	b.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
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

// BenchmarkStart measures the time from exec to READY=1, and the memory of the idle agent,
// for several numbers and sizes of applications.
func BenchmarkStart(b *testing.B) {
	for _, c := range []struct{ apps, size int }{{0, 0}, {10, 1 << 20}, {50, 10 << 20}} {
		b.Run(fmt.Sprintf("apps=%d/MB=%d", c.apps, c.apps*c.size>>20), func(b *testing.B) {
			a := newAgent(b)
			for i := range c.apps {
				file := filepath.Join(a.dir, "files", strconv.Itoa(i))
				if err := os.WriteFile(file, bytes.Repeat([]byte{byte(i)}, c.size), 0o600); err != nil {
					b.Fatal(err)
				}
				text := fmt.Sprintf("unit = \"app%d.service\"\nuser = \"root\"\nfiles = [%q]\n", i, file)
				if err := os.WriteFile(filepath.Join(a.dir, "apps.d", fmt.Sprintf("app%d.toml", i)), []byte(text), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			stop, _, _ := a.start(b) // this one makes the attestation key
			stop()
			var total time.Duration
			var memory float64
			for b.Loop() {
				stop, took, pid := a.start(b)
				total += took
				// It is idle after it has answered one request.
				if _, err := (&client.Client{Socket: filepath.Join(a.dir, "agentd.sock")}).Status(b.Context()); err != nil {
					b.Fatal(err)
				}
				memory = max(memory, rss(b, pid))
				stop()
			}
			b.ReportMetric(float64(total.Microseconds())/1000/float64(b.N), "ms/ready")
			b.ReportMetric(memory, "MB-RSS")
			b.ReportMetric(0, "ns/op")
		})
	}
}
