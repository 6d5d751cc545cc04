// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainer: an app that is a container has an image and an engine, and nothing that only an
// app of files has.
func TestContainer(t *testing.T) {
	hex := strings.Repeat("0f", 32)
	for _, image := range []string{
		"sha256:" + hex, "registry.example/ledger", "localhost/ledger", "localhost:5000/a/b",
		"reg.example:5000/team/le-dger_1.x", "docker.io/library/debian", "10.0.0.1:5000/x", "host:5000/x",
	} {
		d, err := Parse("ledger", "f", []byte("image = \""+image+"\"\nengine = \"podman\"\n"), nil)
		if err != nil {
			t.Errorf("%s: %v", image, err)
			continue
		}
		if !d.IsContainer() || d.Image != image || d.Engine != "podman" || d.Unit != "" || d.Digest.IsZero() {
			t.Errorf("%s: %+v", image, d)
		}
	}
	for text, want := range map[string]string{
		`image = "x.example/a"`: "engine", `engine = "podman"`: "image", `image = ""` + "\n" + `engine = "podman"`: "image",
		`image = "x.example/a"` + "\n" + `engine = "lxc"`:                                       "engine",
		`image = "x.example/a:1"` + "\n" + `engine = "docker"`:                                  "without tag",
		`image = "x.example/a@sha256:` + hex + `"` + "\n" + `engine = "docker"`:                 "without tag",
		`image = "sha256:` + strings.ToUpper(hex) + `"` + "\n" + `engine = "docker"`:            "lower-case",
		`image = "sha256:` + hex[2:] + `"` + "\n" + `engine = "docker"`:                         "lower-case",
		`image = "ledger"` + "\n" + `engine = "docker"`:                                         "neither",
		`image = "library/ledger"` + "\n" + `engine = "docker"`:                                 "neither",
		`image = "x.example/../a"` + "\n" + `engine = "docker"`:                                 "neither",
		`image = "x.example//a"` + "\n" + `engine = "docker"`:                                   "neither",
		`image = "x.example/A"` + "\n" + `engine = "docker"`:                                    "neither",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `unit = "x"`:              "unit",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `unit = ""`:               "unit",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `user = "root"`:           "3:1: user",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `dynamic_user = false`:    "3:1: dynamic_user",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `users = []`:              "users",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `files = ["/bin/sh"]`:     "files",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `directories = ["/opt"]`:  "directories",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `exclude = ["*.log"]`:     "exclude",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `gate = true`:             "3:1: gate",
		`image = "x.example/a"` + "\n" + `engine = "docker"` + "\n" + `gate = "enforce"`:        "3:1: gate",
		`image = "x.example/` + strings.Repeat("a", 256) + `"` + "\n" + `engine = "containerd"`: "neither",
	} {
		if d, err := Parse("ledger", "f", []byte(text+"\n"), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want %q", text, d, err, want)
		}
	}
}

// TestContainersAreApart: containers are not among the apps of files, and one of two with the same
// image, engine and unit is refused.
func TestContainersAreApart(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a": `unit = "a.service"` + "\nuser = \"0\"\nfiles = [\"/bin/sh\"]\n", "b": `image = "x.example/b"` + "\nengine = \"podman\"\n", "c": `image = "x.example/b"` + "\nengine = \"podman\"\n",
		"d": `image = "x.example/b"` + "\nengine = \"docker\"\n", "e": `image = "x.example/b"` + "\nengine = \"podman\"\nunit = \"a.service\"\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s, err := (&Source{Directories: []string{dir}, Owners: []uint32{uint32(os.Geteuid())}}).Load()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Declarations) != 1 || s.Declarations["a"] == nil || len(s.Containers) != 3 || s.Containers["b"] == nil || s.Refused["c"] == nil || !strings.Contains(s.Refused["c"].Error(), "b.toml") {
		t.Errorf("apps %v, containers %v, refused %v", s.Declarations, s.Containers, s.Refused)
	}
}
