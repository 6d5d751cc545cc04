// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
)

// caseDeadline is far above what any case takes on a busy machine, and far below what
// hashing a sparse file of 1 TB or waiting for a FIFO would.
const caseDeadline = 2 * time.Minute

// inMountNamespace runs the test in a process of its own that has mounts of its own, and
// reports whether this is that process.
func inMountNamespace(t *testing.T) bool {
	t.Helper()
	const mark = "AGENTD_TEST_OWN_MOUNTS"
	if os.Getenv(mark) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Skipf("a mount namespace of its own is not possible here: %v", err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), mark+"=yes")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, unix.EPERM):
		t.Skipf("needs a mount namespace, that is root: %v", err)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Skipf("%s", out)
	}
	return false
}

// stir calls f until the test calls the function it returns, which waits for the end.
func stir(f func(round int)) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
				f(i)
			}
		}
	}()
	return sync.OnceFunc(func() { close(end); <-ended })
}

// TestRenameSwap swaps two executables under one name, 10,000 times against as many
// measurements as fit in between: every digest in the log is that of one of them,
// whole, with its own size, and only such a digest is ever covered (case 12).
func TestRenameSwap(t *testing.T) {
	const rounds = 10000
	w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
	contents := []string{"trusted " + strings.Repeat("t", 5000), "evil " + strings.Repeat("e", 9000)}
	w.write("a", contents[0], 0o755)
	w.write("b", contents[1], 0o755)
	symlink(t, "a", w.path("link"))
	w.declare("app", list("files", w.path("a"), w.path("link")))
	w.reload()

	var swaps atomic.Int64
	stop := stir(func(i int) {
		swaps.Add(1)
		if err := unix.Renameat2(unix.AT_FDCWD, w.path("a"), unix.AT_FDCWD, w.path("b"), unix.RENAME_EXCHANGE); err != nil {
			t.Error(err)
		}
		os.Symlink([]string{"a", "b"}[i%2], w.path("link.new"))
		os.Rename(w.path("link.new"), w.path("link"))
	})
	defer stop()
	measured, refused := 0, 0
	// If one of the two is kept off the processor, the other waits for it.
	raced := func() bool { return measured > 0 && swaps.Load() >= rounds/100 }
	for end := time.Now().Add(patience); measured+refused < rounds || !raced() && time.Now().Before(end); {
		_, err := w.Measure(t.Context(), "app")
		var changed *manifest.ChangedError
		switch {
		case err == nil:
			measured++
		case errors.As(err, &changed):
			refused++
		default:
			t.Fatal(err)
		}
	}
	stop()
	if !raced() {
		t.Errorf("%d measured, %d refused, %d swaps: nothing was raced", measured, refused, swaps.Load())
	}
	t.Logf("%d measured, %d refused as changing, %d swaps, %d events", measured, refused, swaps.Load(), len(w.log.all()))

	whole := map[string]uint64{digestOf("a").String(): 1, digestOf("b").String(): 1}
	for _, c := range contents {
		whole[digestOf(c).String()] = uint64(len(c))
	}
	for i, e := range w.log.all() {
		if e.App == nil {
			continue
		}
		for _, m := range e.App.Manifest {
			if size, ok := whole[m.Digest.String()]; !ok || size != m.Size {
				t.Fatalf("event %d: %s has digest %s and size %d, which never were in one file", i, m.Path, m.Digest, m.Size)
			}
		}
	}
}
