// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/unitfile"
)

// TestRefused: what cannot be an application, or cannot start, is refused with the reason.
func TestRefused(t *testing.T) {
	for name, c := range map[string]struct {
		unit  string
		files map[string]any
		says  string
	}{
		"user of systemd's": {"DynamicUser=yes\nUser=a.b\nExecStart=/opt/a", nil, "DynamicUser="},
		"other files":       {"RootDirectory=/x\nExecStart=/opt/a", nil, "RootDirectory="},
		"nothing":           {"User=a", nil, "has no ExecStart="},
		"no program":        {"ExecStart=/opt/gone", nil, "no such file"},
		"none in the path":  {"ExecStart=gone", nil, "program gone: file does not exist in /usr/local/sbin"},
		"a folder":          {"ExecStart=/opt/d", map[string]any{"opt/d/x": ""}, "not a regular file"},
		"too short":         {"ExecStart=/opt/a", map[string]any{"opt/a": "x"}, "is not a program"},
		"no interpreter":    {"ExecStart=/opt/a", map[string]any{"opt/a": "#! \n"}, "script without an interpreter"},
		"a circle":          {"ExecStart=/opt/a", map[string]any{"opt/a@": "/opt/b", "opt/b@": "a"}, "too many levels"},
		"outside":           {"ExecStart=/opt/a", map[string]any{"opt/a@": "../../../../../../../../etc/hostname"}, "no such file"},
	} {
		files := map[string]any{unit: "[Service]\n" + c.unit + "\n"}
		for path, content := range c.files {
			files[path] = content
		}
		root := machine(t, files)
		s, err := unitfile.Load(root, "a.service")
		if err == nil {
			_, err = Propose(t.Context(), root, s, nil)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}

// TestNothingWaits: a FIFO in the place of each file that is read is not waited for.
func TestNothingWaits(t *testing.T) {
	base := map[string]any{
		unit:        "[Service]\nEnvironmentFile=/etc/a.env\nExecStart=/usr/bin/python3 /opt/app/x.py\nExecStartPost=/usr/bin/java -jar /opt/x.jar\nExecStartPre=/opt/pre\n",
		"etc/a.env": "", "usr/bin/python3": &elfFile{interp: glibc, needed: []string{"liba.so"}}, glibc: &elfFile{}, "usr/bin/java": &elfFile{}, "opt/pre": &elfFile{}, "opt/x.jar": jarOf(t, ""), "opt/app/x.py": "",
		"etc/ld.so.cache": "", "etc/ld.so.conf": "include *.conf", "etc/x.conf": "", "etc/ld.so.preload": "", "usr/lib/liba.so": &elfFile{}, "usr/bin/pyvenv.cfg": "", "var/lib/dpkg/info/x.list": "/opt/pre\n", "usr/lib/python3.11/x.py": "",
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for name := range base {
			if name == unit {
				continue
			}
			root := machine(t, base)
			full := filepath.Join(root, name)
			if err := errors.Join(os.Remove(full), syscall.Mkfifo(full, 0o755)); err != nil {
				t.Error(err)
				return
			}
			s, err := unitfile.Load(root, "a.service")
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = Propose(t.Context(), root, s, nil)
		}
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Minute):
		t.Fatal("it waits for a writer")
	}
}

// TestFolderIsAnswered: what a measurement would refuse in a folder is said, and what links in it lead
// to is added, or named.
func TestFolderIsAnswered(t *testing.T) {
	root := machine(t, map[string]any{
		unit: "[Service]\nExecStart=/usr/bin/python3 /opt/app/x.py\n", "usr/bin/python3": &elfFile{}, "opt/app/x.py": "",
		"opt/app/file@": "/srv/shared/one", "srv/shared/one": "", "opt/app/folder@": "/srv/more", "srv/more/two": "", "srv/more/again@": "/srv/third", "srv/third/x": "",
		"opt/app/broken@": "/nowhere", "opt/app/inside@": "x.py", "opt/app/etc@": "/etc", "opt/app/bad\nname": "",
	})
	if err := syscall.Mkfifo(filepath.Join(root, "opt/app/fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := proposed(t, root)
	if got := p.paths(groupArgument); !slices.Equal(got, []string{"/srv/shared/one"}) {
		t.Errorf("files %q", got)
	}
	if got := p.folders(); !slices.Equal(got, []string{"/opt/app", "/srv/more"}) {
		t.Errorf("folders %q", got)
	}
	said := strings.Join(p.Uncovered, "\n")
	for _, words := range []string{"/opt/app/fifo is not a file, and a measurement refuses it", "a name in /opt/app cannot be recorded", "links in /opt/app lead out of it to what is not covered: /opt/app/etc", "links in /srv/more lead out of it to what is not covered: /srv/more/again"} {
		if !strings.Contains(said, words) {
			t.Errorf("does not say %q:\n%s", words, said)
		}
	}
}

// TestOthersCanChange: what another user than root can change is a warning, links of other users are
// named, and are not followed out of a folder.
func TestOthersCanChange(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give files to another user")
	}
	root := machine(t, map[string]any{
		unit: "[Service]\nExecStart=/opt/current/a /srv/conf\nExecStartPost=/usr/bin/python3 /opt/app/x.py\n", "opt/current@": "release", "opt/release/a": &elfFile{interp: glibc, runpath: "/srv/lib", needed: []string{"libgone.so"}}, glibc: &elfFile{},
		"srv/conf": "", "usr/bin/python3": &elfFile{}, "opt/app/x.py": "", "opt/app/data": "", "opt/app/out@": "/etc/shadow", "etc/shadow": "", "opt/app/open": "",
	})
	for _, name := range []string{"opt/current", "srv/conf", "opt/app/data", "opt/app/out", "srv"} {
		if err := os.Lchown(filepath.Join(root, name), 4711, 4711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "opt/app/open"), 0o666); err != nil {
		t.Fatal(err)
	}
	p := proposed(t, root)
	warned, said := strings.Join(p.Warnings, "\n"), strings.Join(p.Uncovered, "\n")
	for _, words := range []string{"through the link /opt/current, which another user than root made", "/opt/app/data belongs to uid 4711", "/opt/app/out leads out of /opt/app to /etc/shadow", "/opt/app/open is writable for all users", "libraries looked for in /srv/lib, and another user than root can put some there"} {
		if !strings.Contains(warned, words) {
			t.Errorf("does not warn %q:\n%s", words, warned)
		}
	}
	if !strings.Contains(said, "/srv/conf (an argument of ExecStart= names it) can be changed by another user") || slices.Contains(p.paths(""), "/srv/conf") || slices.Contains(p.paths(""), "/etc/shadow") {
		t.Errorf("listed %q, said\n%s", p.paths(""), said)
	}
}

// TestLargeFolder: of a folder with more names than a measurement looks at, no more are read.
func TestLargeFolder(t *testing.T) {
	root := machine(t, map[string]any{"opt/a/1": "", "opt/a/2": "", "opt/a/3": ""})
	tree, err := newTree(root)
	if err != nil {
		t.Fatal(err)
	}
	for limit, want := range map[int]int{0: 0, 2: 2, 3: 3, 4: 3} {
		entries, more, err := tree.entries("/opt/a", limit)
		if err != nil || len(entries) != want || more != (limit < 3) {
			t.Errorf("of %d names: %d, more %v, %v", limit, len(entries), more, err)
		}
	}
	s := &survey{collector: &collector{tree: tree, ctx: t.Context(), tell: func(string) {}, out: &Proposal{}}, folder: &Folder{}, seen: manifest.MaxNames - 2}
	if s.walk("/opt/a", "/opt/a", 1); !s.full || s.folder.Files != 2 {
		t.Errorf("full %v, %d files", s.full, s.folder.Files)
	}
	s.report(&Folder{Path: "/opt/a"})
	if len(s.out.Uncovered) != 1 || !strings.Contains(s.out.Uncovered[0], "/opt/a has more than 80000 names") {
		t.Errorf("said %q", s.out.Uncovered)
	}
}

// TestSetUser: the loader of a set-uid program ignores what the environment says of libraries.
func TestSetUser(t *testing.T) {
	root := machine(t, map[string]any{
		unit: "[Service]\nEnvironment=LD_LIBRARY_PATH=/opt/env LD_PRELOAD=/opt/env/pre.so\nExecStart=/opt/a\n", "opt/a": &elfFile{interp: glibc, needed: []string{"liba.so"}}, glibc: &elfFile{},
		"opt/env/liba.so": &elfFile{}, "opt/env/pre.so": &elfFile{}, "usr/lib/liba.so": &elfFile{},
	})
	if got := proposed(t, root).paths(groupLibrary); !slices.Equal(got, []string{glibc, "/opt/env/liba.so", "/opt/env/pre.so"}) {
		t.Errorf("found %q", got)
	}
	if err := os.Chmod(filepath.Join(root, "opt/a"), 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	p := proposed(t, root)
	if got := p.paths(groupLibrary); !slices.Equal(got, []string{glibc, "/usr/lib/liba.so"}) {
		t.Errorf("set-uid: found %q", got)
	}
	if !strings.Contains(strings.Join(p.Warnings, "\n"), "ignores LD_PRELOAD") {
		t.Errorf("said %q", p.Warnings)
	}
}

// TestFits: a declaration is proposed that the agent accepts: with 20,000 files at most, and a record
// that fits into the log. What is left out is named, with how many files it has.
func TestFits(t *testing.T) {
	root := machine(t, map[string]any{unit: "[Service]\nWorkingDirectory=/opt/w\nExecStart=/usr/bin/node /opt/w/app/server.js\n", "usr/bin/node": &elfFile{}, "opt/w/app/server.js": "", "opt/w/app/package.json": ""})
	many := filepath.Join(root, "opt/w/node_modules")
	for i := range 10 {
		dir := filepath.Join(many, fmt.Sprintf("package-with-a-long-name-%02d", i), strings.Repeat("x", 120))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 300 {
			if err := os.Symlink("x", filepath.Join(dir, fmt.Sprintf("module-%03d-%s.js", j, strings.Repeat("y", 120)))); err != nil {
				t.Fatal(err)
			}
		}
	}
	p := proposed(t, root)
	if got := p.folders(); !slices.Equal(got, []string{"/opt/w/app"}) {
		t.Errorf("folders %q", got)
	}
	if said := strings.Join(p.Uncovered, "\n"); !strings.Contains(said, "the folder /opt/w/node_modules") || !strings.Contains(said, "has 3000 files and is left out: with it the application has a record of") {
		t.Errorf("said\n%s", said)
	}
	s, err := unitfile.Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Declaration(s)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(root, "a.toml")
	if err := os.WriteFile(name, text, 0o644); err != nil {
		t.Fatal(err)
	}
	e, err := manifest.Reference(t.Context(), name, root, manifest.NewProgress())
	if err != nil {
		t.Fatal(err)
	}
	if len(e.Manifest) != p.Entries {
		t.Errorf("%d files are measured, %d were counted", len(e.Manifest), p.Entries)
	}
}

// TestManyNotes: what does not fit into the file of a declaration is left to the command, which says so.
func TestManyNotes(t *testing.T) {
	root := machine(t, map[string]any{unit: "[Service]\nExecStart=/opt/a\n", "opt/a": &elfFile{}})
	s, err := unitfile.Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	p := proposed(t, root)
	for i := range 2 * maxWords {
		say(&p.Uncovered, fmt.Sprintf("%d %s", i, strings.Repeat("x", 300)))
	}
	text, err := p.Declaration(s)
	if err != nil || !p.Cut || len(text) > declaration.MaxDeclaration || !strings.Contains(string(text), "more things are not covered: `agentctl app add a.service --dry-run` shows them all") {
		t.Errorf("%d bytes, cut %v, %v", len(text), p.Cut, err)
	}
	if len(p.Uncovered) != maxWords+1 {
		t.Errorf("%d things are said", len(p.Uncovered))
	}
	if _, err := declaration.Parse("a", "a.toml", text, declaration.AnyUser()); err != nil {
		t.Error(err)
	}
}

// TestPackage: the files of the package of a program are listed, as a folder if no other package has
// files there, and without documentation. Of other programs only the names are said.
func TestPackage(t *testing.T) {
	files := map[string]any{
		unit: "[Service]\nExecStart=/usr/sbin/served\n", "usr/sbin/served": &elfFile{}, "usr/sbin/served-tool": &elfFile{}, "lib@": "usr/lib", "sbin@": "usr/sbin",
		"usr/lib/served/a": "", "usr/lib/served/b/c": "", "usr/share/shared/own": "", "usr/share/shared/other": "", "etc/served/conf": "", "usr/share/doc/served/x": "", "usr/lib/systemd/system/served.service": "",
		"var/lib/dpkg/info/served:amd64.list": "/.\n/usr\n/sbin/served\n/usr/sbin/served-tool\n/lib/served\n/lib/served/a\n/lib/served/b\n/lib/served/b/c\n/usr/share/shared\n/usr/share/shared/own\n/etc/served\n/etc/served/conf\n/usr/share/doc/served\n/usr/share/doc/served/x\n/usr/lib/systemd/system/served.service\n/gone\n../x\n",
		"var/lib/dpkg/info/other.list":        "/usr/share/shared/other\n/usr/sbin/served-not\n",
	}
	p := proposed(t, machine(t, files))
	if got := p.paths(groupPackage); !slices.Equal(got, []string{"/etc/served/conf", "/usr/share/shared/own"}) {
		t.Errorf("files %q", got)
	}
	if got := p.folders(); !slices.Equal(got, []string{"/usr/lib/served"}) {
		t.Errorf("folders %q", got)
	}
	if said := strings.Join(p.Uncovered, "\n"); !strings.Contains(said, "other programs of the package served: /usr/sbin/served-tool") {
		t.Errorf("said\n%s", said)
	}
	for _, name := range []string{"var/lib/dpkg/info/served:amd64.list", "var/lib/dpkg/info/other.list"} {
		delete(files, name)
	}
	files["var/lib/rpm/rpmdb.sqlite"] = ""
	if said := strings.Join(proposed(t, machine(t, files)).Uncovered, "\n"); !strings.Contains(said, "the database of RPM is not read. `rpm -ql $(rpm -qf /usr/sbin/served)` lists them") {
		t.Errorf("said\n%s", said)
	}
}

// TestEnds: a caller that gives up is not kept.
func TestEnds(t *testing.T) {
	root := machine(t, map[string]any{unit: "[Service]\nExecStart=/opt/a\n", "opt/a": &elfFile{}})
	s, err := unitfile.Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Propose(ctx, root, s, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
