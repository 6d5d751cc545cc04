// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// An application's user cannot make the agent look into files of other users by a link in the
// place of what is declared; links that root or the owner made work as ever.
func TestForeignLinks(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make files of other users")
	}
	const user, other = 1234, 1235
	w := newWorld(t)
	// All users may go to the files, as to those of a real machine.
	for dir := w.files; dir != "/"; dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err != nil || st.Mode()&0o001 == 0 {
			if err := os.Chmod(dir, st.Mode().Perm()|0o011); err != nil {
				t.Fatal(err)
			}
		}
	}
	own := func(name string, uid int) string {
		if err := os.Lchown(w.path(name), uid, uid); err != nil {
			t.Fatal(err)
		}
		return w.path(name)
	}
	link := func(name, target string, uid int) string {
		if err := os.Symlink(target, w.path(name)); err != nil {
			t.Fatal(err)
		}
		return own(name, uid)
	}
	w.write("secret", "PIN=4711", 0o600)
	w.write("public", "#!", 0o755)
	w.write("mine", "mine", 0o600)
	own("mine", user)
	w.write("closed/inside", "mode 0644 in a folder of mode 0700", 0o644)
	if err := os.Chmod(w.path("closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.write("tree/key", "key", 0o600)
	for name, c := range map[string]struct {
		declare string // member and path
		path    string
		want    bool
	}{
		"to a secret":                 {"files", link("a", "secret", user), false},
		"of root to a secret":         {"files", link("b", "secret", 0), true},
		"to what all users may read":  {"files", link("c", "public", user), true},
		"to one's own":                {"files", link("d", "mine", user), true},
		"to another user's":           {"files", link("e", "mine", other), false},
		"to a folder that is closed":  {"files", link("f", "closed/inside", user), false},
		"over two links":              {"files", link("g", link("g2", "secret", user), 0), false},
		"through a link on the way":   {"files", filepath.Join(link("h", ".", user), "secret"), false},
		"to a folder":                 {"directories", link("i", "tree", user), false},
		"of root to a folder":         {"directories", link("j", "tree", 0), true},
		"a folder through a link":     {"directories", filepath.Join(link("k", ".", user), "tree"), false},
		"a folder that links on root": {"directories", filepath.Join(link("l", ".", 0), "tree"), true},
	} {
		t.Run(name, func(t *testing.T) {
			w.declare("app", list(c.declare, c.path))
			w.reload()
			s := w.app("app")
			if s.Measured != c.want {
				t.Fatalf("%+v", s)
			}
			if !c.want && !strings.Contains(s.WhyNot, "through the link") {
				t.Errorf("why: %s", s.WhyNot)
			}
		})
	}
	for _, e := range w.log.all() {
		if e.App == nil {
			continue
		}
		for _, m := range e.App.Manifest {
			if m.Digest == digestOf("PIN=4711") && e.App.Manifest[0].Path != w.path("b") {
				t.Errorf("the log has the secret's digest: %+v", e.App.Manifest)
			}
		}
	}
}

// That the agent cannot look is not a finding about the app.
func TestShortOfDescriptors(t *testing.T) {
	for _, err := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS} {
		if !durable.Short(&manifest.FileError{Path: "/x", Problem: "open", Err: err}) || !durable.Short(errors.Join(os.NewSyscallError("openat2", err))) {
			t.Errorf("%v is taken for a finding", err)
		}
	}
	if durable.Short(nil) || durable.Short(&manifest.FileError{Path: "/x", Problem: "open", Err: unix.EACCES}) {
		t.Error("a finding is taken for a shortage")
	}
	w := newWorld(t)
	w.write("bin", "one", 0o755)
	w.declare("app", list("files", w.path("bin")))
	w.reload()
	events := len(w.log.all())
	w.write("bin", "two", 0o755)

	without := func() (Status, error) {
		t.Helper()
		var old unix.Rlimit
		if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: old.Max}); err != nil {
			t.Fatal(err)
		}
		s, err := w.Measure(t.Context(), "app")
		if restoreErr := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); restoreErr != nil {
			t.Fatal(restoreErr)
		}
		return s, err
	}
	s, err := without()
	if !errors.Is(err, unix.EMFILE) || len(w.log.all()) != events {
		t.Errorf("without descriptors: %+v, %v, %d events more", s, err, len(w.log.all())-events)
	}
	if s := w.app("app"); s.Measured {
		t.Errorf("what could not be looked at is claimed: %+v", s)
	}
	if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured || len(w.log.all()) != events+2 { // nothing watches
		t.Errorf("afterwards: %+v, %v", s, err)
	}

	// If that lasts, the log does not say that the app is covered: a change would not be looked at.
	// But while the watching works, there is none.
	lasts := func() {
		t.Helper()
		for range 3 {
			if _, err := without(); !errors.Is(err, unix.EMFILE) {
				t.Fatal(err)
			}
			w.mu.Lock()
			w.Apps.apps["app"].short = time.Now().Add(-retryAfterFailure)
			w.mu.Unlock()
		}
	}
	events = len(w.log.all())
	lasts()
	if got := w.since(events); len(got) != 1 || !strings.Contains(got[0], "unmeasured app: measure app: the agent is short of") {
		t.Errorf("for a minute: %q", got)
	}
	if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured || len(w.log.all()) != events+2 {
		t.Errorf("after a minute: %+v, %v", s, err)
	}
	w.run()
	w.watched("app")
	events = len(w.log.all())
	lasts()
	if got := w.since(events); len(got) != 0 {
		t.Errorf("without a change: %q", got)
	}
}
