// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// BenchmarkIMAReference measures "agentctl policy ima-reference" of a folder with 200,000 files, as a whole
// process. "x-read" is the time in units of opening, reading and hashing these files one after the other,
// "MB" the most memory of the process.
func BenchmarkIMAReference(b *testing.B) {
	const files, each = 200_000, 1000 // each: in one folder
	commands, done, err := simulated.Commands()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(done)
	root := filepath.Join(b.TempDir(), "root")
	for i := range files {
		folder := filepath.Join(root, fmt.Sprint(i/each))
		if i%each == 0 {
			if err := os.MkdirAll(folder, 0o755); err != nil {
				b.Fatal(err)
			}
		}
		if err := os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), fmt.Appendf(make([]byte, 1024), "%d", i), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	var most int64 // kilobytes
	command, read := inTurn(b, func() {
		cmd := exec.Command(filepath.Join(commands, "agentctl"), "policy", "ima-reference", "--out", filepath.Join(b.TempDir(), "files.ref"), "--root", root)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v: %s", err, out)
		}
		if u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
			most = max(most, u.Maxrss)
		}
	}, func() {
		if n := readAll(b, root); n != files {
			b.Fatalf("%d files", n)
		}
	})
	b.ReportMetric(float64(command)/float64(read), "x-read")
	b.ReportMetric(float64(command)/float64(time.Second), "s-command")
	b.ReportMetric(float64(most)/1000, "MB")
}

// readAll reads and hashes the files below a folder, and returns their number.
func readAll(b *testing.B, root string) (n int) {
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if sha256.Sum256(content) != [32]byte{} {
			n++
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
