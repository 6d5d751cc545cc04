// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/unitname"
)

// tree writes files below a new folder.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestCommands(t *testing.T) {
	for _, test := range []struct{ line, want, wrong string }{
		{"/usr/bin/a", "/usr/bin/a", ""},
		{"/usr/bin/a b c", "/usr/bin/a|b|c", ""},
		{"-@+!!/usr//bin/a x y", "/usr/bin/a|y", ""},
		{`"/opt/with space/a" b`, "/opt/with space/a|b", ""},
		{`/opt/with" "space/'a' b`, "/opt/with space/a|b", ""},
		{`/opt/with\x20space/a "b c"d`, "/opt/with space/a|b cd", ""},
		{"python3 -m x", "python3|-m|x", ""},
		{`/bin/a 1 ; -/bin/b \; ";" ;`, `/bin/a|1 /bin/b|;|;`, ""},
		{"/opt/%i/a", "/opt/x/a", ""},
		{"/opt/%N/%%", "/opt/w@x/%", ""},
		{"/opt/%I/%p%P%j%J", "/opt/x/wwww", ""},
		{`"/opt/a`, "", "not closed"},
		{"/opt/%H/a", "", "by hand"},
		{"/opt/%m", "", "by hand"},
		{"$PROGRAM", "", "by hand"},
		{"|/bin/a", "", "by hand"},
		{"bin/a", "", "not absolute"},
		{"/bin/", "", "directory"},
		{"-", "", "names no program"},
		{"/bin/a ; ; /bin/b", "", "names no program"},
		{`/bin/a b\`, "", "backslash"},
	} {
		s := Service{unit: unitname.Name{Prefix: "w", Instance: "x", Type: "service"}}
		err := s.set("ExecStart", test.line)
		var got []string
		for _, c := range s.Commands {
			got = append(got, strings.Join(append([]string{c.Program}, c.Args...), "|"))
		}
		if err == nil && strings.Join(got, " ") != test.want || (err != nil) != (test.wrong != "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
			t.Errorf("commands of %q: %q, %v; want %q, error %q", test.line, got, err, test.want, test.wrong)
		}
	}
}

func TestLoad(t *testing.T) {
	root := tree(t, map[string]string{
		"usr/lib/systemd/system/a.service":             "[Service]\nUser=vendor\nExecStart=/bin/vendor\n",
		"etc/systemd/system/a.service":                 "[Unit]\nUser=not-here\n[Service]\nUser=admin\nExecStart=/bin/a\nExecStart=/bin/b \\\n  c\n[Install]\nUser=neither\n",
		"usr/lib/systemd/system/a.service.d/10-x.conf": "[Service]\nUser=hidden\n",
		"etc/systemd/system/a.service.d/10-x.conf":     "[Service]\nUser=shown\n",
		"run/systemd/system/a.service.d/20-y.conf":     "[Service]\nDynamicUser=TRUE\n",
		"usr/lib/systemd/system/w@.service":            "[Service]\nExecStart=/bin/w\nRootDirectory=/x\n",
		"etc/systemd/system/w@2.service.d/z.conf":      "[Service]\nRootDirectory=\n",
	})
	s, err := Load(root, "a.service")
	if err != nil {
		t.Fatal(err)
	}
	if s.User != "shown" || !s.DynamicUser || !slices.Equal(s.Programs(), []string{"/bin/a", "/bin/b"}) {
		t.Errorf("read %+v", s)
	}
	if w, err := Load(root, "w@2.service"); err != nil || w.RootChanged != "" || len(w.Files) != 2 {
		t.Errorf("instance of a template: %+v, %v", w, err)
	}
	if w, err := Load(root, "w@3.service"); err != nil || w.RootChanged != "RootDirectory" {
		t.Errorf("other instance: %+v, %v", w, err)
	}
	if _, err := Load(root, "absent.service"); !errors.Is(err, ErrNoUnit) {
		t.Errorf("absent unit: %v", err)
	}
}

// TestLines: a file is read as systemd reads it.
func TestLines(t *testing.T) {
	for text, want := range map[string][]string{
		"[Service]\nUser=a\n":                                   {"[Service]", "User=a"},
		"  [Service]  \r\n\tUser = a \r\n":                      {"[Service]", "User = a"},
		"\ufeff[Service]\nUser=a":                               {"[Service]", "User=a"},
		"ExecStart=/bin/a \\\n  b \\\nc\nUser=a":                {"ExecStart=/bin/a  b  c", "User=a"},
		"ExecStart=/bin/a \\\n# comment\n ; other\n  b\nUser=a": {"ExecStart=/bin/a  b", "User=a"},
		"# comment \\\nUser=a\n":                                {"User=a"},
		"; comment\n\nUser=a # b":                               {"", "User=a # b"},
		"ExecStart=/bin/a \\\\\nUser=a":                         {`ExecStart=/bin/a \\`, "User=a"},
		"ExecStart=/bin/a \\\\\\\nUser=a":                       {`ExecStart=/bin/a \\ User=a`},
		"ExecStart=/bin/a \\\n\nUser=a":                         {"ExecStart=/bin/a", "User=a"},
		"ExecStart=/bin/a \\ \nUser=a":                          {`ExecStart=/bin/a \`, "User=a"},
		"User=a\\":                                              {"User=a"},
		"User=" + strings.Repeat("a", 5000) + "\n":              {"User=" + strings.Repeat("a", 5000)},
	} {
		if got := slices.Collect(joined(text)); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

// TestNames: a service or a template of services, by the rule of unitname.
func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"a.service": true, "a@b.service": true, "a@b@c.service": true, "a@b@.service": true,
		"a@.service": true, "a.socket": false, "a": false, "../a.service": false, "": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v, want accepted %v", name, err, ok)
		}
	}
}

// TestLinksStayInside: a link of an image must not lead to this machine's files.
func TestLinksStayInside(t *testing.T) {
	root := tree(t, map[string]string{"opt/real": "x"})
	for link, target := range map[string]string{"a": "/opt/real", "b": "../../../../../opt/real", "c": "/c"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"/a", "/b"} {
		got, err := Within(root, path)
		if err != nil || got != filepath.Join(root, "opt/real") {
			t.Errorf("%s leads to %s, %v", path, got, err)
		}
	}
	t.Chdir(filepath.Join(root, "opt"))
	if got, err := Within("..", "/a"); err != nil || got != filepath.Join(root, "opt/real") {
		t.Errorf("below a relative root, /a leads to %s, %v", got, err)
	}
	if _, err := Within(root, "/c"); err == nil {
		t.Error("a link to itself leads somewhere")
	}
}

// TestFIFOs: a FIFO in the place of a unit file is refused. Its opening would wait for a writer for
// ever.
func TestFIFOs(t *testing.T) {
	root := tree(t, map[string]string{"etc/systemd/system/b.service": "", "opt/a": ""})
	for _, name := range []string{"etc/systemd/system/b.service"} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(root, "etc/systemd/system/b.service"), filepath.Join(root, "opt/b.service")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/opt/b.service", filepath.Join(root, "etc/systemd/system/b.service")); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		if _, err := Load(root, "b.service"); err == nil {
			t.Error("it was read")
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("it waits for a writer")
	}
}
