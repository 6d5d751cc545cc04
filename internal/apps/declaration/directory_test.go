// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func declarationText(unit string) string {
	return fmt.Sprintf("unit = %q\nuser = \"0\"\nfiles = [\"/bin/sh\"]\n", unit)
}

func loadFrom(dirs ...string) (*Set, error) {
	c := Source{Directories: dirs, Owners: []uint32{uint32(os.Geteuid())}, LookupUser: lookupForTest}
	return c.Load()
}

func put(t *testing.T, dir, file, content string) string {
	t.Helper()
	p := filepath.Join(dir, file)
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func twoDirectories(t *testing.T) (packages, overrides string) {
	t.Helper()
	root := t.TempDir()
	packages, overrides = filepath.Join(root, "usr"), filepath.Join(root, "etc")
	for _, dir := range []string{packages, overrides} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return packages, overrides
}

func TestOverrideAndMask(t *testing.T) {
	packages, overrides := twoDirectories(t)
	for _, name := range []string{"kept", "overridden", "emptied", "linked", "broken"} {
		put(t, packages, name+".toml", declarationText(name+".service"))
	}
	put(t, packages, "revived.toml", "")
	put(t, packages, "readme.txt", "not a declaration")
	put(t, packages, ".hidden.toml", "not a declaration")
	put(t, overrides, "overridden.toml", declarationText("other.service"))
	put(t, overrides, "emptied.toml", "")
	put(t, overrides, "broken.toml", "unit = 1\n")
	put(t, overrides, "revived.toml", declarationText("revived.service"))
	if err := os.Symlink("/dev/null", filepath.Join(overrides, "linked.toml")); err != nil {
		t.Fatal(err)
	}
	s, err := loadFrom(packages, overrides, filepath.Join(overrides, "absent"))
	if err != nil {
		t.Fatal(err)
	}
	units := map[string]string{}
	for name, d := range s.Declarations {
		units[name] = d.Unit
	}
	want := map[string]string{"kept": "kept.service", "overridden": "other.service", "revived": "revived.service"}
	if fmt.Sprint(units) != fmt.Sprint(want) {
		t.Errorf("in force %v, want %v", units, want)
	}
	// A broken override does not bring the package's declaration back.
	if err := s.Refused["broken"]; len(s.Refused) != 1 || err == nil || !strings.Contains(err.Error(), "etc/broken.toml:1:8: unit") {
		t.Errorf("refused %v", s.Refused)
	}
}

func TestUntrustedDeclarations(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(t *testing.T, dir string)
		want  string
	}{
		{"group-writable", func(t *testing.T, dir string) { chmod(t, dir+"/a.toml", 0o664) }, "mode 0664 lets other users write"},
		{"world-writable", func(t *testing.T, dir string) { chmod(t, dir+"/a.toml", 0o646) }, "mode 0646 lets other users write"},
		{"group-writable directory", func(t *testing.T, dir string) { chmod(t, dir, 0o775) }, "mode 0775 lets other users write"},
		{"sticky world-writable directory", func(t *testing.T, dir string) { chmod(t, dir, 0o777|os.ModeSticky) }, "mode 01777 lets other users write"},
		{"empty and writable", func(t *testing.T, dir string) { put(t, dir, "a.toml", ""); chmod(t, dir+"/a.toml", 0o666) }, "lets other users write"},
		{"link to a good file", func(t *testing.T, dir string) {
			if err := os.Rename(dir+"/a.toml", dir+"/a"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("a", dir+"/a.toml"); err != nil {
				t.Fatal(err)
			}
		}, "symbolic link"},
		{"FIFO", func(t *testing.T, dir string) {
			os.Remove(dir + "/a.toml")
			if err := unix.Mkfifo(dir+"/a.toml", 0o644); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"directory", func(t *testing.T, dir string) {
			os.Remove(dir + "/a.toml")
			if err := os.Mkdir(dir+"/a.toml", 0o755); err != nil {
				t.Fatal(err)
			}
		}, "not a regular file"},
		{"too large", func(t *testing.T, dir string) {
			put(t, dir, "a.toml", declarationText("a.service")+"#"+strings.Repeat("x", MaxDeclaration))
		}, "65537 bytes, at most 65536 are read"},
		{"name", func(t *testing.T, dir string) { put(t, dir, "a b.toml", declarationText("b.service")) }, `app name "a b" contains " "`},
		{"too many names", func(t *testing.T, dir string) {
			for i := range MaxDirectoryNames {
				put(t, dir, fmt.Sprint(i), "")
			}
		}, "more than 4096 names"},
		{"too many apps", func(t *testing.T, dir string) {
			for i := range MaxApps {
				put(t, dir, fmt.Sprintf("x%d.toml", i), declarationText(fmt.Sprintf("x%d.service", i)))
			}
		}, "257 apps are declared"},
		{"twins", func(t *testing.T, dir string) { put(t, dir, "b.toml", declarationText("a.service")) }, "already those of"},
		{"twin of a further user", func(t *testing.T, dir string) {
			put(t, dir, "b.toml", strings.Replace(declarationText("a.service"), "user = ", "users = [\"0\"]\nuser = \"7\" # ", 1))
		}, "unit a.service and user 0 are already those of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, _ := twoDirectories(t)
			put(t, dir, "a.toml", declarationText("a.service"))
			if s, err := loadFrom(dir); err != nil || len(s.Declarations) != 1 {
				t.Fatalf("before it was spoiled: %v, %v", s, err)
			}
			c.spoil(t, dir)
			s, err := loadFrom(dir)
			if err == nil {
				for _, r := range s.Refused {
					err = r
				}
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %q in %s", err, c.want, dir)
			}
		})
	}
	t.Run("owner", func(t *testing.T) {
		dir, _ := twoDirectories(t)
		c := Source{Directories: []string{dir}, Owners: []uint32{uint32(os.Geteuid()) + 1}}
		if _, err := c.Load(); err == nil || !strings.Contains(err.Error(), "owned by uid") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("directory is a link", func(t *testing.T) {
		dir, other := twoDirectories(t)
		link := filepath.Join(other, "link")
		if err := os.Symlink(dir, link); err != nil {
			t.Fatal(err)
		}
		if _, err := loadFrom(link); err == nil {
			t.Error("a link was followed")
		}
	})
}

func TestTwinsKeepTheFirstName(t *testing.T) {
	dir, _ := twoDirectories(t)
	for _, name := range []string{"c", "a", "b"} {
		put(t, dir, name+".toml", declarationText("same.service"))
	}
	s, err := loadFrom(dir)
	if err != nil {
		t.Fatal(err)
	}
	if s.Declarations["a"] == nil || len(s.Declarations) != 1 || len(s.Refused) != 2 {
		t.Errorf("in force %v, refused %v", s.Declarations, s.Refused)
	}
}

func chmod(t *testing.T, p string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(p, mode); err != nil {
		t.Fatal(err)
	}
}

// TestOverrideOfARefusedDeclaration: a good file of the administrator stands for a broken
// one of a package, and a name that is not allowed fails the whole.
func TestOverrideOfARefusedDeclaration(t *testing.T) {
	packages, overrides := twoDirectories(t)
	put(t, packages, "a.toml", "unit = 1\n")
	put(t, overrides, "a.toml", declarationText("a.service"))
	s, err := loadFrom(packages, overrides)
	if err != nil || len(s.Refused) != 0 || s.Declarations["a"] == nil {
		t.Errorf("%+v, %v", s, err)
	}
	put(t, overrides, "b c.toml", declarationText("b.service"))
	if s, err := loadFrom(packages, overrides); err == nil || !strings.Contains(err.Error(), `app name "b c"`) {
		t.Errorf("%+v, %v", s, err)
	}
}
