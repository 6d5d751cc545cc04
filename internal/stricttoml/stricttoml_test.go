// SPDX-License-Identifier: Apache-2.0

package stricttoml_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/cvm-agentd/agentd/internal/stricttoml"
)

const limit = 4 << 20

type span time.Duration

func (s *span) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	*s = span(d)
	return err
}

type document struct {
	Version *int64   `toml:"version"`
	Strict  bool     `toml:"strict"`
	Span    span     `toml:"span"`
	Names   []string `toml:"names"`
	Levels  *[]int64 `toml:"levels"`
	Empty   struct{} `toml:"empty"`
	App     []struct {
		Name    string   `toml:"name"`
		Digests []string `toml:"digests"`
		Part    []struct {
			Size uint32 `toml:"size"`
		} `toml:"part"`
		User struct {
			Name string `toml:"name"`
		} `toml:"user"`
	} `toml:"app"`
	TCB map[string]struct {
		Floor map[string]int64 `toml:"floor"`
	} `toml:"tcb"`
	Embedded
	Untagged string
}

// Embedded is part of the table around it.
type Embedded struct {
	Note string `toml:"note,omitempty"`
}

const text = `# a comment
version = 1
names = ["a", # the first
  "b"]
"span" = '2s'

[[app]]
name = "x"
digests = ["00", "01"]
user.name = "u"
[[app.part]]
size = 1
[[app.part]]
size = 2
[app.user]
[[app]]
  name = "y"
part = [{size = 3}]
[tcb.genoa]
floor = { snp = 1, tee = 2 }
`

func TestDecode(t *testing.T) {
	var d document
	d.Names = []string{"default"}
	d.Strict = true
	good := strings.Replace(text, "[app.user]\n", "", 1)
	places, err := stricttoml.Decode([]byte(good), limit, &d)
	if err != nil {
		t.Fatal(err)
	}
	if *d.Version != 1 || !d.Strict || d.Span != span(2*time.Second) || len(d.Names) != 2 || d.Levels != nil || len(d.App) != 2 ||
		d.App[0].Part[1].Size != 2 || d.App[1].Part[0].Size != 3 || d.App[0].User.Name != "u" || d.TCB["genoa"].Floor["tee"] != 2 {
		t.Errorf("got %+v", d)
	}
	for path, want := range map[string]stricttoml.Place{
		"version": {2, 1}, "names": {3, 1}, "names[0]": {3, 10}, "names[1]": {4, 3}, "span": {5, 1},
		"app": {7, 3}, "app[0]": {7, 3}, "app[0].name": {8, 1}, "app[0].digests[1]": {9, 18}, "app[0].user": {10, 1}, "app[0].user.name": {10, 6},
		"app[0].part[0]": {11, 7}, "app[0].part[1].size": {14, 1},
		"app[1]": {15, 3}, "app[1].name": {16, 3}, "app[1].part[0].size": {17, 10},
		"tcb": {18, 2}, "tcb.genoa": {18, 6}, "tcb.genoa.floor.tee": {19, 20},
	} {
		if !places.Given(path) || places.At(path) != want {
			t.Errorf("%s: given %v at %v, want %v", path, places.Given(path), places.At(path), want)
		}
	}
	for path, want := range map[string]stricttoml.Place{"app[1].digests[7]": {15, 3}, "names[1].x": {4, 3}, "levels": {}, "": {}} {
		if places.Given(path) || places.At(path) != want {
			t.Errorf("%s: given %v at %v, want %v", path, places.Given(path), places.At(path), want)
		}
	}
	if err := places.Errorf("app[0].digests[1]", "%d bytes", 1); err.Error() != "line 9, column 18: app[0].digests[1]: 1 bytes" ||
		err.In("a.toml") != "a.toml:9:18: app[0].digests[1]: 1 bytes" {
		t.Errorf("got %v, %v", err, err.In("a.toml"))
	}
	if err := places.Errorf("levels", "missing"); err.Error() != "levels: missing" || err.In("a.toml") != "a.toml: levels: missing" {
		t.Errorf("got %v", err)
	}
}

func TestEmpty(t *testing.T) {
	for s, want := range map[string]bool{"": true, "# nothing\n\n": true, "[empty]": false, "app = []": false} {
		places, err := stricttoml.Decode([]byte(s), limit, new(document))
		if err != nil || places.Empty() != want {
			t.Errorf("%q: %v, empty %v", s, err, !want)
		}
	}
}

func TestRefused(t *testing.T) {
	long := strings.Repeat("a", stricttoml.MaxKey+1)
	for _, c := range []struct {
		name, text   string
		line, column int
		key, message string
	}{
		{"size", strings.Repeat("#", limit+1), 0, 0, "", "4194305 bytes, at most 4194304 are read"},
		{"UTF-8", "version = 1\n# \xff", 2, 3, "", "invalid UTF-8"},
		{"syntax", "version = 1\nstrict = \n", 2, 10, "", "unexpected character"},
		{"incomplete array", "names = [\n", 1, 10, "", "incomplete"},
		{"nested too deep", "names = " + strings.Repeat("[", 1<<20), 1, 10009, "", "nested"},
		{"unknown key", "nam = 1", 1, 1, "nam", "unknown key: want version, strict"},
		{"unknown table", "[ap]", 1, 2, "ap", "unknown key"},
		{"unknown array of tables", "[[ap]]", 1, 3, "ap", "unknown key"},
		{"unknown key of a table", "[[app]]\n[[app]]\nnam = 1", 3, 1, "app[1].nam", "unknown key: want name, digests, part, user"},
		{"unknown key of an inline table", "app = [{name = 'a'}, {nam = 'a'}]", 1, 23, "app[1].nam", "unknown key"},
		{"unknown key of no keys", "empty.a = 1", 1, 7, "empty.a", "unknown key"},
		{"field without a tag", "Untagged = 'a'", 1, 1, "Untagged", "lower case"},
		{"name of such a field", "untagged = 'a'", 1, 1, "untagged", "unknown key"},
		{"upper case", "Version = 1", 1, 1, "Version", "lower case"},
		{"upper case in a map", "[tcb.Genoa]", 1, 6, "tcb.Genoa", "lower case"},
		{"quoted path", `"app[0]" = 1`, 1, 1, "app[0]", "unknown key"},
		{"quoted path in a map", `[tcb."a.b"]`, 1, 6, "tcb.a.b", "unknown key"},
		{"empty key", `tcb."" = 1`, 1, 5, "tcb.", "unknown key"},
		{"long key", "tcb." + long + ".floor.a = 1", 1, 5, "tcb." + long, "unknown key"},
		{"key below a value", "version.a = 1", 1, 9, "version.a", "not a table"},
		{"key below an array", "app.name = 'a'", 1, 5, "app.name", "not a table"},
		{"table below an array that is none", "[app.user]", 1, 6, "app.user", "not a table"},
		{"table below an inline array", "app = [{name = 'a'}]\n[app.user]", 2, 6, "app.user", "not a table"},
		{"key twice", "version = 1\nversion = 1", 2, 0, "", "already"},
		{"key twice in an inline table", "app = [{name = 'a', name = 'b'}]", 1, 0, "", "already"},
		{"key twice in a map", "[tcb.a]\nfloor = {b = 1, b = 2}", 2, 0, "", "already"},
		{"table twice", "[tcb.a]\n[tcb.a]", 2, 0, "", "already"},
		{"dotted key twice", "[[app]]\nuser.name = 'a'\n[app.user]\nname = 'a'", 3, 0, "", ""},
		{"array and tables", "app = []\n[[app]]", 2, 0, "", ""},
		{"number for text", "names = ['a', 2]", 1, 15, "names[1]", "want a string in quotes"},
		{"text for a span", "span = 2", 1, 8, "span", "want a string in quotes"},
		{"span that is none", "span = '2'", 1, 0, "", "missing unit"},
		{"text for a number", "version = '1'", 1, 11, "version", "want a whole number"},
		{"fraction for a number", "version = 1.0", 1, 11, "version", "want a whole number"},
		{"number too large", "version = 9223372036854775808", 1, 0, "", ""},
		{"number too large for the field", "app = [{part = [{size = 4294967296}]}]", 1, 0, "", ""},
		{"negative", "app = [{part = [{size = -1}]}]", 1, 0, "", ""},
		{"number for truth", "strict = 1", 1, 10, "strict", "want true or false"},
		{"text for a list", "names = 'a'", 1, 9, "names", "want a list of strings"},
		{"number for a list", "levels = 1", 1, 10, "levels", "want a list of whole numbers"},
		{"list in a list", "names = [['a']]", 1, 0, "names[0]", "want a string in quotes"},
		{"table for a list", "[names]", 1, 2, "names", "want a list of strings"},
		{"tables for a list", "[[names]]", 1, 3, "names", "want a list of strings"},
		{"table for tables", "[app]", 1, 2, "app", "want a list"},
		{"tables for a table", "[[tcb]]", 1, 3, "tcb", "want a table"},
		{"value for a table", "tcb = 1", 1, 7, "tcb", "want a table"},
		{"value for tables", "app = [1]", 1, 8, "app[0]", "want a table"},
		{"many keys", "[tcb]\n" + lines(stricttoml.MaxTableKeys+1, "k%d = {}\n"), 258, 1, "tcb.k257", "more than 256"},
		{"many dotted keys", lines(stricttoml.MaxTableKeys+1, "tcb.k%d.floor.a = 1\n"), 257, 5, "tcb.k257", "more than 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := stricttoml.Decode([]byte(c.text), limit, new(document))
			var e *stricttoml.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if e.Line != c.line || c.column > 0 && e.Column != c.column || e.Key != c.key && c.column > 0 || !strings.Contains(e.Message, c.message) {
				t.Errorf("got %d:%d %q: %q\nwant %d:%d %q: %q", e.Line, e.Column, e.Key, e.Message, c.line, c.column, c.key, c.message)
			}
		})
	}
}

// TestUnknownType: a struct that the package cannot read fails in the first test that uses it.
func TestUnknownType(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a float was taken")
		}
	}()
	var v struct {
		F float64 `toml:"f"`
	}
	_, _ = stricttoml.Decode(nil, limit, &v)
}

// lines is a format with the numbers from 1 to n.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i+1)
	}
	return b.String()
}

// FuzzDecode: no panic; what is refused has a place in the text; what is accepted reads the
// same without us.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(text))
	f.Add([]byte("[[app]]\n[app.user]\n[[app.part]]\n\"size\" = 0x1_0\n"))
	f.Add([]byte("tcb.a.floor = {b = 1979-05-27T07:32:00Z}\n\"\" = +inf\nempty = {}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ours, theirs document
		places, err := stricttoml.Decode(b, limit, &ours)
		if err != nil {
			var e *stricttoml.Error
			if !errors.As(err, &e) || e.Message == "" || e.Line < 0 || e.Line > strings.Count(string(b), "\n")+1 || e.Line > 0 && e.Column < 1 {
				t.Fatalf("error without a place: %#v", err)
			}
			return
		}
		if err := toml.Unmarshal(b, &theirs); err != nil || !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%v: %+v, %+v", err, ours, theirs)
		}
		if places.Given("version") != (ours.Version != nil) {
			t.Fatalf("version given: %v", places.Given("version"))
		}
	})
}

// TestEmbedded: the keys of an embedded struct are keys of the table around it.
func TestEmbedded(t *testing.T) {
	var d document
	places, err := stricttoml.Decode([]byte("note = 'n'"), limit, &d)
	if err != nil || d.Note != "n" || !places.Given("note") {
		t.Errorf("%v: %q", err, d.Note)
	}
	if _, err := stricttoml.Decode([]byte("embedded = {}"), limit, &d); err == nil {
		t.Error("the name of an embedded struct is a key")
	}
}
