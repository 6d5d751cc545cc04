// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/pcr"
)

func TestUnchangedAddsNothing(t *testing.T) {
	w := newWorld(t)
	w.write("bin", "one", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	first := w.app("app")
	for range 3 {
		w.reload()
		if s, err := w.Measure(t.Context(), "app"); err != nil || s != first {
			t.Fatalf("%+v, %v; want %+v", s, err, first)
		}
	}
	if n := len(w.log.all()); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	w.replace("bin", "two")
	if s, err := w.Measure(t.Context(), "app"); err != nil || s.Digest == first.Digest || s.Record != 2 || s.From != 2 { // after what is not known
		t.Errorf("%+v, %v", s, err)
	}
	w.replace("bin", "one")
	w.reload() // back again is news, too
	if s := w.app("app"); s.Digest != first.Digest || s.Record != 4 {
		t.Errorf("%+v", s)
	}
	// A mode is content of the manifest.
	chmod(t, w.path("bin"), 0o644)
	if s, err := w.Measure(t.Context(), "app"); err != nil || s.Record != 6 || w.Covers("app", digestOf("one")) {
		t.Errorf("%+v, %v", s, err)
	}
	// Another declaration is news even when the files are the same.
	w.declare("app", list("files", w.path("bin")), "# comment")
	w.reload()
	if s := w.app("app"); s.Record != 7 || !s.Measured {
		t.Errorf("%+v", s)
	}
	// The same bytes in another inode are the same app. What was there in between is not known.
	chmod(t, w.path("bin"), 0o755)
	w.reload()
	before := w.app("app")
	w.replace("bin", "one")
	if s, err := w.Measure(t.Context(), "app"); err != nil || s.Digest != before.Digest || s.Record != 11 || s.From != 11 || s.Carried != 0 {
		t.Errorf("%+v, %v", s, err)
	}
	if e := w.log.all(); e[10].Unmeasured == nil || !strings.Contains(e[10].Unmeasured.Reason, "put back") || e[11].Same == nil || e[11].Same.Carried || e[11].Same.Reason != e[10].Unmeasured.Reason {
		t.Errorf("%+v", e[10:])
	}
}

func TestUnmeasuredOnceForEachState(t *testing.T) {
	w := newWorld(t)
	w.declare("app", list("files", w.path("a"), w.path("b")))
	for range 3 {
		w.reload()
		w.Measure(t.Context(), "app")
	}
	w.write("a", "a", 0o755)
	w.reload()
	w.reload()
	w.write("b", "b", 0o755)
	w.reload()
	w.reload()
	os.Remove(w.path("b"))
	w.reload()
	w.write("b", "b", 0o755)
	w.reload()
	var got []string
	for _, e := range w.log.all() {
		switch {
		case e.Unmeasured != nil:
			got = append(got, "no "+e.Unmeasured.Reason[strings.LastIndex(e.Unmeasured.Reason, "/"):][1:2])
		case e.App != nil:
			got = append(got, "app")
		case e.Same != nil && !e.Same.Carried:
			got = append(got, "same")
		}
	}
	if want := []string{"no a", "no b", "app", "no b", "same"}; !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestUnknownApp(t *testing.T) {
	w := newWorld(t)
	if _, err := w.Measure(t.Context(), "app"); !errors.Is(err, ErrUnknownApp) {
		t.Errorf("got %v", err)
	}
}

// TestRecorderFails: nothing is claimed that is not in the log (cases 23 and 26).
func TestRecorderFails(t *testing.T) {
	w := newWorld(t)
	w.write("bin", "one", 0o755)
	w.declare("app", list("files", w.path("bin")))
	broken := errors.New("no space left on device")
	w.log.failWith(broken)
	w.reload()
	if s := w.app("app"); s.Measured || s.HasRecord || !strings.Contains(s.WhyNot, "no space left") || w.Covers("app", digestOf("one")) {
		t.Errorf("%+v", s)
	}
	w.log.failWith(nil)
	if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured {
		t.Errorf("%+v, %v", s, err)
	}
	w.replace("bin", "two")
	w.log.failWith(broken)
	var failed *RecordError
	if s, err := w.Measure(t.Context(), "app"); !errors.As(err, &failed) || !errors.Is(err, broken) || s.Measured || w.Covers("app", digestOf("one")) {
		t.Errorf("%+v, %v", s, err)
	}
	// The log may have taken it after all: what stood there before is recorded again.
	w.log.failWith(nil)
	w.replace("bin", "one")
	if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured || w.log.count(pcr.EventApp) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRateLimit: a flapping file fills neither the log nor the gap records, and is
// measured by itself when the log may take it.
func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst, c.RateEvery = 5, time.Hour })
	w.write("bin", "0", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.declareText(w.apps, "calm", fmt.Sprintf("unit = \"calm.service\"\nuser = \"0\"\nfiles = [%q]\n", w.write("calm", "calm", 0o755)))
	w.reload()
	var held *RateError
	for i := range 50 {
		w.replace("bin", fmt.Sprint("content ", i))
		s, err := w.Measure(t.Context(), "app")
		if i < 2 && err != nil {
			t.Fatal(err)
		}
		if i >= 2 && (!errors.As(err, &held) || held.Retry <= 0 || s.Measured || s.WhyNot == "" || w.Covers("app", digestOf("content 1"))) {
			t.Fatalf("change %d: %+v, %v", i, s, err)
		}
	}
	if apps, told := w.log.count(pcr.EventApp), w.log.count(pcr.EventUnmeasured); apps != 4 || told != 3 { // nothing watches: each change is two records
		t.Errorf("%d app events and %d of an app that is not measured, want 3 and 1 of calm, and 3", apps, told)
	}
	// Going back to what the log said is a record too: until it is there, nothing is claimed.
	w.replace("bin", "content 1")
	if s, err := w.Measure(t.Context(), "app"); !errors.As(err, &held) || s.Measured || w.Covers("app", digestOf("content 1")) {
		t.Errorf("%+v, %v", s, err)
	}
	if !w.app("calm").Measured {
		t.Error("another app was held back")
	}
}

func TestHeldBackIsMeasuredLater(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst, c.RateEvery = 1, 50*time.Millisecond })
	w.write("bin", "0", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	w.run()
	for i := range 20 {
		w.replace("bin", fmt.Sprint(i))
	}
	w.eventually("the last content is recorded", func() bool { return w.Covers("app", digestOf("19")) })
}

func TestReload(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c"} {
		w.declare(name, list("files", w.write(name, name, 0o755)))
	}
	announced := 0
	announce := func(_ context.Context, d []pcr.Declaration) error {
		announced++
		for _, x := range d {
			w.log.events = append(w.log.events, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: x.App + " declared"}})
		}
		return nil
	}
	c, err := w.Reload(t.Context(), announce)
	if err != nil || fmt.Sprint(c.Added) != "[a b c]" || len(c.Declarations) != 3 || announced != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	for i, e := range w.log.all() { // every declaration comes before every measurement
		if (e.Gap != nil) != (i < 3) {
			t.Fatalf("event %d: %+v", i, e)
		}
	}

	w.declare("a", list("files", w.path("b")))
	w.declareText(w.apps, "b", "nonsense\n")
	w.declareText(w.apps, "c", "") // masked
	w.declare("d", list("files", w.path("a")))
	c, err = w.Reload(t.Context(), announce)
	if err != nil || fmt.Sprint(c.Added, c.Changed, c.Removed, c.Refused) != "[d] [a] [c] [b]" || len(c.Errors) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if d := c.Declarations; len(d) != 2 || d[0].App != "a" || d[1].App != "d" || d[0].Digest != w.app("a").Declaration {
		t.Errorf("declarations %v", d)
	}
	if s := w.app("b"); s.Measured || !strings.Contains(s.WhyNot, "b.toml:1:") || s.Unit != "" || !s.HasRecord || w.Covers("b", digestOf("b")) {
		t.Errorf("refused app: %+v", s)
	}
	if _, ok := w.ByUnit("b.service", 1000); ok {
		t.Error("a refused declaration names a unit")
	}
	if _, err := w.Measure(t.Context(), "b"); err == nil || !strings.Contains(err.Error(), "declaration refused") {
		t.Errorf("measure a refused app: %v", err)
	}
	if _, err := w.Measure(t.Context(), "c"); !errors.Is(err, ErrUnknownApp) {
		t.Errorf("measure a masked app: %v", err)
	}
	if len(w.List()) != 3 {
		t.Errorf("list %+v", w.List())
	}

	// A reload that cannot be trusted changes nothing.
	before, events := fmt.Sprint(w.List()), len(w.log.all())
	w.declare("e", list("files", w.path("a")))
	chmod(t, w.apps, 0o777)
	if _, err := w.Reload(t.Context(), nil); err == nil {
		t.Error("a writable directory was trusted")
	}
	if after := fmt.Sprint(w.List()); after != before || len(w.log.all()) != events {
		t.Errorf("after a failed reload\n%s, before\n%s", after, before)
	}
	// One that may have been recorded, or not, leaves the declarations in force. What the log says
	// of the apps is not known, and is said again.
	chmod(t, w.apps, 0o755)
	broken := errors.New("no space left on device")
	if _, err := w.Reload(t.Context(), func(context.Context, []pcr.Declaration) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if s := w.app("a"); len(w.List()) != 3 || s.Measured || s.Declaration.IsZero() || len(w.log.all()) != events {
		t.Errorf("after a reload that may have been recorded: %+v", w.List())
	}
	if s, err := w.Measure(t.Context(), "a"); err != nil || !s.Measured || s.Record != uint64(events) || w.log.last(t).App != "a" {
		t.Errorf("%+v, %v", s, err)
	}
}

// TestRestore: a daemon that starts again in the same boot does not repeat what its log already
// says of the files. That it begins to cover them again is a short record.
func TestRestore(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"same", "other", "gone"} {
		w.declare(name, list("files", w.write(name, name, 0o755)))
	}
	w.declare("missing", list("files", w.path("missing")))
	w.reload()
	restore := func() {
		w.restart()
		for i, e := range w.log.all() {
			w.Restore(uint64(i), &e)
		}
	}
	w.replace("other", "changed")
	os.Remove(w.path("gone"))
	restore()
	events := len(w.log.all())
	w.reload()
	var got []string
	for _, e := range w.log.all()[events:] {
		got = append(got, string(e.Type))
	}
	slices.Sort(got)
	if want := []string{"app", "app-same", "app-unmeasured"}; !slices.Equal(got, want) { // other, same, gone
		t.Errorf("%q after the restart, want %q", got, want)
	}
	for _, name := range []string{"gone", "missing", "other", "same"} {
		s := w.app(name)
		if s.Measured != (name == "same" || name == "other") || !s.HasRecord {
			t.Errorf("%+v", s)
		}
	}
	if !w.Covers("same", digestOf("same")) || !w.Covers("other", digestOf("changed")) {
		t.Error("content is not covered after a restart")
	}

	// What an agent record did not declare is recorded again.
	w.log.Append(t.Context(), pcr.Event{Type: pcr.EventReload, Agent: &pcr.AgentEvent{Version: "1", AgentKey: make([]byte, 32)}})
	restore()
	events = len(w.log.all())
	w.reload()
	if n := len(w.log.all()) - events; n != 4 {
		t.Errorf("%d events, want 4", n)
	}
}

// TestConcurrentMeasurements: with any number of callers, the newest record of an app is what
// was found last.
func TestConcurrentMeasurements(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
	w.write("bin", "0", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for range 100 {
				if s, err := w.Measure(t.Context(), "app"); err == nil && !s.Measured {
					t.Errorf("%+v", s)
				}
				w.reload()
				w.Covers("app", digestOf("0"))
			}
		})
	}
	for i := range 100 {
		w.replace("bin", fmt.Sprint(i))
	}
	asking.Wait()
	s, err := w.Measure(t.Context(), "app")
	if err != nil || !w.Covers("app", digestOf("99")) || w.log.last(t).Digest != s.Digest {
		t.Errorf("%+v, %v", s, err)
	}
	// A file that changes under every reading makes the app unmeasured, so both types
	// of event may be here.
	events := w.log.all()
	for i, e := range events[1:] {
		if reflect.DeepEqual(e, events[i]) {
			t.Fatalf("record %d repeats the one before: %+v", i+1, e)
		}
	}
}

func TestNewNeedsARecorder(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("apps without a log")
	}
}
