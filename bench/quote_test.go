// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// quoteTool is tpm2_quote on a TPM of its own, of the kind that the simulated machine has.
type quoteTool struct {
	env []string
	dir string
	tpm int           // process of its TPM
	cpu time.Duration // of all tools so far, in user and kernel
}

// akHandle is where the attestation key of the tool is: a key in NV memory needs the fewest
// commands for each quote.
const akHandle = "0x81010002"

// newQuoteTool starts swtpm and makes an attestation key of the kind that the agent has:
// ECDSA on P-256.
func newQuoteTool(b *testing.B) *quoteTool {
	b.Helper()
	if _, err := exec.LookPath("tpm2_quote"); err != nil {
		b.Skip("tpm2_quote is not installed: apt-get install tpm2-tools")
	}
	q := &quoteTool{dir: b.TempDir()}
	socket, tpm := startTPM(b, q.dir)
	q.tpm, q.env = tpm, append(os.Environ(), "TPM2TOOLS_TCTI=swtpm:path="+socket)
	for _, args := range [][]string{
		{"tpm2_createek", "-G", "ecc", "-c", "ek.ctx"},
		{"tpm2_createak", "-C", "ek.ctx", "-c", "ak.ctx", "-G", "ecc", "-g", "sha256", "-s", "ecdsa"},
		{"tpm2_flushcontext", "-t"},
		{"tpm2_evictcontrol", "-C", "o", "-c", "ak.ctx", akHandle},
		{"tpm2_flushcontext", "-t"},
	} {
		q.run(b, args...)
	}
	return q
}

// run runs a tool, and returns how long it took from start to exit.
func (q *quoteTool) run(b *testing.B, args ...string) time.Duration {
	b.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env, cmd.Dir = q.env, q.dir
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%q: %v\n%s", args, err, out)
	}
	took := time.Since(begin)
	q.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return took
}

// quote quotes what the agent quotes, PCRs 0 to 15, over a nonce.
func (q *quoteTool) quote(b *testing.B) time.Duration {
	b.Helper()
	return q.run(b, "tpm2_quote", "-c", akHandle, "-l", "sha256:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "-g", "sha256",
		"-q", "4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e", "-m", "message", "-s", "signature", "-o", "pcrs")
}

// BenchmarkAgainstQuote compares evidence with tpm2_quote, as a whole process: what programs
// do that ask the TPM themselves. Both run in turn, on two swtpm of one kind, so that other work
// of the machine slows both. The clients run on the same processors as the agent.
//
//   - of-quote: the median time of one caller, as a part of that of tpm2_quote. Less is better.
//   - x-quotes: how many documents 64 clients get in the time of one tpm2_quote.
//   - cpu-x-quotes: how many documents the processor time of one tpm2_quote and its TPM pays for,
//     with that of clients, agent and TPM. It depends less on other work of the machine. With two
//     idle processors x-quotes is about twice as much, since one tpm2_quote uses one of them.
//   - p99/p50: of the times of these clients.
func BenchmarkAgainstQuote(b *testing.B) {
	tool := newQuoteTool(b)
	m := busyMachine(b)
	for _, f := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		b.Run(string(f), func(b *testing.B) {
			one := m.Client()
			many := make([]*client.Client, 64)
			for i := range many {
				many[i] = m.Client()
			}
			ask(b, many, f, time.Now().Add(100*time.Millisecond)) // all are connected
			var quotes, alone, ratios, tails []float64
			var quoting, serving time.Duration
			documents := 0
			for b.Loop() {
				var took []float64
				quoting -= tool.cpu + cpu(b, tool.tpm)
				for range 8 {
					took = append(took, tool.quote(b).Seconds())
				}
				quoting += tool.cpu + cpu(b, tool.tpm)
				quotes = append(quotes, took...)
				alone = append(alone, ask(b, []*client.Client{one}, f, time.Now().Add(200*time.Millisecond))...)
				serving -= cpu(b, os.Getpid()) + family(b, m.PID())
				begin := time.Now()
				times := ask(b, many, f, begin.Add(500*time.Millisecond))
				rate := float64(len(times)) / time.Since(begin).Seconds()
				serving += cpu(b, os.Getpid()) + family(b, m.PID())
				documents += len(times)
				ratios = append(ratios, rate*part(took, 0.5))
				tails = append(tails, part(times, 0.99)/part(times, 0.5))
			}
			b.ReportMetric(part(alone, 0.5)/part(quotes, 0.5), "of-quote")
			b.ReportMetric(part(ratios, 0.5), "x-quotes")
			b.ReportMetric(quoting.Seconds()/float64(len(quotes))/(serving.Seconds()/float64(documents)), "cpu-x-quotes")
			b.ReportMetric(part(tails, 0.5), "p99/p50")
			b.ReportMetric(0, "ns/op") // the sum of all means nothing
		})
	}
}

// cpu returns the processor time of a process so far.
func cpu(b *testing.B, pid int) time.Duration {
	b.Helper()
	_, spent, err := stat(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	return spent
}

// family returns the processor time of a process and of its children, which still run.
func family(b *testing.B, pid int) time.Duration {
	b.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	total := cpu(b, pid)
	for _, name := range all {
		if parent, spent, err := stat(name); err == nil && parent == pid { // others end meanwhile
			total += spent
		}
	}
	return total
}

// stat returns the parent of a process, and its processor time in user and kernel: fields 4, 14
// and 15 of proc_pid_stat(5), which counts ticks of 10 ms.
func stat(name string) (parent int, spent time.Duration, err error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:])) // from field 3
	var numbers [3]int
	for i, field := range []int{4, 14, 15} {
		if numbers[i], err = strconv.Atoi(fields[field-3]); err != nil {
			return 0, 0, err
		}
	}
	return numbers[0], time.Duration(numbers[1]+numbers[2]) * 10 * time.Millisecond, nil
}

// busyMachine is a simulated machine on which one user may ask as often as the machine can
// answer: all clients of a benchmark are one user.
func busyMachine(b *testing.B) *simulated.Machine {
	b.Helper()
	dir := filepath.Join(b.TempDir(), "m")
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[limits]\nrequests_per_second_per_user = 1000000\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	return simulated.RunIn(b, dir)
}

// ask has each client ask for evidence again and again until end, and returns the seconds that
// each answer took.
func ask(b *testing.B, clients []*client.Client, f evidence.Freshness, end time.Time) (all []float64) {
	b.Helper()
	var mu sync.Mutex
	var wait sync.WaitGroup
	for _, c := range clients {
		wait.Go(func() {
			var took []float64
			var document []byte // in one buffer, as programs do that ask often
			var err error
			for begin := time.Now(); begin.Before(end); begin = time.Now() {
				document, err = c.AppendEvidence(context.Background(), document[:0], api.EvidenceRequest{Nonce: newNonce(), Freshness: f})
				if err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(begin).Seconds())
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wait.Wait()
	return all
}

// part returns the value below which a part of all values are.
func part(values []float64, p float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(float64(len(sorted))*p), len(sorted)-1)]
}

// startTPM starts swtpm in a folder, ready for commands on the socket that it returns, and
// the number of its process.
func startTPM(b *testing.B, dir string) (socket string, pid int) {
	b.Helper()
	swtpm, err := exec.LookPath("swtpm")
	if err != nil {
		b.Skip(simulated.ErrNoTPM)
	}
	state := filepath.Join(dir, "tpm")
	if err := os.Mkdir(state, 0o700); err != nil {
		b.Fatal(err)
	}
	socket = filepath.Join(dir, "tpm.sock")
	cmd := exec.Command(swtpm, "socket", "--tpm2", "--server", "type=unixio,path="+socket, "--ctrl", "type=unixio,path="+socket+".ctrl",
		"--tpmstate", "dir="+state, "--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	waitFor(b, "swtpm", func() bool { _, err := os.Stat(socket); return err == nil })
	return socket, cmd.Process.Pid
}
