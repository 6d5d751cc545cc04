// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// Case 108: a reload without news makes no record, and one with news does, also after one that
// the log may not have taken.
func TestReloadWithoutNews(t *testing.T) {
	w := newWorld(t)
	w.declare("billing", list("files", w.write("billing", "one", 0o755)))
	announced, fail := 0, error(nil)
	announce := func(context.Context, []pcr.Declaration) error { announced++; return fail }
	reload := func(what string, times, want int) {
		t.Helper()
		for range times {
			if _, err := w.Reload(t.Context(), announce); !errors.Is(err, fail) {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if announced != want {
			t.Errorf("%s: announced %d times, want %d", what, announced, want)
		}
	}
	reload("start", 1, 1)
	records := len(w.log.all())
	reload("no news", 1000, 1)
	if n := len(w.log.all()); n != records {
		t.Errorf("1000 reloads without news made %d records", n-records)
	}
	w.declare("other", list("files", w.write("other", "two", 0o755)))
	reload("a declaration was added", 3, 2)
	w.declare("other", list("files", w.write("other", "two", 0o755)), "# a remark")
	reload("a declaration was changed", 3, 3)
	fail = errors.New("the TPM is busy")
	w.declare("other", list("files", w.write("other", "two", 0o755)), "# another remark")
	reload("not recorded", 2, 5)
	fail = nil
	reload("recorded", 3, 6)
	w.reload() // records nothing
	reload("after one that recorded nothing", 3, 7)
}

// TestReloadIsLeft: a caller that leaves while the declarations are recorded interrupts no coverage.
func TestReloadIsLeft(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.write("app", "one", 0o755)))
	w.reload()
	w.declare("other", list("files", w.write("other", "two", 0o755)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c, err := w.Reload(ctx, func(ctx context.Context, _ []pcr.Declaration) error {
		cancel()
		return ctx.Err()
	})
	if err != nil || len(c.Added) != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if n := w.log.count(pcr.EventApp); n != 2 || !w.app("app").Measured {
		t.Errorf("%d records of 2 apps, %+v", n, w.app("app"))
	}
}
