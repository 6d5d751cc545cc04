// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
)

// TestCancelled: a caller that hangs up while the app is hashed changes nothing.
func TestCancelled(t *testing.T) {
	w := newWorld(t)
	w.write("bin", "one", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	before := w.app("app")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	os.Remove(w.path("bin"))
	if _, err := w.Measure(ctx, "app"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if s := w.app("app"); s != before || len(w.log.all()) != 1 {
		t.Errorf("%+v, %d events", s, len(w.log.all()))
	}
	if _, err := w.Reload(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("reload: %v", err)
	}
	// In the middle of files that take seconds: the hashing ends with the context.
	const size, files = manifest.MaxFileSize, manifest.MaxAppSize / manifest.MaxFileSize
	var paths []string
	for i := range files {
		p := w.write(fmt.Sprint("big", i), "", 0o755)
		if err := os.Truncate(p, size); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	w.declare("big", list("files", paths...))
	read := bytesRead(t)
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.Reload(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reload: %v", err)
	}
	if read = bytesRead(t) - read; read >= files*size/2 {
		t.Errorf("%d bytes of %d were read by one who was cut off at once", read, uint64(files*size))
	}
	if s := w.app("big"); s.Measured || s.HasRecord {
		t.Errorf("%+v", s)
	}
}

// bytesRead is how much this process has read in all its life (proc_pid_io(5)). Unlike
// time, it does not pass while the process is kept off the processor.
func bytesRead(t *testing.T) uint64 {
	t.Helper()
	b, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skipf("needs a kernel that counts what is read: %v", err)
	}
	var n uint64
	if _, err := fmt.Sscanf(string(b), "rchar: %d", &n); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return n
}
