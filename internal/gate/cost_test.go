// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// median starts programs in turn, each so many times, and returns how long each took in the middle,
// from the start to the end. The paths of one row are of one kind.
func median(rounds int, rows ...[]string) ([]time.Duration, error) {
	took := make([][]time.Duration, len(rows))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	files := []*os.File{null, null, null}
	for n := range rounds {
		for i, paths := range rows {
			path := paths[n%len(paths)]
			begun := time.Now()
			p, err := os.StartProcess(path, []string{path}, &os.ProcAttr{Files: files})
			if err != nil {
				return nil, err
			}
			if _, err := p.Wait(); err != nil {
				return nil, err
			}
			took[i] = append(took[i], time.Since(begun))
		}
	}
	out := make([]time.Duration, len(rows))
	for i := range took {
		slices.Sort(took[i])
		out[i] = took[i][rounds/2]
	}
	return out, nil
}

// enable gives a file fs-verity.
func enable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	arg := enableVerity{version: 1, algorithm: unix.FS_VERITY_HASH_ALG_SHA256, blockSize: 4096}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_ENABLE_VERITY, uintptr(unsafe.Pointer(&arg))); errno != 0 {
		return errno
	}
	return nil
}

// TestCost says what a start costs with the gate, as a ratio to the same program in a folder that is
// not guarded: its digest is known, it has fs-verity, or it is read for the first time, with a megabyte.
// The agent of the test answers at once, and the programs end at once.
func TestCost(t *testing.T) {
	needGate(t)
	if testing.Short() {
		t.Skip("starts hundreds of processes: not with -short")
	}
	top := verityFolder(t)
	const files = 9
	big, verity := strings.Repeat("x", 1<<20), true
	for _, folder := range []string{"guarded", "plain"} {
		if err := os.Mkdir(filepath.Join(top, folder), 0o755); err != nil {
			t.Fatal(err)
		}
		program(t, filepath.Join(top, folder, "known"), "word")
		program(t, filepath.Join(top, folder, "fs-verity"), "word")
		if err := enable(filepath.Join(top, folder, "fs-verity")); err != nil {
			verity = false
			t.Logf("fs-verity is not measured: %v", err)
		}
		for n := range files {
			program(t, filepath.Join(top, folder, fmt.Sprint(n)), big)
		}
	}
	a := newAgent(t, all, app(filepath.Join(top, "guarded")))
	guarded(t, a, nil)
	asked := 0
	for _, c := range []struct {
		kind   string
		rounds int
		names  []string
	}{{"known", 201, []string{"known"}}, {"fs-verity", 201, []string{"fs-verity"}}, {"first", files, strings.Fields("0 1 2 3 4 5 6 7 8")}} {
		if c.kind == "fs-verity" && !verity {
			continue
		}
		x := command{Rounds: c.rounds, Rows: make([][]string, 2)}
		for _, name := range c.names {
			x.Rows[0] = append(x.Rows[0], filepath.Join(top, "guarded", name))
			x.Rows[1] = append(x.Rows[1], filepath.Join(top, "plain", name))
		}
		r, err := order(x)
		if err != nil || len(r.Took) != 2 {
			t.Fatalf("%s: %v, %v", c.kind, r, err)
		}
		t.Logf("%s: guarded %v, elsewhere %v, ratio %.2f", c.kind, r.Took[0], r.Took[1], float64(r.Took[0])/float64(r.Took[1]))
		asked += c.rounds
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asks) != asked || len(a.gaps) != 0 {
		t.Errorf("%d questions for %d starts, gaps %v: what was measured is not the gate", len(a.asks), asked, a.gaps)
	}
}
