// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// packageRoot lays out files as an unpacked package has them: with an absolute link,
// and one that climbs.
func packageRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{"usr/bin/demo": "program", "usr/lib/demo/a.so": "library", "usr/lib/demo/deep/b": "data"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"usr/bin/absolute": "/usr/bin/demo", "usr/bin/climbing": "../../../../usr/lib/demo/a.so", "usr/lib/demo/outside": "/etc/passwd"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func declare(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "demo.toml")
	if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestReferenceUnderRoot: paths of the manifest are those of the machine, and links
// end inside the package.
func TestReferenceUnderRoot(t *testing.T) {
	root := packageRoot(t)
	file := declare(t, "unit = \"demo.service\"\nuser = \"nobody-here-bears-this-name\"\nfiles = [\"/usr/bin/absolute\", \"/usr/bin/climbing\"]\ndirectories = [\"/usr/lib/demo\"]\n")
	e, err := Reference(t.Context(), file, root, NewProgress())
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, m := range e.Manifest {
		paths = append(paths, m.Path)
	}
	want := "/usr/bin/absolute /usr/bin/climbing /usr/bin/demo /usr/lib/demo/a.so /usr/lib/demo/deep/b /usr/lib/demo/outside"
	if got := strings.Join(paths, " "); got != want {
		t.Errorf("manifest holds %s\nwant %s", got, want)
	}
	if e.App != "demo" || e.Unit != "demo.service" || e.Digest != pcr.ManifestDigest(e.Manifest) {
		t.Errorf("got %+v", e)
	}
	t.Run("a link that leads out", func(t *testing.T) {
		file := declare(t, "unit = \"demo.service\"\nuser = \"root\"\nfiles = [\"/usr/lib/demo/outside\"]\n")
		_, err := Reference(t.Context(), file, root, NewProgress())
		if x := (*FileError)(nil); !errors.As(err, &x) {
			t.Errorf("got %v: the file of this machine stands for one of the package", err)
		}
	})
}

func TestReferenceErrors(t *testing.T) {
	root := packageRoot(t)
	good := "unit = \"demo.service\"\nuser = \"root\"\nfiles = [\"/usr/bin/demo\"]\n"
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, file, root, message string
		ctx                       context.Context
	}{
		{"no declaration", filepath.Join(root, "none.toml"), root, "no such file", nil},
		{"another name", filepath.Join(root, "usr/bin/demo"), root, "APP.toml", nil},
		{"a mistake", declare(t, "unit = 1\n"), root, "demo.toml:1", nil},
		{"empty", declare(t, ""), root, "demo.toml", nil},
		{"no root", declare(t, good), filepath.Join(root, "none"), "no such file", nil},
		{"root is a file", declare(t, good), filepath.Join(root, "usr/bin/demo"), "not a directory", nil},
		{"file missing", declare(t, strings.Replace(good, "demo\"]", "none\"]", 1)), root, "/usr/bin/none", nil},
		{"ended", declare(t, good), root, "canceled", ended},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx := c.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			e, err := Reference(ctx, c.file, c.root, NewProgress())
			if err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %+v, %v, want %q", e, err, c.message)
			}
		})
	}
}
