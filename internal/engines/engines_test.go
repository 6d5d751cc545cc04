// SPDX-License-Identifier: Apache-2.0

package engines

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/oci"
)

// machine is a folder with the file of an engine.
func machine(t *testing.T, e Engine, content string) string {
	t.Helper()
	root := t.TempDir()
	path := filepath.Join(root, e.File)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if content != "" {
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func find(t *testing.T, name string) Engine {
	t.Helper()
	e, err := Find(name)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func state(t *testing.T, e Engine, root string, want State) {
	t.Helper()
	if got, err := e.State(root); err != nil || got != want {
		t.Errorf("%s is %q, %v; want %q", e.Name, got, err, want)
	}
}

// TestOnAndOff: an engine is set up, once, and what was there before is there after it.
func TestOnAndOff(t *testing.T) {
	for _, c := range []struct{ engine, content string }{
		{"podman", ""},
		{"docker", ""},
		{"docker", "{}"},
		{"docker", " \n"},
		{"docker", `{"log-driver":"journald","runtimes":{"kata":{"path":"/k","runtimeArgs":["a"]}},"big":9007199254740993}`},
		{"docker", `{"default-runtime":"runc","debug":true}`},
	} {
		e := find(t, c.engine)
		root := machine(t, e, c.content)
		state(t, e, root, Disabled)
		change, err := e.Enable(root, "runc")
		if err != nil || change == nil || change.Manual || change.Next == "" {
			t.Fatal(c, change, err)
		}
		state(t, e, root, Disabled) // nothing is written yet
		if err := change.Write(root); err != nil {
			t.Fatal(err)
		}
		state(t, e, root, Enabled)
		if again, err := e.Enable(root, "runc"); again != nil || err != nil {
			t.Error("enabled twice:", again, err)
		}
		if change, err = e.Disable(root); err != nil || change == nil {
			t.Fatal(change, err)
		}
		if err := change.Write(root); err != nil {
			t.Fatal(err)
		}
		state(t, e, root, Disabled)
		if again, err := e.Disable(root); again != nil || err != nil {
			t.Error("disabled twice:", again, err)
		}
		if c.engine == "podman" {
			if _, err := os.Lstat(filepath.Join(root, e.File)); !os.IsNotExist(err) {
				t.Error(err)
			}
			continue
		}
		b, err := os.ReadFile(filepath.Join(root, e.File))
		if err != nil {
			t.Fatal(err)
		}
		before, after := decode(t, c.content), decode(t, string(b))
		delete(before, memberDefault) // runc is the default without it
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s became %s", c.content, b)
		}
	}
}

func decode(t *testing.T, s string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if strings.TrimSpace(s) == "" {
		return out
	}
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDockerKeeps: the members of others keep their order and every digit.
func TestDockerKeeps(t *testing.T) {
	e := find(t, "docker")
	root := machine(t, e, `{"z":1,"runtimes":{"kata":{"path":"/k"}},"a":9007199254740993}`)
	change, err := e.Enable(root, "crun")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "z": 1,
  "runtimes": {
    "kata": {
      "path": "/k"
    },
    "agentd": {
      "path": "/usr/libexec/agentd/docker-crun"
    }
  },
  "a": 9007199254740993,
  "default-runtime": "agentd"
}
`
	if string(change.Content) != want {
		t.Errorf("got %s", change.Content)
	}
}

// TestRefused: what docker could read in another way, or what is another's, is not changed.
func TestRefused(t *testing.T) {
	for content, want := range map[string]string{
		`{`:                             "ends early",
		`[]`:                            "daemon.json",
		`{"runtimes":{},"runtimes":{}}`: "duplicate",
		`{"Runtimes":{}}`:               "another case",
		`{"Default-Runtime":"x"}`:       "another case",
		`{"default-runtime":"kata"}`:    "kata",
		`{"runtimes":{"agentd":{"path":"/opt/mine"}}}`: "/opt/mine",
		`{"runtimes":[]}`:              "runtimes",
		`{"runtimes":null}`:            "object",
		`{"default-runtime":7}`:        "default-runtime",
		strings.Repeat(" ", maxFile+1): "more than",
	} {
		e := find(t, "docker")
		root := machine(t, e, content)
		if change, err := e.Enable(root, "runc"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v %v, want %q", content, change, err, want)
		}
	}
	if change, err := find(t, "docker").Enable(t.TempDir(), "/bin/sh"); err == nil {
		t.Error(change)
	}
	podman := find(t, "podman")
	root := machine(t, podman, `{"version":"1.0.0","hook":{"path":"/opt/mine"}}`)
	state(t, podman, root, Partly)
	if change, err := podman.Disable(root); err == nil {
		t.Error(change)
	}
	if change, err := podman.Enable(root, "runc"); err == nil {
		t.Error(change)
	}
	if _, err := Find("lxc"); err == nil {
		t.Error("lxc was found")
	}
}

// TestUntrusted: a file that another user can write is not taken for the administrator's.
func TestUntrusted(t *testing.T) {
	e := find(t, "docker")
	root := machine(t, e, `{}`)
	if err := os.Chmod(filepath.Join(root, e.File), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Enable(root, "runc"); err == nil || !strings.Contains(err.Error(), "0666") {
		t.Error(err)
	}
}

// TestContainerd: what is to be written is shown, for each version of the format.
func TestContainerd(t *testing.T) {
	e := find(t, "containerd")
	for content, plugin := range map[string]string{
		"":                                 "io.containerd.grpc.v1.cri",
		"version = 2\n":                    "io.containerd.grpc.v1.cri",
		"version = 3 # of the format\n":    "io.containerd.cri.v1.runtime",
		"# version = 3\nroot = \"/var\"\n": "io.containerd.grpc.v1.cri",
	} {
		root := machine(t, e, content)
		state(t, e, root, Disabled)
		change, err := e.Enable(root, "runc")
		if err != nil || change == nil || !change.Manual || !strings.Contains(string(change.Content), `[plugins."`+plugin+`".containerd.runtimes.runc.options]`) ||
			!strings.Contains(string(change.Content), `BinaryName = "/usr/libexec/agentd/containerd-runc"`) {
			t.Errorf("%q: %+v %v", content, change, err)
			continue
		}
		if err := os.WriteFile(filepath.Join(root, e.File), append([]byte(content), change.Content...), 0o644); err != nil {
			t.Fatal(err)
		}
		state(t, e, root, Enabled)
		if again, err := e.Enable(root, "runc"); again != nil || err != nil {
			t.Error(again, err)
		}
		off, err := e.Disable(root)
		if err != nil || off == nil || !off.Manual || strings.TrimSpace(string(off.Content)) != `BinaryName = "/usr/libexec/agentd/containerd-runc"` {
			t.Errorf("%+v %v", off, err)
		}
	}
	root := machine(t, e, "# BinaryName = \"/usr/libexec/agentd/containerd-runc\"\n")
	state(t, e, root, Disabled)
}

// TestHookFile: podman waits for the hook as long as the hook says.
func TestHookFile(t *testing.T) {
	var file struct {
		Hook struct {
			Path    string
			Timeout int
		}
	}
	if err := json.Unmarshal(hook, &file); err != nil || file.Hook.Path != Program || time.Duration(file.Hook.Timeout)*time.Second != oci.HookTimeout {
		t.Errorf("%+v %v", file, err)
	}
}
