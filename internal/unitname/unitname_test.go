// SPDX-License-Identifier: Apache-2.0

package unitname

import (
	"strings"
	"testing"
)

// TestForms: every form of a name, as systemd takes it apart. Name is what Parse returns,
// nil if it is not a name; running is whether processes can run in the unit.
func TestForms(t *testing.T) {
	for s, c := range map[string]struct {
		name    *Name
		running bool
	}{
		"a.service":                           {&Name{Prefix: "a", Type: "service"}, true},
		"dbus-org.a.b.service":                {&Name{Prefix: "dbus-org.a.b", Type: "service"}, true},
		"session-1.scope":                     {&Name{Prefix: "session-1", Type: "scope"}, true},
		"a.socket":                            {&Name{Prefix: "a", Type: "socket"}, true},
		`a\x2db.mount`:                        {&Name{Prefix: `a\x2db`, Type: "mount"}, true},
		"-.mount":                             {&Name{Prefix: "-", Type: "mount"}, true},
		"dev-sda1.swap":                       {&Name{Prefix: "dev-sda1", Type: "swap"}, true},
		"_a:b.service":                        {&Name{Prefix: "_a:b", Type: "service"}, true},
		".a.service":                          {&Name{Prefix: ".a", Type: "service"}, true},
		"..service":                           {&Name{Prefix: ".", Type: "service"}, true},
		"a.service.service":                   {&Name{Prefix: "a.service", Type: "service"}, true},
		"a@b.service":                         {&Name{Prefix: "a", Instance: "b", Type: "service"}, true},
		"a@b.c.service":                       {&Name{Prefix: "a", Instance: "b.c", Type: "service"}, true},
		"a@b@c.service":                       {&Name{Prefix: "a", Instance: "b@c", Type: "service"}, true},
		"a@b@.service":                        {&Name{Prefix: "a", Instance: "b@", Type: "service"}, true},
		"a@@.service":                         {&Name{Prefix: "a", Instance: "@", Type: "service"}, true},
		"a@.service.service":                  {&Name{Prefix: "a", Instance: ".service", Type: "service"}, true},
		"user@1000.service":                   {&Name{Prefix: "user", Instance: "1000", Type: "service"}, true},
		"a@.service":                          {&Name{Prefix: "a", Type: "service", Template: true}, false},
		"a@.socket":                           {&Name{Prefix: "a", Type: "socket", Template: true}, false},
		"a.slice":                             {&Name{Prefix: "a", Type: "slice"}, false},
		"a.target":                            {&Name{Prefix: "a", Type: "target"}, false},
		"a.device":                            {&Name{Prefix: "a", Type: "device"}, false},
		"a.automount":                         {&Name{Prefix: "a", Type: "automount"}, false},
		"a.path":                              {&Name{Prefix: "a", Type: "path"}, false},
		"a.timer":                             {&Name{Prefix: "a", Type: "timer"}, false},
		"":                                    {},
		"a":                                   {},
		".":                                   {},
		"a.":                                  {},
		"service":                             {},
		".service":                            {},
		"@.service":                           {},
		"@a.service":                          {},
		"@a@b.service":                        {},
		"a.Service":                           {},
		"a.snapshot":                          {},
		"a.conf":                              {},
		"a b.service":                         {},
		"a/b.service":                         {},
		"../a.service":                        {},
		"a\n.service":                         {},
		"a\x00.service":                       {},
		"ä.service":                           {},
		"a%i.service":                         {},
		"a#b.service":                         {},
		"a@b/c.service":                       {},
		"a.service\n":                         {},
		"a.service ":                          {},
		strings.Repeat("a", 247) + ".service": {&Name{Prefix: strings.Repeat("a", 247), Type: "service"}, true},
		strings.Repeat("a", 248) + ".service": {},
		"a@" + strings.Repeat("b", 245) + ".service": {&Name{Prefix: "a", Instance: strings.Repeat("b", 245), Type: "service"}, true},
		"a@" + strings.Repeat("b", 246) + ".service": {},
	} {
		n, err := Parse(s)
		if (err == nil) != (c.name != nil) || err == nil && (n != *c.name || n.String() != s) {
			t.Errorf("%q: got %+v, %v, want %+v", s, n, err, c.name)
		}
		if n, err := Running(s); (err == nil) != c.running || err == nil && n != *c.name {
			t.Errorf("%q: got %+v, %v, want running %v", s, n, err, c.running)
		}
	}
}

// TestTemplateOf: an instance has a template, and no other unit has one.
func TestTemplateOf(t *testing.T) {
	for s, want := range map[string]string{"a@b.service": "a@.service", "a@b@c.socket": "a@.socket", "a@.service": "", "a.service": ""} {
		n, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := n.TemplateOf(); got != want || ok != (want != "") {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}
