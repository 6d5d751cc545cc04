// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

// recorder is a log in memory. It refuses what the real one could not encode.
type recorder struct {
	mu     sync.Mutex
	events []pcr.Event
	fail   error
	clock  func() uint64 // time of records; 0 if nil
}

func (r *recorder) Append(ctx context.Context, e pcr.Event) (pcr.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return pcr.Record{}, r.fail
	}
	if r.clock != nil {
		e.Time = r.clock()
	}
	rec, err := pcr.NewRecord(uint64(len(r.events)), 14, []pcr.Algorithm{pcr.SHA256}, &e)
	if err != nil {
		return pcr.Record{}, err
	}
	r.events = append(r.events, e)
	return rec, nil
}

func (r *recorder) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *recorder) all() []pcr.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]pcr.Event(nil), r.events...)
}

// count is how many events of a type there are.
func (r *recorder) count(t pcr.EventType) int {
	n := 0
	for _, e := range r.all() {
		if e.Type == t {
			n++
		}
	}
	return n
}

// last is the newest event of an app.
func (r *recorder) last(t *testing.T) pcr.AppEvent {
	t.Helper()
	all := r.all()
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].App != nil {
			return *all[i].App
		}
	}
	t.Fatal("no app event was recorded")
	panic("unreachable")
}

// world is a machine in a temporary directory: one directory of declarations, one
// for the files of apps.
type world struct {
	*Apps
	t      *testing.T
	log    *recorder
	apps   string // apps.d
	files  string
	config Config
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, log: new(recorder), apps: filepath.Join(root, "apps.d"), files: filepath.Join(root, "files")}
	for _, dir := range []string{w.apps, w.files} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	w.config = Config{Recorder: w.log, Directories: []string{w.apps}, Debounce: time.Millisecond}
	for _, c := range change {
		c(&w.config)
	}
	if w.config.NewWatcher != nil && w.config.Queues == 0 {
		w.config.Queues = -1 // a double has one queue, which all apps share
	}
	w.restart()
	return w
}

// restart replaces the Apps by one that knows nothing.
func (w *world) restart() {
	w.t.Helper()
	a, err := New(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	a.reader = manifest.NewReader(runtime.NumCPU(), 0) // tests that need to settle set another
	w.t.Cleanup(a.Close)
	w.Apps = a
}

// Reload reads the declarations, and waits until every app is read.
func (w *world) Reload(ctx context.Context, announce func(context.Context, []pcr.Declaration) error) (Change, error) {
	c, err := w.Apps.Reload(ctx, announce)
	c.Wait(w.t.Context())
	return c, err
}

func (w *world) path(name string) string { return filepath.Join(w.files, name) }

func (w *world) write(name, content string, mode os.FileMode) string {
	w.t.Helper()
	p := w.path(name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		w.t.Fatal(err)
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		w.t.Fatal(err)
	}
	// The content comes last: once it is seen, nothing of this file changes any more,
	// whatever the umask took from its mode.
	if err := errors.Join(os.Chmod(p, mode), func() error { _, err := f.WriteString(content); return err }(), f.Close()); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// replace renames a new file over name, as package managers do.
func (w *world) replace(name, content string) {
	w.t.Helper()
	fresh := w.write(name+".dpkg-new", content, 0o755)
	if err := os.Rename(fresh, w.path(name)); err != nil {
		w.t.Fatal(err)
	}
}

// declare writes a declaration with unit NAME.service and the lines given.
func (w *world) declare(name string, lines ...string) {
	w.t.Helper()
	text := "unit = \"" + name + ".service\"\nuser = \"1000\"\n"
	for _, l := range lines {
		text += l + "\n"
	}
	w.declareText(w.apps, name, text)
}

func (w *world) declareText(dir, name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func list(key string, paths ...string) string {
	s := key + " = ["
	for _, p := range paths {
		s += strconv.Quote(p) + ", "
	}
	return s + "]"
}

func (w *world) reload() Change {
	w.t.Helper()
	c, err := w.Reload(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// app is the status of one app.
func (w *world) app(name string) Status {
	w.t.Helper()
	for _, s := range w.List() {
		if s.Name == name {
			return s
		}
	}
	w.t.Fatalf("app %s is not listed", name)
	panic("unreachable")
}

// run runs the watching until the test ends, and waits until each app was read with its watches
// set. A reading that is still under way counts for nothing: what a test does next could end it.
func (w *world) run() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	w.eventually("all apps are followed", func() bool {
		all := w.List()
		f := &w.follow.shared
		f.mu.Lock()
		stopped := f.watcher == nil
		err := f.stopped
		f.mu.Unlock()
		if stopped {
			return errors.Is(err, errNoWatch)
		}
		for _, s := range all {
			if s.Unit != "" && (w.prints(s.Name) != 1 || w.reads(s.Name)) {
				return false
			}
		}
		return true
	})
}

// reads reports whether a reading of an app is under way, or will begin after that.
func (w *world) reads(app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.Apps.apps[app]
	return x != nil && x.run != nil
}

// handled reports whether the app was read after all that the watching told.
func (w *world) handled(app string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	x := w.Apps.apps[app]
	return x.generation != 0 && x.events == x.handled
}

// prints returns how many readings of an app are followed.
func (w *world) prints(app string) int {
	f := w.follow.existing(app)
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.prints[app])
}

// patience is how long a test waits for what must come: it ends only a test that fails.
const patience = 2 * time.Minute

var errNoWatch = errors.New("no watching today")

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain until %s; status %+v; %d events", what, w.List(), len(w.log.all()))
		}
		time.Sleep(time.Millisecond)
	}
}

func chmod(t *testing.T, p string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
}
