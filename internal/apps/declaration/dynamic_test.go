// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

// TestDynamicUser: a declaration of a dynamic user asks for no uid, and is the app of no uid
// by itself. One with the name of a user that exists is refused, since systemd would take that user.
func TestDynamicUser(t *testing.T) {
	dir := t.TempDir()
	text := func(unit, user, more string) string {
		return "unit = \"" + unit + "\"\nuser = \"" + user + "\"\n" + more + "files = [\"/bin/sh\"]\n"
	}
	const dynamic = "dynamic_user = true\n"
	put(t, dir, "a.toml", text("a.service", "unknown", dynamic))
	put(t, dir, "b.toml", text("b.service", "billing", dynamic)) // uid 990 exists
	put(t, dir, "c.toml", text("a.service", "root", ""))         // another user of the same unit
	put(t, dir, "d.toml", text("a.service", "other", dynamic))
	put(t, dir, "e.toml", text("a.service", "unknown", dynamic)) // as a.toml
	put(t, dir, "f.toml", text("f.service", "transient", dynamic))
	c := Source{Directories: []string{dir}, Owners: []uint32{uint32(os.Geteuid())}, LookupUser: func(name string) (uint32, error) {
		switch name {
		case "root":
			return 0, nil
		case "transient": // as a directory service answers while the unit runs
			return 61500, nil
		}
		return lookupForTest(name)
	}}
	s, err := c.Load()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"b": "user \"billing\" has the uid 990", "e": "unit a.service and user unknown are already those of"} {
		if err := s.Refused[name]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for _, name := range []string{"a", "c", "d", "f"} {
		if err := s.Refused[name]; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"a", "d", "f"} {
		d := s.Declarations[name]
		if d == nil || !d.Dynamic || d.UID != NoUID {
			t.Fatalf("%s: %+v", name, d)
		}
		for _, uid := range []uint32{0, 990, pcr.MinDynamicUID, 61500, pcr.MaxDynamicUID} {
			if d.HasUser(uid) {
				t.Errorf("%s has uid %d", name, uid)
			}
		}
	}
}

// TestCheckDynamicUser: names as systemd takes them for a dynamic user.
func TestCheckDynamicUser(t *testing.T) {
	for name, ok := range map[string]bool{
		"billing": true, "_b": true, "B-2_x": true, "_du0123456789abcdef": true, strings.Repeat("a", 31): true,
		"": false, "1a": false, "-a": false, "a.b": false, "a b": false, "a\n": false, "a/b": false, "é": false, "61200": false, strings.Repeat("a", 32): false,
	} {
		if err := CheckDynamicUser(name); (err == nil) != ok {
			t.Errorf("%q: %v, want accepted %v", name, err, ok)
		}
	}
}
