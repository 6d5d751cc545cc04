// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os/user"
	"reflect"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/pcr"
)

func lookupForTest(name string) (uint32, error) {
	switch name {
	case "billing":
		return 990, nil
	case "nobody":
		return 65534, nil
	}
	return 0, user.UnknownUserError(name)
}

func TestParseDeclaration(t *testing.T) {
	text := `# the billing service
unit = "billing.service"
user = 'billing'
files = [
  "/usr/bin/billing", # the daemon
  "/usr/bin/python3\u002e11",
]
directories = ["/usr/lib/billing"]
exclude = ["*.log", "/usr/lib/billing/cache/*"]
`
	d, err := Parse("billing", "/etc/agentd/apps.d/billing.toml", []byte(text), lookupForTest)
	if err != nil {
		t.Fatal(err)
	}
	want := &Declaration{
		Name: "billing", File: "/etc/agentd/apps.d/billing.toml", Unit: "billing.service", User: "billing", UID: 990,
		Files: []string{"/usr/bin/billing", "/usr/bin/python3.11"}, Directories: []string{"/usr/lib/billing"},
		Exclude: []string{"*.log", "/usr/lib/billing/cache/*"}, Digest: sha256.Sum256([]byte(text)),
	}
	if !reflect.DeepEqual(d, want) {
		t.Errorf("got  %+v\nwant %+v", d, want)
	}
}

func TestDeclarationErrors(t *testing.T) {
	const head = "unit = \"a.service\"\nuser = \"1000\"\n"
	const good = head + "files = [\"/bin/a\"]\n"
	for _, c := range []struct {
		name, text, want string // want: line:column: part of the problem, or only that if no line is known
	}{
		{"syntax", "unit = \n", "1:8: unexpected character"},
		{"unterminated", head + "files = [\"/a\"\n", "array is incomplete"},
		{"unknown key", good + "unti = \"a\"\n", "4:1: unti: unknown key: want unit, user, dynamic_user, users, files, directories, exclude"},
		{"differently cased key", "Unit = \"a.service\"\n", "1:1: Unit: unknown key: keys are lower case"},
		{"duplicate key", good + "user = \"0\"\n", "4:1: user: key user is already defined"},
		{"table", good + "[more]\na = 1\n", "4:2: more: unknown key"},
		{"table of a known name", good + "  [files]\n", "4:4: files: want a list of strings"},
		{"array table", "[[files]]\n", "1:3: files: want a list of strings"},
		{"dotted key", "unit.name = \"a.service\"\n", "1:6: unit.name: unknown key: the value above it is not a table"},
		{"dotted list", head + "files.a = []\n", "3:7: files.a: unknown key: the value above it is not a table"},
		{"number for unit", "unit = 3\n", "1:8: unit: want a string"},
		{"number for user", "unit = \"a.service\"\nuser = 1000\n", "2:8: user: want a string"},
		{"string for list", head + "files = \"/bin/a\"\n", "3:9: files: want a list"},
		{"number in list", head + "files = [\"/bin/a\",\n  7]\n", "4:3: files[1]: want a string"},
		{"list in list", head + "files = [[\"/bin/a\"]]\n", "3:1: files[0]: want a string"},
		{"inline table", head + "files = {a = 1}\n", "3:9: files: want a list"},
		{"invalid UTF-8", "unit = \"a.service\"\n# \xff\n", "2:3: invalid UTF-8"},
		{"no unit", "user = \"0\"\nfiles = [\"/a\"]\n", "unit: missing"},
		{"empty unit", "unit = \"\"\n", "1:1: unit: missing"},
		{"no such unit type", "unit = \"a.target\"\n", `1:1: unit: "a.target" does not end with`},
		{"slice", "unit = \"a.slice\"\n", "1:1: unit:"},
		{"unit without a type", "unit = \"billing\"\n", "1:1: unit:"},
		{"only a type", "unit = \".service\"\n", "1:1: unit: \".service\" is not the name of a unit: want a name before its type"},
		{"the user again", "unit = \"a.service\"\nuser = \"7\"\nusers = [\"8\", \"7\"]\nfiles = [\"/a\"]\n", "3:15: users[1]: user \"7\" is listed twice"},
		{"further user twice", "unit = \"a.service\"\nuser = \"7\"\nusers = [\"8\", \"8\"]\nfiles = [\"/a\"]\n", "3:15: users[1]: user \"8\" is listed twice"},
		{"too many further users", "unit = \"a.service\"\nuser = \"7\"\nusers = [" + strings.Repeat("\"8\", ", pcr.MaxAppUsers+1) + "]\nfiles = [\"/a\"]\n", "3:1: users: 17 elements, at most 16"},
		{"a dynamic user with further users", "unit = \"a.service\"\nuser = \"a\"\ndynamic_user = true\nusers = [\"8\"]\nfiles = [\"/a\"]\n", "4:1: users: a unit with DynamicUser="},
		{"a dynamic user without a name", "unit = \"a.service\"\ndynamic_user = true\nfiles = [\"/a\"]\n", "user: \"\" cannot be a dynamic user"},
		{"the first dynamic uid", "unit = \"a.service\"\nuser = \"61184\"\nfiles = [\"/a\"]\n", "2:1: user: systemd gives uid 61184 to one unit after the other"},
		{"the last dynamic uid", "unit = \"a.service\"\nuser = \"7\"\nusers = [\"65519\"]\nfiles = [\"/a\"]\n", "3:10: users[0]: systemd gives uid 65519"},
		{"a dynamic user with a number", "unit = \"a.service\"\nuser = \"61200\"\ndynamic_user = true\nfiles = [\"/a\"]\n", "2:1: user: \"61200\" cannot be a dynamic user"},
		{"a dynamic user with a dot", "unit = \"a.service\"\nuser = \"a.b\"\ndynamic_user = true\nfiles = [\"/a\"]\n", "2:1: user: \"a.b\" cannot be"},
		{"a dynamic user with a long name", "unit = \"a.service\"\nuser = \"" + strings.Repeat("a", 32) + "\"\ndynamic_user = true\nfiles = [\"/a\"]\n", "2:1: user: "},
		{"a dynamic user as text", "unit = \"a.service\"\nuser = \"a\"\ndynamic_user = \"yes\"\n", "3:16: dynamic_user: want true or false"},
		{"further user of a namespace", "unit = \"a.service\"\nuser = \"7\"\nusers = [\"65534\"]\nfiles = [\"/a\"]\n", "3:10: users[0]: uid 65534"},
		{"template of what has no processes", "unit = \"a@.target\"\n", "1:1: unit: \"a@.target\" does not end with"},
		{"only an instance", "unit = \"@a.service\"\n", "1:1: unit:"},
		{"path as unit", "unit = \"x/a.service\"\n", "1:1: unit: \"x/a.service\" is not the name of a unit: it contains \"/\""},
		{"unit too long", "unit = \"" + strings.Repeat("a", 250) + ".service\"\n", "1:1: unit: a unit name of 258 bytes"},
		{"no user", "unit = \"a.service\"\nfiles = [\"/a\"]\n", "user: missing"},
		{"unknown user", "unit = \"a.service\"\nuser = \"who\"\n", `2:1: user: user "who" is not known: create the user`},
		{"uid too large", "unit = \"a.service\"\nuser = \"4294967296\"\n", "2:1: user:"},
		{"uid -1", "unit = \"a.service\"\nuser = \"4294967295\"\n", "2:1: user: uid 4294967295 is not that of one particular user"},
		{"uid with zeros", "unit = \"a.service\"\nuser = \"007\"\n", "2:1: user:"},
		{"nobody", "unit = \"a.service\"\nuser = \"nobody\"\n", "2:1: user: uid 65534 is not that of one particular user"},
		{"nothing declared", head, "neither files nor directories"},
		{"empty lists", head + "files = []\ndirectories = []\n", "neither files nor directories"},
		{"relative path", head + "files = [\"/bin/a\",\n  \"bin/b\"]\n", `4:3: files[1]: path "bin/b" is not absolute`},
		{"empty path", head + "files = [\"\"]\n", "3:10: files[0]:"},
		{"unclean path", head + "files = [\"/bin/../a\"]\n", `3:10: files[0]: path "/bin/../a" is not clean, want "/a"`},
		{"trailing slash", head + "directories = [\"/opt/a/\"]\n", "3:16: directories[0]:"},
		{"control character", head + "files = [\"/a\\nb\"]\n", "3:10: files[0]: \"/a\\nb\" contains control"},
		{"root directory", head + "directories = [\"/\"]\n", "3:16: directories[0]: the root directory"},
		{"root as file", head + "files = [\"/\"]\n", "3:10: files[0]: the root directory"},
		{"proc", head + "files = [\"/proc/self/exe\"]\n", "3:10: files[0]:"},
		{"proc itself", head + "directories = [\"/proc\"]\n", "3:16: directories[0]: path \"/proc\" is in /proc"},
		{"empty pattern", head + "directories = [\"/opt/a\"]\nexclude = [\"\"]\n", "4:12: exclude[0]: pattern \"\" is neither"},
		{"path too long", head + "files = [\"/" + strings.Repeat("a", 4096) + "\"]\n", "3:10: files[0]: 4097 bytes"},
		{"listed twice", head + "files = [\"/a\", \"/b\", \"/a\"]\n", `3:22: files[2]: "/a" is listed twice`},
		{"too many", head + "files = [" + strings.Repeat("\"/a\",", MaxListed+1) + "]\n", "3:1: files: 4097 elements"},
		{"exclude without directories", good + "exclude = [\"*.log\"]\n", "4:12: exclude[0]:"},
		{"exclude everything", head + "directories = [\"/opt/a\"]\nexclude = [\"a\"]\n", "4:12: exclude[0]: pattern \"a\" leaves out the whole"},
		{"pattern is not a pattern", head + "directories = [\"/opt/a\"]\nexclude = [\"[a\"]\n", "4:12: exclude[0]:"},
		{"relative pattern", head + "directories = [\"/opt/a\"]\nexclude = [\"b/*\"]\n", "4:12: exclude[0]:"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("a", "a.toml", []byte(c.text), lookupForTest)
			var d *Error
			if !errors.As(err, &d) {
				t.Fatalf("got %v, want a declaration error", err)
			}
			got := err.Error()
			if !strings.HasPrefix(got, "a.toml:") || !strings.Contains(got, c.want) {
				t.Errorf("got %q, want it to hold %q", got, c.want)
			}
			if c.want[0] >= '0' && c.want[0] <= '9' && !strings.HasPrefix(got, "a.toml:"+c.want) {
				t.Errorf("got %q, want position and problem %q", got, c.want)
			}
		})
	}
}

func TestDeclarationNames(t *testing.T) {
	text := []byte("unit = \"a.service\"\nuser = \"0\"\nfiles = [\"/a\"]\n")
	for name, ok := range map[string]bool{
		"billing": true, "billing-worker.2_x": true, "9": true,
		"": false, ".hidden": false, "-x": false, "a b": false, "a/b": false, "ä": false, "a\n": false,
		strings.Repeat("a", maxAppName): true, strings.Repeat("a", maxAppName+1): false,
	} {
		if _, err := Parse(name, "f", text, lookupForTest); (err == nil) != ok {
			t.Errorf("name %q: %v, want accepted %v", name, err, ok)
		}
	}
	big := append(text, []byte("#"+strings.Repeat("x", MaxDeclaration))...)
	if _, err := Parse("a", "f", big, lookupForTest); err == nil {
		t.Error("a declaration of more than 64 KiB was read")
	}
}

// FuzzParseDeclaration: no panic, and what is accepted keeps the rules that the rest
// of the package rests on (case 66).
func FuzzParseDeclaration(f *testing.F) {
	f.Add([]byte("unit = \"a.service\"\nuser = \"billing\"\nfiles = [\"/bin/a\"]\n"))
	f.Add([]byte("unit = 'a@b.service'\nuser = '0'\ndirectories = ['/opt/a']\nexclude = ['*.pyc', '/opt/a/[a-z]']\n"))
	f.Add([]byte("[[files]]\n[a.b]\n\"unit\" = 1\nfiles = [[[{a=1}]]]\n"))
	f.Add([]byte("unit.a.b = 1979-05-27T07:32:00Z\n\"\" = +inf\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := Parse("a", "a.toml", b, lookupForTest)
		if err != nil {
			var at *Error
			if !errors.As(err, &at) || at.Problem == "" || at.Line < 0 || at.Line > len(b)+1 {
				t.Fatalf("error without place: %#v", err)
			}
			return
		}
		if d.Digest != sha256.Sum256(b) || len(d.Files)+len(d.Directories) == 0 {
			t.Fatalf("accepted %+v", d)
		}
		if err := errors.Join(checkUnit(d.Unit), CheckText(d.User, 256)); err != nil {
			t.Fatal(err)
		}
		for _, p := range append(append([]string(nil), d.Files...), d.Directories...) {
			if err := checkPath("it is the root")(p); err != nil {
				t.Fatal(err)
			}
		}
		for _, p := range d.Directories {
			if d.Excludes(p) {
				t.Fatalf("declared directory %q is excluded", p)
			}
		}
		_ = fmt.Sprint(d)
	})
}
