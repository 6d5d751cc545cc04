// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
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

// TestReferenceIsWhatTheAgentRecords: on the machine itself, both measure the same.
func TestReferenceIsWhatTheAgentRecords(t *testing.T) {
	root := packageRoot(t)
	text := strings.ReplaceAll("unit = \"demo.service\"\nuser = \"root\"\nfiles = [\"ROOT/usr/bin/climbing\"]\ndirectories = [\"ROOT/usr/lib/demo\"]\n", "ROOT", root)
	if err := os.Remove(filepath.Join(root, "usr/bin/climbing")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("demo", filepath.Join(root, "usr/bin/climbing")); err != nil {
		t.Fatal(err)
	}
	file := declare(t, text)
	r := &recorder{}
	a, err := New(Config{Recorder: r, Directories: []string{filepath.Dir(file)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	c, err := a.Reload(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Wait(t.Context())
	events := r.all()
	if len(events) != 1 || events[0].App == nil {
		t.Fatalf("the agent recorded %+v", events)
	}
	e, err := manifest.Reference(t.Context(), file, "", manifest.NewProgress())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(e, events[0].App) {
		t.Errorf("reference %+v\nthe agent recorded %+v", e, events[0].App)
	}
}
