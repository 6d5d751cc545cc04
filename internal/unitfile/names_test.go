// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestNamesThatDependOnOrder (case 109): a name is refused in words if what it means depends on
// which name of the unit systemd loads first, and on nothing else is it refused.
func TestNamesThatDependOnOrder(t *testing.T) {
	const dir = "etc/systemd/system/"
	for name, c := range map[string]struct {
		files   string // beside d-e@.service
		links   map[string]string
		ask     string
		refused string // the other name; empty: the unit is read as want
		want    string
	}{
		"alias of an instance without a file":    {"", map[string]string{"w@1.service": "d-e@.service"}, "w@1.service", "", "d-e@1.service"},
		"alias of an instance with a file":       {"d-e@1.service", map[string]string{"w@1.service": "d-e@.service"}, "w@1.service", "d-e@1.service", ""},
		"instance with a file and such an alias": {"d-e@1.service", map[string]string{"w@1.service": "d-e@.service"}, "d-e@1.service", "w@1.service", ""},
		"other instance than that of the alias":  {"d-e@2.service", map[string]string{"w@1.service": "d-e@.service"}, "d-e@2.service", "", "d-e@2.service"},
		"alias of the file of an instance":       {"d-e@1.service", map[string]string{"w@1.service": "d-e@1.service"}, "w@1.service", "", "d-e@1.service"},
		"file of an instance, alias of template": {"d-e@1.service", map[string]string{"v@.service": "d-e@.service"}, "d-e@1.service", "v@1.service", ""},
		"instance, alias of its template":        {"", map[string]string{"v@.service": "d-e@.service"}, "d-e@1.service", "", "d-e@1.service"},
		"template, alias of an instance":         {"", map[string]string{"v@1.service": "d-e@.service"}, "d-e@.service", "", "d-e@.service"},
		"masked instance of an alias":            {"d-e@1.service", map[string]string{"v@.service": "d-e@.service", "v@1.service": "/dev/null"}, "d-e@1.service", "", "d-e@1.service"},
		"two aliases with a drop-in of a name":   {"a.service b.service.d/x.conf c.service.d/x.conf", map[string]string{"b.service": "a.service", "c.service": "a.service"}, "a.service", "c.service.d/x.conf", ""},
		"the unit's own drop-in hides both":      {"a.service a.service.d/x.conf b.service.d/x.conf c.service.d/x.conf", map[string]string{"b.service": "a.service", "c.service": "a.service"}, "b.service", "", "a.service"},
		"a drop-in of one of two such aliases":   {"d-e@1.service.d/x.conf w@1.service.d/y.conf", map[string]string{"v@1.service": "d-e@.service", "w@1.service": "d-e@.service"}, "v@1.service", "d-e@1.service", ""},
	} {
		files := map[string]string{dir + "d-e@.service": "[Service]\nExecStart=/bin/true\n"}
		for _, f := range strings.Fields(c.files) {
			files[dir+f] = "[Service]\nExecStart=/bin/true\n"
		}
		root := tree(t, files)
		for from, to := range c.links {
			if err := os.Symlink(to, filepath.Join(root, dir, from)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Load(root, c.ask)
		switch {
		case c.refused != "":
			if !errors.Is(err, errByHand) || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: read as %+v, %v; want a refusal that names %s", name, s, err, c.refused)
			}
		case err != nil || s.Name != c.want:
			t.Errorf("%s: read as %+v, %v; want %s", name, s, err, c.want)
		}
	}
	root := tree(t, nil)
	if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"a.service": "b.service", "b.service": "a.service"} {
		if err := os.Symlink(to, filepath.Join(root, dir, from)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Load(root, "a.service"); !errors.Is(err, ErrNoUnit) || !strings.Contains(err.Error(), "circle") {
		t.Errorf("aliases in a circle: %v", err)
	}
}
