// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// commands calls f with every command of agentctl and the words that lead to it.
func commands(t *testing.T, f func(words []string, c *cobra.Command)) {
	t.Helper()
	n := 0
	var walk func(words []string, c *cobra.Command)
	walk = func(words []string, c *cobra.Command) {
		for _, below := range c.Commands() {
			w := append(append([]string{}, words...), below.Name())
			n++
			f(w, below)
			walk(w, below)
		}
	}
	walk(nil, newRoot(&terminal{out: new(bytes.Buffer), err: new(bytes.Buffer)}, &sockets{}))
	if n < 40 {
		t.Errorf("%d commands", n)
	}
}

// TestOnePageForEachCommand: each command has a page of its own, which begins with its own
// usage, names every flag, and ends with an example of itself. `help` prints the same, and
// the page above lists it. A shell is offered it.
func TestOnePageForEachCommand(t *testing.T) {
	pages := map[string]string{}
	commands(t, func(words []string, c *cobra.Command) {
		name := strings.Join(words, " ")
		code, page, stderr := agentctl(t, append(words, "--help")...)
		if code != exitOK || stderr != "" {
			t.Fatalf("%s --help: exit code %d, %s", name, code, stderr)
		}
		if !strings.HasPrefix(page, "Usage: agentctl "+name+" ") {
			t.Errorf("%s: the page begins with %.60q", name, page)
		}
		if other, taken := pages[page]; taken {
			t.Errorf("%s has the page of %s", name, other)
		}
		pages[page] = name
		if _, help, _ := agentctl(t, append([]string{"help"}, words...)...); help != page {
			t.Errorf("help %s prints another page", name)
		}
		if !regexp.MustCompile(`(?m)^Examples?:\n(  .*\n)*  (.* )?agentctl ` + name).MatchString(page) {
			t.Errorf("%s: no example of it", name)
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(page, "--"+f.Name) {
				t.Errorf("%s: the page does not name --%s", name, f.Name)
			}
		})
		_, above, _ := agentctl(t, append(words[:len(words)-1:len(words)-1], "--help")...)
		if !regexp.MustCompile(`(?m)^  ` + words[len(words)-1] + ` `).MatchString(above) {
			t.Errorf("%s: the page above does not list it", name)
		}
		if s := c.Short; s == "" || strings.ContainsAny(s, "\n\t") || len(s) > 120 {
			t.Errorf("%s: a shell shows %q beside it", name, s)
		}
		_, offered, _ := agentctl(t, append(append([]string{"__completeNoDesc"}, words[:len(words)-1]...), "")...)
		if !strings.Contains("\n"+offered, "\n"+words[len(words)-1]+"\n") {
			t.Errorf("%s: a shell is not offered it", name)
		}
	})
}

// TestFlagsAreDescribed: a shell shows beside each flag, of every command and all commands, the first
// clause of what the help says of it.
func TestFlagsAreDescribed(t *testing.T) {
	commands(t, func(words []string, c *cobra.Command) {
		name := strings.Join(words, " ")
		_, offered, _ := agentctl(t, append(append([]string{"__complete"}, words...), "--")...)
		for line := range strings.Lines(offered) {
			flag, says, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			if !strings.HasPrefix(flag, "--") {
				continue
			}
			if len(says) < 4 || len(says) > 120 || strings.Count(says, "(") != strings.Count(says, ")") || strings.ContainsAny(says, "$`") {
				t.Errorf("%s %s: a shell shows %q beside it", name, flag, says)
			}
		}
		n := strings.Count(offered, "\n--") // all but the first
		if flags := 0; name != "help" && name != "completion" {
			c.Flags().VisitAll(func(*pflag.Flag) { flags++ })
			if n+1 < flags {
				t.Errorf("%s: %d flags are offered, want %d", name, n+1, flags)
			}
		}
	})
}

// TestUnknownCommand: a name that is none is refused, with a similar one if there is, at every place
// and whatever flags are around it. What it would ask of a command is not looked at.
func TestUnknownCommand(t *testing.T) {
	for _, flags := range [][2][]string{
		{}, {nil, {"--help"}}, {nil, {"-h"}}, {nil, {"--version"}}, {nil, {"--policy", "p.toml"}}, {nil, {"--json=false", "more", "words"}},
		{{"--socket", "/x"}, {"--help"}}, {{"--json=false"}, {"--bogus"}},
	} {
		for _, c := range []struct {
			words []string
			near  string
		}{
			{[]string{"verfy"}, "agentctl verify"}, {[]string{"statsu"}, "agentctl status"}, {[]string{"foo"}, ""},
			{[]string{"app", "lst"}, "agentctl app list"}, {[]string{"key", "rotat"}, "agentctl key rotate"}, {[]string{"policy", "zzzzzzz"}, ""},
		} {
			args := append(append(append([]string{}, flags[0]...), c.words...), flags[1]...)
			code, stdout, stderr := agentctl(t, args...)
			want := fmt.Sprintf("unknown command %q", c.words[len(c.words)-1])
			if code != exitMisuse || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, "did you mean") != (c.near != "") || !strings.Contains(stderr, c.near) {
				t.Errorf("%q: exit code %d, want %q and %q\n%s%s", args, code, want, c.near, stdout, stderr)
			}
		}
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {"app", "--help"}, {"--version"}, {"help", "app"}, {"verify", "file", "--help"}} {
		if code, stdout, stderr := agentctl(t, args...); code != exitOK || stdout == "" {
			t.Errorf("%q: exit code %d\n%s", args, code, stderr)
		}
	}
}

// TestOfferedWords: after TAB come the words that fit: units, applications, secrets, and
// names that a shell would expand never.
func TestOfferedWords(t *testing.T) {
	image := t.TempDir()
	write(t, image, map[string]string{
		"etc/systemd/system/a.service":                        "[Service]\nExecStart=/bin/a\n",
		"usr/lib/systemd/system/b@.service":                   "[Service]\nExecStart=/bin/b\n",
		"usr/lib/systemd/system/c.service":                    "[Service]\nExecStart=/bin/c\n",
		"usr/lib/systemd/system/d.socket":                     "[Socket]\n",
		"etc/systemd/system/c.service.d/50-agentd.conf":       "# Written by `agentctl app enable`.\n",
		"etc/agentd/apps.d/first.toml":                        "unit = \"a.service\"\nuser = \"root\"\nfiles = [\"/bin/a\"]\n",
		"etc/agentd/apps.d/second.toml":                       "unit = \"c.service\"\nuser = \"root\"\nfiles = [\"/bin/c\"]\n",
		"etc/agentd/apps.d/broken.toml":                       "unit = ",
		"etc/systemd/system/$(touch pwned).service":           "[Service]\n",
		"etc/systemd/system/`touch pwned`.service.d/x":        "",
		"etc/systemd/system/x y.service.d/50-agentd.conf":     "",
		"usr/local/lib/systemd/system/local.service":          "[Service]\n",
		"usr/lib/systemd/system/sub.service.wants/no.service": "",
	})
	root := "--root=" + image
	agent := fakeAgent(t, map[string]answer{
		"/v1/apps":  {200, `{"apps":[{"name":"billing","state":"measured"},{"name":"web","state":"pending"}]}`},
		"/v1/store": {200, `{"status":{"state":"ok"},"blobs":[{"app":"billing","kind":"secret","name":"token"},{"app":"web","kind":"secret","name":"cookie"},{"app":"web","kind":"secret","name":"$(id)"},{"app":"web","kind":"root"}]}`},
	})
	admin := "--admin=" + agent
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"app", "add", root, ""}, "a.service b@.service c.service local.service"},
		{[]string{"app", "add", root, "l"}, "local.service"},
		{[]string{"app", "add", root, "a.service", ""}, ""},
		{[]string{"app", "enable", root, ""}, "a.service c.service"},
		{[]string{"app", "disable", root, ""}, "c.service"},
		{[]string{"app", "enable", root, "--admin=/none", "--app", ""}, "first second"},
		{[]string{"app", "show", admin, ""}, "billing web"},
		{[]string{"measure", admin, "--app", ""}, "billing web"},
		{[]string{"measure", admin, ""}, ""},
		{[]string{"key", "show", admin, ""}, "billing web"},
		{[]string{"key", "show", admin, "billing", ""}, "token"},
		{[]string{"key", "show", admin, "web", ""}, "cookie"},
		{[]string{"key", "rotate", admin, "b"}, "billing"},
		{[]string{"verify", "--format", ""}, "json junit text"},
		{[]string{"policy", "check", "--format", "j"}, "json junit"},
		{[]string{"policy", "launch", "--vmm", ""}, "ec2 gce qemu"},
		{[]string{"policy", "launch", "--cpu", "EPYC-G"}, "EPYC-Genoa EPYC-Genoa-v1 EPYC-Genoa-v2"},
		{[]string{"export", "--format", ""}, "cmw-cbor cmw-json files gotpm"},
		{[]string{"key", "authorize", admin, "--app", ""}, "billing web"},
		{[]string{"unseal", admin, "--name", ""}, "cookie token"},
		{[]string{"seal", admin, "--name", "t"}, "token"},
		{[]string{"log", "--format", ""}, "cel-json cel-tlv text"},
		{[]string{"export", "--format", ""}, "cmw-cbor cmw-json files gotpm"},
		{[]string{"completion", ""}, "bash fish zsh"},
		{[]string{"help", "key", "rot"}, "rotate rotate-store-key"},
	} {
		code, stdout, stderr := agentctl(t, append([]string{"__completeNoDesc"}, c.args...)...)
		words, directive, _ := strings.Cut(stdout, ":")
		if got := strings.Join(strings.Fields(words), " "); code != exitOK || got != c.want || !strings.HasPrefix(directive, "4") {
			t.Errorf("%v: exit code %d, %q, directive %s, want %q\n%s", c.args, code, got, directive, c.want, stderr)
		}
	}
}

// TestNoLibraryWords: an error about a file says what is wrong with it in our words.
func TestNoLibraryWords(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"twice.json": `{"type":"x","type":"y"}`, "half.json": `{"type":`, "other.json": `{"no":1}`, "list.json": `[]`, "number.json": `{"type":1}`,
		"binary": "\x00\x01\x02", "text": "hello\n", "empty": "", "app.toml": "unit = 3\n", "page.html": "<!DOCTYPE html>\n<html></html>\n",
	})
	t.Chdir(dir)
	words := regexp.MustCompile(`(^|[^.\w])json: |jsontext|strictjson|\bGo (value|type|[a-z]+\.)|unmarshal|asn1: |time: |strconv\.|pflag|cobra|reflect|\*\w+\.\w+`)
	for _, file := range []string{"twice.json", "half.json", "other.json", "list.json", "number.json", "binary", "text", "empty", "page.html", "app.toml", "missing", "."} {
		for _, command := range []string{
			"show", "export --out out", "collateral fetch --dir dir", "policy explain", "policy check --policy app.toml", "policy init --from",
			"policy enrolment", "policy ek-roots", "policy reference", "policy launch --vcpus 1 --cpu EPYC --firmware", "policy id-block check --auth other.json --block", "policy id-block create --measurement 00 --block b --auth a --id-key", "enroll challenge --keep kept", "enroll activate", "enroll finish --kept",
			"verify --accept-replay --policy", "verify --accept-replay --snp-report", "verify --accept-replay --azure-hcl", "key recover --recipient age1 --identity",
			"attest --nonce 00000000000000000000000000000000 --public-key", "log --start", "key derive --label x --length", "status --wait", "key retire x",
		} {
			args := append(strings.Fields(command), file)
			if code, _, stderr := agentctl(t, append(args, "--socket", "none", "--admin", "none")...); code == exitOK || words.MatchString(stderr) {
				t.Errorf("%v: exit code %d, %q", args, code, stderr)
			}
		}
	}
}

// write writes files into a folder, with the folders above them.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
