// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
)

// files is a manifest of regular files: path, content, mode.
func files(all ...string) pcr.Manifest {
	var out pcr.Manifest
	for _, f := range all {
		path, rest, _ := strings.Cut(f, " ")
		content, mode, _ := strings.Cut(rest, " ")
		e := pcr.ManifestEntry{Path: path, Mode: 0o100644, Size: uint64(len(content)), Digest: evidence.Sum256("test", []byte(content))}
		if mode == "x" {
			e.Mode = 0o100755
		}
		out = append(out, e)
	}
	return out
}

// TestChanges: each file that two manifests have differently is named once, whatever their order
// and number.
func TestChanges(t *testing.T) {
	for _, c := range []struct {
		before, after pcr.Manifest
		want          string
	}{
		{nil, nil, ""},
		{files("/a 1"), files("/a 1"), ""},
		{nil, files("/a 1", "/b 2"), "added /a, added /b"},
		{files("/a 1", "/b 2"), nil, "removed /a, removed /b"},
		{files("/a 1"), files("/a 2"), "changed /a"},
		{files("/a 1"), files("/a 1 x"), "mode /a"},
		{files("/a 1"), files("/a 2 x"), "changed /a"},
		{files("/a 1", "/c 3", "/d 4"), files("/b 2", "/c 5", "/d 4", "/e 6"), "removed /a, added /b, changed /c, added /e"},
	} {
		var got []string
		for _, x := range changes(c.before, c.after) {
			got = append(got, x.Change+" "+x.Path)
			if (x.Before == nil) != (x.Change == "added") || (x.After == nil) != (x.Change == "removed") {
				t.Errorf("%+v", x)
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("from %v to %v: %q, want %q", c.before, c.after, got, c.want)
		}
	}
}

// TestChangedSince: what an upgrade changed is what differs from the version in force at the
// record that was noted, and from the first one if none was.
func TestChangedSince(t *testing.T) {
	var all []measuredApp
	for i, f := range []string{"a 1", "b 1", "a 2", "b 1", "c 1", "a 3", "b 2", "b 1"} {
		app, content, _ := strings.Cut(f, " ")
		m := files("/" + app + " " + content)
		all = append(all, measuredApp{AppEvent: &pcr.AppEvent{App: app, Manifest: m, Digest: pcr.ManifestDigest(m)}, record: uint64(10 * (i + 1))})
	}
	for record, want := range map[uint64]string{0: "a", 10: "a", 30: "a", 60: "", 70: "b", 80: ""} {
		var got []string
		for _, d := range changedSince(all, record) {
			got = append(got, d[1].App)
		}
		if strings.Join(got, ",") != want {
			t.Errorf("since record %d changed %q, want %q", record, got, want)
		}
	}
}

// TestLastTwoVersions: a record of the same files as before is not a version of its own.
func TestLastTwoVersions(t *testing.T) {
	for _, c := range []struct{ recorded, before, after string }{
		{"1 2", "1", "2"}, {"1 2 2 2", "1", "2"}, {"1 2 1", "2", "1"}, {"1 1 2 2 3 3", "2", "3"}, {"1", "", ""}, {"1 1", "", ""}, {"", "", ""},
	} {
		var all []measuredApp
		for _, content := range strings.Fields(c.recorded) {
			m := files("/a " + content)
			all = append(all, measuredApp{AppEvent: &pcr.AppEvent{App: "a", Manifest: m, Digest: pcr.ManifestDigest(m)}})
		}
		before, after, err := pair(all, []string{"a"}, "")
		if (err != nil) != (c.before == "") {
			t.Errorf("%q: %v", c.recorded, err)
		}
		if err == nil && (before.Digest != pcr.ManifestDigest(files("/a "+c.before)) || after.Digest != pcr.ManifestDigest(files("/a "+c.after))) {
			t.Errorf("%q: from %s to %s", c.recorded, before, after)
		}
	}
}

// TestAddDigest: a digest is added to its list and to nothing else, however the policy is
// written, or the policy is left alone with an error.
func TestAddDigest(t *testing.T) {
	const head = "version = 1\n[[launch]]\nmeasurement = \"" + "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d" + "\"\nkind = \"plain\"\ncovers = \"firmware\"\n"
	one, two, added := strings.Repeat("1", 64), strings.Repeat("2", 64), strings.Repeat("a", 64)
	for name, c := range map[string]struct{ tables, want string }{
		"one line":        {"[[app]]\nname = \"b\"\ndigests = [\"1\"] # why\n", "[[app]]\nname = \"b\"\ndigests = [\"a\", \"1\"] # why\n"},
		"lines":           {"[[app]]\nname = \"b\"\ndigests = [\n  \"1\", # first\n]\n", "[[app]]\nname = \"b\"\ndigests = [\n  \"a\",\n  \"1\", # first\n]\n"},
		"before the name": {"[[app]]\ndigests=[\"1\"]\nname=\"b\"\n", "[[app]]\ndigests=[\"a\", \"1\"]\nname=\"b\"\n"},
		"of two":          {"[[app]]\nname = \"a\"\ndigests = [\"2\"]\n\n[[app]]\nname = \"b\"\ndigests = [\"1\"]\n[agent]\nversions = [\"1\"]\n", "[[app]]\nname = \"a\"\ndigests = [\"2\"]\n\n[[app]]\nname = \"b\"\ndigests = [\"a\", \"1\"]\n[agent]\nversions = [\"1\"]\n"},
		"first of two":    {"[[app]]\nname = \"b\"\ndigests = [\"1\"]\n[[app]]\nname = \"a\"\ndigests = [\"2\"]\n", "[[app]]\nname = \"b\"\ndigests = [\"a\", \"1\"]\n[[app]]\nname = \"a\"\ndigests = [\"2\"]\n"},
		"quoted":          {"[[app]]\n\"name\" = 'b'\n\"digests\" = ['1', '2']\n", "[[app]]\n\"name\" = 'b'\n\"digests\" = [\"a\", '1', '2']\n"},
		"a comment first": {"[[app]]\nname = \"b\"\ndigests = [ # those\n  \"1\" ]\n", "[[app]]\nname = \"b\"\ndigests = [\"a\",  # those\n  \"1\" ]\n"},
		"inline":          {"app = [{name = \"b\", digests = [\"1\"]}]\n", ""},
		"other app":       {"[[app]]\nname = \"c\"\ndigests = [\"1\"]\n", ""},
	} {
		fill := strings.NewReplacer("\"1\"", fmt.Sprintf("%q", one), "'1'", "'"+one+"'", "\"2\"", fmt.Sprintf("%q", two), "'2'", "'"+two+"'", "\"a\",", fmt.Sprintf("%q,", added))
		if strings.Contains(c.tables, "versions") {
			fill = strings.NewReplacer("digests = [\"1\"]", fmt.Sprintf("digests = [%q]", one), "\"a\", \"1\"", fmt.Sprintf("%q, %q", added, one), "\"2\"", fmt.Sprintf("%q", two))
		}
		text, want := head+fill.Replace(c.tables), head+fill.Replace(c.want)
		if name == "inline" {
			text = "version = 1\n" + fill.Replace(c.tables) + strings.TrimPrefix(head, "version = 1\n")
		}
		if _, err := verify.ParsePolicy([]byte(text)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got, err := addDigest([]byte(text), "b", "digests", added)
		if c.want == "" {
			if err == nil {
				t.Errorf("%s: gave\n%s", name, got)
			}
			continue
		}
		if err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, want)
		}
		if again, err := addDigest(got, "b", "digests", added); err != nil || string(again) != string(got) {
			t.Errorf("%s: added twice: %v\n%s", name, err, again)
		}
		if both, err := addDigest(got, "b", "declarations", two); err != nil || !strings.Contains(string(both), "declarations = [\""+two+"\"]\n") {
			t.Errorf("%s: declaration: %v\n%s", name, err, both)
		}
	}
	if _, err := addDigest([]byte(head+"[[app]]\nname = \"b\"\ndigests = [\""+one+"\"]\n"), "b", "digests", "AB"); err == nil {
		t.Error("a digest of two digits is added")
	}
}

// TestSuggestedCommands: names in a line that a person copies into a shell are words there. Those
// of applications come from a log that nothing vouches for.
func TestSuggestedCommands(t *testing.T) {
	var out bytes.Buffer
	term := &terminal{out: &out}
	now := &side{Digest: evidence.Digest{0x49, 0xac}}
	term.printUnlisted("my policy.toml", false, []unlisted{{App: "a; reboot", Known: true, Now: now}}, 1)
	term.printChanges([]difference{{App: "$(reboot)", Before: now, After: now}}, nil)
	for _, want := range []string{"--policy 'my policy.toml' --app 'a; reboot'", "--app '$(reboot)' 49ac"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s\nwant %s", &out, want)
		}
	}
}
