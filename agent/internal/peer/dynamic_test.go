// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDynamicUser: a uid has a name only if both links of systemd say so, in a folder that only
// their owner can write to.
func TestDynamicUser(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string
		mode  os.FileMode // of the folder; 0755 if 0
		owner uint32      // who has to own it, in addition to the uid of the test
		uid   uint32
		want  string
	}{
		"held":                        {links: map[string]string{"61200": "billing", "billing": "61200"}, uid: 61200, want: "billing"},
		"another is held":             {links: map[string]string{"61200": "billing", "billing": "61200"}, uid: 61201},
		"given to another":            {links: map[string]string{"61200": "thief", "thief": "61200", "billing": "61200"}, uid: 61200, want: "thief"},
		"the name has another uid":    {links: map[string]string{"61200": "billing", "billing": "61201"}, uid: 61200},
		"the name has none":           {links: map[string]string{"61200": "billing"}, uid: 61200},
		"a uid as the name":           {links: map[string]string{"61200": "61200"}, uid: 61200},
		"a path":                      {links: map[string]string{"61200": "../x", "../x": "61200"}, uid: 61200},
		"a name of 31 bytes":          {links: map[string]string{"61200": strings.Repeat("a", 31), strings.Repeat("a", 31): "61200"}, uid: 61200, want: strings.Repeat("a", 31)},
		"a name of 32 bytes":          {links: map[string]string{"61200": strings.Repeat("a", 32), strings.Repeat("a", 32): "61200"}, uid: 61200},
		"a long target":               {links: map[string]string{"61200": strings.Repeat("a", 200)}, uid: 61200},
		"a folder for the group":      {links: map[string]string{"61200": "billing", "billing": "61200"}, mode: 0o775, uid: 61200},
		"a folder for all":            {links: map[string]string{"61200": "billing", "billing": "61200"}, mode: 0o757, uid: 61200},
		"a folder of another user":    {links: map[string]string{"61200": "billing", "billing": "61200"}, owner: 1, uid: 61200},
		"the uid of no dynamic user":  {links: map[string]string{"1000": "billing", "billing": "1000"}, uid: 1000},
		"root":                        {links: map[string]string{"0": "billing", "billing": "0"}, uid: 0},
		"the first after the dynamic": {links: map[string]string{"65520": "billing", "billing": "65520"}, uid: 65520},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dynamic-uid")
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			for of, to := range c.links {
				if !strings.Contains(of, "/") {
					symlink(t, to, filepath.Join(dir, "direct:"+of))
				}
			}
			if c.mode != 0 {
				if err := os.Chmod(dir, c.mode); err != nil {
					t.Fatal(err)
				}
			}
			got, err := DynamicUsers{Dir: dir, owner: uint32(os.Geteuid()) + c.owner}.Name(c.uid)
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestDynamicUserElsewhere: a file or a link in the place of the folder or of a link says nothing, and
// nor does a link that another user owns.
func TestDynamicUserElsewhere(t *testing.T) {
	users := func(dir string) DynamicUsers { return DynamicUsers{Dir: dir, owner: uint32(os.Geteuid())} }
	top := t.TempDir()
	good := filepath.Join(top, "good")
	if err := os.Mkdir(good, 0o755); err != nil {
		t.Fatal(err)
	}
	symlink(t, "billing", filepath.Join(good, "direct:61200"))
	symlink(t, "61200", filepath.Join(good, "direct:billing"))
	if name, err := users(good).Name(61200); name != "billing" || err != nil {
		t.Fatal(name, err)
	}
	link := filepath.Join(top, "link")
	symlink(t, good, link)
	for _, dir := range []string{link, filepath.Join(top, "missing"), "/dev/null"} {
		if name, err := users(dir).Name(61200); err == nil {
			t.Errorf("%s: %q", dir, name)
		}
	}
	path := filepath.Join(good, "direct:billing")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("61200"), 0o644); err != nil {
		t.Fatal(err)
	}
	if name, err := users(good).Name(61200); err == nil {
		t.Errorf("a file in the place of a link: %q", name)
	}
	if os.Geteuid() != 0 {
		t.Skip("must be root to give a link away")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	symlink(t, "61200", path)
	for owner, want := range map[int]string{61201: "", os.Geteuid(): "billing"} {
		if err := os.Chown(good, owner, -1); err != nil {
			t.Fatal(err)
		}
		if name, _ := users(good).Name(61200); name != want {
			t.Errorf("links of root in a folder of uid %d: %q", owner, name)
		}
	}
	if err := os.Chown(good, os.Geteuid(), -1); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(path, 61201, 61201); err != nil {
		t.Fatal(err)
	}
	if name, err := users(good).Name(61200); err == nil {
		t.Errorf("a link of another user: %q", name)
	}
}

func symlink(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}
