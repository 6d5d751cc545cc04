// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/ima"
)

// BenchmarkVerifyIMABesideKeylime measures the same list as [BenchmarkVerifyIMA], in turn with keylime's own
// verification of it (keylime.ima.ima.process_measurement_list, in the form for people, with a policy that
// lists the same 200,000 files by path). KEYLIME is the folder of keylime's source. "x-keylime" is our time
// in units of keylime's, for the whole appraisal of evidence: keylime's part is the list alone, without
// reading it, the quote and the policy. "cpu-x-keylime" is the same of the times of the processor.
func BenchmarkVerifyIMABesideKeylime(b *testing.B) {
	source := os.Getenv("KEYLIME")
	if source == "" {
		b.Skip("KEYLIME is not set: the folder of keylime's source")
	}
	l := makeIMA(b)
	k := startKeylime(b, source, l)
	if _, _, verdict := k.verify("wrong"); verdict != "refused" {
		b.Fatalf("a list that does not lead to the quoted value: %s", verdict)
	}
	var own, other, ownUsed, otherUsed []time.Duration
	for b.Loop() {
		before := processorTime(b)
		own = append(own, timed(l.appraise))
		ownUsed = append(ownUsed, processorTime(b)-before)
		took, used, verdict := k.verify("list")
		if verdict != "accepted" {
			b.Fatal(verdict)
		}
		other, otherUsed = append(other, took), append(otherUsed, used)
	}
	b.ReportMetric(0, "ns/op") // the sum of both means nothing
	b.ReportMetric(float64(middle(own))/float64(middle(other)), "x-keylime")
	b.ReportMetric(float64(middle(ownUsed))/float64(middle(otherUsed)), "cpu-x-keylime")
	b.ReportMetric(entriesIMA/middle(own).Seconds(), "entries/s")
	b.ReportMetric(entriesIMA/middle(other).Seconds(), "keylime-entries/s")
}

// keylime is a process that verifies a list when it is asked.
type keylime struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Reader
}

func startKeylime(b *testing.B, source string, l *listIMA) *keylime {
	b.Helper()
	inputs := filepath.Join(b.TempDir(), "inputs.json")
	if err := os.WriteFile(inputs, keylimeInputs(b, l), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("python3", "-B", "keylime.py", source, inputs)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	k := &keylime{b, in, bufio.NewReader(out)}
	if line, err := k.out.ReadString('\n'); line != "ready\n" {
		b.Fatalf("keylime: %q, %v", line, err)
	}
	return k
}

// processorTime returns how long this process has used the processors.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// verify verifies the list, or a wrong one, and returns how long that took, by the clock and of the
// processor.
func (k *keylime) verify(which string) (took, used time.Duration, verdict string) {
	k.b.Helper()
	_, err := fmt.Fprintln(k.in, which)
	if err == nil {
		_, err = fmt.Fscanln(k.out, &took, &used, &verdict)
	}
	if err != nil {
		k.b.Fatalf("keylime: %v", err)
	}
	return took, used, verdict
}

// keylimeInputs returns the list as Linux prints it for people, a wrong one, and keylime's policy.
func keylimeInputs(b *testing.B, l *listIMA) []byte {
	b.Helper()
	var lines []string
	files := make(map[string][]string)
	for e := range ima.Entries(ima.Whole(l.list)) {
		x, err := e.Fields()
		if err != nil {
			b.Fatal(err)
		}
		lines = append(lines, fmt.Sprintf("%d %x %s %s %s", e.PCR, e.Hash, e.Template, x.Digest, x.Path))
		if e.Number == 0 {
			files[x.Path] = []string{hex.EncodeToString(x.Digest.Value)}
		}
	}
	for i, path := range l.paths {
		files[path] = []string{hex.EncodeToString(l.digests[i])}
	}
	other := []string{lines[0], lines[1]} // not to the quoted value
	none := map[string]any{}
	text, err := json.Marshal(map[string]any{
		"list": lines, "wrong": other, "value": hex.EncodeToString(l.value),
		"policy": map[string]any{
			"meta": map[string]any{"version": 1, "generator": 0}, "release": 0, "digests": files, "excludes": []string{}, "keyrings": none,
			"ima": map[string]any{"ignored_keyrings": []string{}, "log_hash_alg": "sha1", "dm_policy": nil}, "ima-buf": none, "verification-keys": "",
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	return text
}
