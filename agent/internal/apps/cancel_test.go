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
	// In the middle of files that take seconds: the reading goes on without its caller, and ends
	// with the agent.
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
	c, err := w.Apps.Reload(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("only big is still being measured", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		late := c.Wait(ctx)
		return len(late) == 1 && late[0] == "big"
	})
	began := w.app("big").Reading
	if began == nil {
		t.Fatal("no reading is under way")
	}
	w.eventually("it is read on", func() bool { r := w.app("big").Reading; return r != nil && r.Bytes > began.Bytes && r.Of > 0 })
	w.Close()
	if read = bytesRead(t) - read; read >= files*size/2 {
		t.Errorf("%d bytes of %d were read although the agent ended", read, uint64(files*size))
	}
	if s := w.app("big"); s.Measured || s.HasRecord || s.Reading != nil {
		t.Errorf("%+v", s)
	}
	if _, err := w.Measure(t.Context(), "big"); !errors.Is(err, context.Canceled) {
		t.Errorf("measured after the end: %v", err)
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
