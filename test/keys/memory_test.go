// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A region is one mapping of a process (proc_pid_smaps(5)).
type region struct {
	start, end uint64
	name       string // file or kind; empty: anonymous
	readable   bool
	executable bool
	dontDump   bool // VmFlags dd: left out of cores
}

var regionLine = regexp.MustCompile(`^([0-9a-f]+)-([0-9a-f]+) (....) [0-9a-f]+ \S+ \d+ *(.*)$`)

// regions lists the memory of a process that runs.
func regions(t *testing.T, pid int) (out []region) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	must(t, err)
	for line := range strings.Lines(string(b)) {
		line = strings.TrimRight(line, "\n")
		if m := regionLine.FindStringSubmatch(line); m != nil {
			r := region{name: m[4], readable: m[3][0] == 'r', executable: m[3][2] == 'x'}
			r.start, _ = strconv.ParseUint(m[1], 16, 64)
			r.end, _ = strconv.ParseUint(m[2], 16, 64)
			out = append(out, r)
		}
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			out[len(out)-1].dontDump = slices.Contains(strings.Fields(flags), "dd")
		}
	}
	return out
}

// memoryChunk is how much memory is looked at in one go.
const memoryChunk = 1 << 20

// search calls found for each copy of a needle in a region of a process. Chunks overlap
// by as much as a needle has, less one.
func search(t *testing.T, pid int, r region, needles map[string][]byte, found func(name string, address uint64)) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	must(t, err)
	defer f.Close()
	longest := 0
	for _, n := range needles {
		longest = max(longest, len(n))
	}
	b := make([]byte, memoryChunk+longest-1)
	for at := r.start; at < r.end; at += memoryChunk {
		n, err := f.ReadAt(b[:min(uint64(len(b)), r.end-at)], int64(at))
		if err != nil && !errors.Is(err, io.EOF) && n == 0 {
			continue // given back meanwhile
		}
		for name, needle := range needles {
			for from := 0; ; from++ {
				i := bytes.Index(b[from:n], needle)
				if from += i; i < 0 || from >= memoryChunk {
					break // what begins after it is the next chunk's
				}
				found(name, at+uint64(from))
			}
		}
	}
}

// copies counts the needles in the memory of a process, by name: hidden in memory that
// is marked to be left out of cores, and open in all other.
func copies(t *testing.T, pid int, needles map[string][]byte) (hidden, open map[string]int) {
	t.Helper()
	hidden, open = map[string]int{}, map[string]int{}
	for _, r := range regions(t, pid) {
		if !r.readable || strings.HasPrefix(r.name, "[vvar") || r.name == "[vsyscall]" {
			continue
		}
		search(t, pid, r, needles, func(name string, _ uint64) {
			if r.dontDump {
				hidden[name]++
			} else {
				open[name]++
			}
		})
	}
	return hidden, open
}

// marker is a text in the agent's heap that is not a secret: if a search does
// not find it, it searches nothing.
// It is the name of a secret, which the manifest lists.
var marker = []byte("marker-that-is-no-secret-3a75c1")

// stockedAgent is an agent that keeps a secret, has derived another one, and was
// started anew since, so that nothing is left of the making of its store.
func stockedAgent(t *testing.T, commands string) (a *agent, known map[string][]byte, use func()) {
	t.Helper()
	a = startFrom(t, commands)
	stored := make([]byte, 48)
	rand.Read(stored)
	dir := t.TempDir()
	from, to := filepath.Join(dir, "stored"), filepath.Join(dir, "derived")
	must(t, os.WriteFile(from, stored, 0o600))
	ask := func(args ...string) {
		t.Helper()
		if out, err := a.run("billing.service", args...); err != nil {
			t.Fatalf("agentctl %v: %v\n%s", args, err, out)
		}
	}
	ask("seal", "--name", "token", from)
	ask("seal", "--name", string(marker), from)
	a.restart(t)
	use = func() {
		t.Helper()
		ask("unseal", "--name", "token", "--out", filepath.Join(dir, "opened"))
		ask("key", "derive", "--label", "disk", "--length", "48", "--out", to)
	}
	use()
	derived, err := os.ReadFile(to)
	must(t, err)
	known = a.rootKeys(t)
	known[storedSecret], known[derivedSecret] = stored, derived
	return a, known, use
}

// inAllForms are the needles of keys: as they are, and in the forms in which they pass
// through the agent. HMAC (FIPS 198-1) masks its key with two constants.
func inAllForms(known map[string][]byte) map[string][]byte {
	out := map[string][]byte{"marker": marker}
	for name, k := range known {
		for form, needle := range forms(k) {
			out[name+", "+form] = needle
		}
		for _, pad := range []byte{0x36, 0x5c} {
			masked := bytes.Clone(k)
			for i := range masked {
				masked[i] ^= pad
			}
			out[fmt.Sprintf("%s, masked with 0x%x", name, pad)] = masked
		}
	}
	return out
}

// TestMemoryOfTheAgent: what is kept for long lies in memory that no core holds. What
// passes through the heap is counted, for docs/limitations.md, and not judged: nothing
// but the garbage collector overwrites it.
func TestMemoryOfTheAgent(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("reads the memory of another process: for root")
	}
	a, known, use := stockedAgent(t, "")
	needles := inAllForms(known)
	tell := func(when string) {
		t.Helper()
		hidden, open := copies(t, a.PID(), needles)
		t.Logf("%s: outside the memory for secrets %v", when, open)
		for _, name := range []string{root, appRoot, storeKey} {
			if n := hidden[name+", as it is"]; n < 1 {
				t.Errorf("%s: %s lies %d times in memory that is left out of cores", when, name, n)
			}
		}
		for _, name := range []string{derivedKey, tpmSecret, slotKey, dataKey, storedSecret} {
			if n := hidden[name+", as it is"]; n != 0 {
				t.Errorf("%s: %s is kept, %d times, although it is not needed any more", when, name, n)
			}
		}
	}
	tell("right after")
	for range 20 {
		use()
	}
	tell("right after 40 requests")

	done := make(chan error, 1)
	go func() {
		for range 10 {
			if out, err := a.run("billing.service", "unseal", "--name", "token"); err != nil {
				done <- fmt.Errorf("%w: %s", err, out)
				return
			}
		}
		done <- nil
	}()
	most := map[string]int{}
	for working := true; working; {
		select {
		case err := <-done:
			must(t, err)
			working = false
		default:
			_, open := copies(t, a.PID(), needles)
			for name, n := range open {
				most[name] = max(most[name], n)
			}
		}
	}
	t.Logf("while secrets are unsealed, at most: outside the memory for secrets %v", most)
}
