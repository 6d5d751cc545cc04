// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// good is a configuration as engines write it, in short.
const good = `{"ociVersion":"1.0.2","process":{"terminal":false,"user":{"uid":1000,"gid":1000,"additionalGids":[5]},"args":["/bin/billing","--x"],
"env":["PATH=/bin","TOKEN=secret"],"cwd":"/","capabilities":{"bounding":["CAP_CHOWN"]},"noNewPrivileges":true,"rlimits":[{"type":"RLIMIT_NOFILE","hard":1024,"soft":1024}]},
"root":{"path":"rootfs"},"hostname":"a","mounts":[{"destination":"/proc","type":"proc","source":"proc"}],
"annotations":{"Args":"not a member of process","io.container.manager":"libpod"},
"linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/run/netns/x"}],"seccomp":{"defaultAction":"SCMP_ACT_ERRNO"},"resources":{"memory":{"limit":9007199254740993}}}}`

func TestParseSpec(t *testing.T) {
	s, err := ParseSpec([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if n, ok := s.Namespace("network"); !ok || n.Path != "/run/netns/x" {
		t.Error(n, ok)
	}
	if n, ok := s.Namespace("pid"); !ok || n.Type != "pid" {
		t.Error(n, ok)
	}
	if n, ok := s.Namespace("user"); ok {
		t.Error(n, ok)
	}
	if got := s.RootPath("/b"); got != "/b/rootfs" {
		t.Error(got)
	}
	if s, err := ParseSpec([]byte(with(`"path":"rootfs"`, `"path":"/mnt/../root"`))); err != nil || s.RootPath("/b") != "/root" {
		t.Error(s, err)
	}
	if s.Process.User.UID != 1000 || s.Process.Args[0] != "/bin/billing" || string(s.Linux.Seccomp) != `{"defaultAction":"SCMP_ACT_ERRNO"}` {
		t.Errorf("%+v", s.Process)
	}
}

// TestLargestConfig: what has as much as it may have is read.
func TestLargestConfig(t *testing.T) {
	for what, config := range map[string]string{
		"root.path":     with(`"path":"rootfs"`, `"path":"/`+strings.Repeat("a", MaxPath-1)+`"`),
		"arguments":     with(`"/bin/billing","--x"`, strings.Repeat(`"a",`, maxList-1)+`"a"`),
		"seccomp":       with(`"SCMP_ACT_ERRNO"`, `"SCMP_ACT_ERRNO","syscalls":["`+strings.Repeat("a", 2*maxList)+`"]`),
		"configuration": with(`"hostname":"a"`, `"hostname":"`+strings.Repeat("a", MaxConfig-len(with(`"hostname":"a"`, `"hostname":""`)))+`"`),
	} {
		if _, err := ParseSpec([]byte(config)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// with returns good with one text replaced by another.
func with(old, new string) string { return strings.Replace(good, old, new, 1) }

// TestHostileConfig: what two runtimes would understand differently, what says nothing of a
// container, and what is too large, is refused by reading and by adding a hook alike.
func TestHostileConfig(t *testing.T) {
	many := strings.Repeat(`"a",`, maxList) + `"a"`
	for what, c := range map[string]struct{ config, want string }{
		"not JSON":                  {`{`, "ends early"},
		"member twice":              {with(`"hostname":"a"`, `"hostname":"a","hostname":"b"`), "hostname"},
		"member twice, unknown":     {with(`"hostname":"a"`, `"x":1,"x":2`), "duplicate"},
		"hooks in another case":     {with(`"hostname":"a"`, `"Hooks":{"createRuntime":[]}`), "another case"},
		"hooks with a long s":       {with(`"hostname":"a"`, `"hookſ":{"createRuntime":[]}`), "another case"},
		"stage in another case":     {with(`"hostname":"a"`, `"hooks":{"createruntime":[]}`), "another case"},
		"args in another case":      {with(`"cwd"`, `"Args":["/bin/sh"],"cwd"`), "process.args"},
		"args in another case, esc": {with(`"cwd"`, `"\u0041rgs":["/bin/sh"],"cwd"`), "process.args"},
		"uid in another case":       {with(`"gid":1000`, `"gid":1000,"UID":0`), "process.user.uid"},
		"no process":                {`{"root":{"path":"x"},"linux":{}}`, "process.args"},
		"no arguments":              {with(`["/bin/billing","--x"]`, `[]`), "process.args"},
		"source in another case":    {with(`"destination":"/proc"`, `"destination":"/proc","Source":"/etc"`), "mounts.source"},
		"neither root nor path":     {`{"process":{"args":["a"]},"linux":{}}`, "root.path"},
		"null root":                 {with(`{"path":"rootfs"}`, `null`), "root.path"},
		"no root":                   {with(`"path":"rootfs"`, `"path":""`), "root.path"},
		"no linux":                  {`{"process":{"args":["a"]},"root":{"path":"x"}}`, "linux is missing"},
		"virtual machine":           {with(`"hostname":"a"`, `"vm":{"kernel":{}}`), "virtual machine"},
		"long root":                 {with(`"path":"rootfs"`, `"path":"/`+strings.Repeat("a", MaxPath)+`"`), "root.path"},
		"many arguments":            {with(`"--x"`, many), "process.args has"},
		"trailing":                  {good + `{}`, "after"},
		"too large":                 {with(`"hostname":"a"`, `"x":"`+strings.Repeat("a", MaxConfig)+`"`), "bytes"},
		"not UTF-8":                 {with(`"hostname":"a"`, "\"hostname\":\"\xff\""), "UTF-8"},
	} {
		if _, err := ParseSpec([]byte(c.config)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if _, _, err := AddHook([]byte(c.config), Hook{Path: "/x"}); err == nil {
			t.Errorf("%s: a hook was added", what)
		}
	}
}

// TestAddHook: the hook comes first, all else is what it was, and adding it again changes nothing.
func TestAddHook(t *testing.T) {
	ours := Hook{Path: "/usr/libexec/agentd/agentd-container", Args: []string{"agentd-container", "hook", "docker"}, Timeout: 1200}
	for what, config := range map[string]string{
		"without hooks":     good,
		"null hooks":        with(`"hostname":"a"`, `"hooks":null,"hostname":"a"`),
		"empty hooks":       with(`"hostname":"a"`, `"hooks":{ },"hostname":"a"`),
		"other stage":       with(`"hostname":"a"`, `"hooks":{"prestart":[{"path":"/p"}]},"hostname":"a"`),
		"empty stage":       with(`"hostname":"a"`, `"hooks":{"createRuntime":[ ]},"hostname":"a"`),
		"null stage":        with(`"hostname":"a"`, `"hooks":{"createRuntime":null},"hostname":"a"`),
		"hook of another":   with(`"hostname":"a"`, `"hooks":{"createRuntime":[{"path":"/o","args":["o"],"x":9007199254740993}]},"hostname":"a"`),
		"hook that is like": with(`"hostname":"a"`, `"hooks":{"createRuntime":[{"path":"/usr/libexec/agentd/agentd-container","args":["agentd-container","hook","podman"]}]},"hostname":"a"`),
		"path of another":   with(`"hostname":"a"`, `"hooks":{"createRuntime":[{"path":"/bin/true","args":["agentd-container","hook","docker"],"timeout":1200}]},"hostname":"a"`),
		"name with escapes": with(`"hostname":"a"`, `"h\u006foks":{"createRuntime":[]},"hostname":"a"`),
	} {
		out, changed, err := AddHook([]byte(config), ours)
		if err != nil || !changed {
			t.Errorf("%s: %v %v", what, changed, err)
			continue
		}
		s, err := ParseSpec(out)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if got := s.Hooks.CreateRuntime[0]; got.Path != ours.Path || !slices.Equal(got.Args, ours.Args) || got.Timeout != ours.Timeout {
			t.Errorf("%s: %+v", what, got)
		}
		before, after := generic(t, config), generic(t, string(out))
		hooks, _ := after["hooks"].(map[string]any)
		list := hooks["createRuntime"].([]any)
		if hooks["createRuntime"] = list[1:]; len(list) == 1 {
			delete(hooks, "createRuntime")
		}
		was, _ := before["hooks"].(map[string]any)
		if was == nil {
			was = map[string]any{}
		}
		maps.DeleteFunc(was, func(_ string, v any) bool { l, _ := v.([]any); return len(l) == 0 })
		before["hooks"] = was
		if !reflect.DeepEqual(before, after) {
			t.Errorf("%s: something else changed:\n%v\n%v", what, before, after)
		}
		if !bytes.Contains(out, []byte("9007199254740993")) {
			t.Errorf("%s: a number lost its last digit", what)
		}
		again, changed, err := AddHook(out, ours)
		if err != nil || changed || !bytes.Equal(again, out) {
			t.Errorf("%s: added twice: %v %v", what, changed, err)
		}
	}
}

func generic(t *testing.T, s string) (out map[string]any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestReadState(t *testing.T) {
	if s, err := ReadState(strings.NewReader(`{"ociVersion":"1.0.2","id":"a1","status":"creating","pid":7,"bundle":"/b","annotations":{"x":"y"},"later":[]}`)); err != nil || s.PID != 7 || s.Bundle != "/b" {
		t.Error(s, err)
	}
	if s, err := ReadState(strings.NewReader(`{"id":"` + strings.Repeat("a", MaxID) + `","status":"created","pid":1}`)); err != nil || s.PID != 1 {
		t.Error(s, err)
	}
	for _, c := range []struct{ state, want string }{
		{``, "ends early"},
		{`{"id":"a","id":"b","status":"creating","pid":7}`, "duplicate"},
		{`{"id":"","status":"creating","pid":7}`, "id of the container"},
		{`{"id":"a\u001b[2J","status":"creating","pid":7}`, "id of the container"},
		{`{"id":"` + strings.Repeat("a", MaxID+1) + `","status":"creating","pid":7}`, "id of the container"},
		{`{"id":"a","status":"creating","pid":0}`, "no pid"},
		{`{"id":"a","status":"creating","pid":-1}`, "no pid"},
		{`{"id":"a","status":"running","pid":7}`, "only while it is created"},
		{`{"id":"a","status":"creating","pid":7} x`, "after"},
		{strings.Repeat(" ", MaxState+1), "more than"},
	} {
		if _, err := ReadState(strings.NewReader(c.state)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: %v, want %q", c.state, err, c.want)
		}
	}
}

// TestOpenBundle: the configuration is read only if no other user can have written it, and through
// no link but those of the path to the bundle.
func TestOpenBundle(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "run", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, ConfigName)
	put := func(mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(config, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(config, mode); err != nil {
			t.Fatal(err)
		}
	}
	put(0o644)
	for link, to := range map[string]string{"abs": "/run", "rel": "run", "out": "../../../../run"} {
		if err := os.Symlink(to, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	top, err := os.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	open := func(path string) error {
		b, err := OpenBundle(top, path)
		if err == nil {
			if string(b.Config) != good {
				t.Errorf("%s: %q", path, b.Config)
			}
			b.Close()
		}
		return err
	}
	for _, path := range []string{"/run/b", "/abs/b", "/rel/b", "/out/b", "/run/b/../b", "/../run/b"} {
		if err := open(path); err != nil {
			t.Error(path, err)
		}
	}
	for _, c := range []struct{ path, want string }{
		{"run/b", "want an absolute path"}, {"", "want an absolute path"}, {"/run/b/config.json", "not a directory"}, {"/none", "no such file"},
		{"/run/b\x00", "want an absolute path"}, {"/" + strings.Repeat("a", MaxPath), "want an absolute path"},
	} {
		if err := open(c.path); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.20q: %v, want %q", c.path, err, c.want)
		}
	}
	refused := func(what, want string) {
		t.Helper()
		if err := open("/run/b"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", what, err, want)
		}
	}
	put(0o664)
	refused("group can write the file", "0664")
	put(0o600)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	refused("others can write the folder", "0777")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(config, 4242, 0); err != nil {
			t.Fatal(err)
		}
		refused("another owner", "uid 4242")
	}
	os.Remove(config)
	if err := unix.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	refused("FIFO", "not a regular file")
	os.Remove(config)
	if err := os.WriteFile(filepath.Join(dir, "other"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("other", config); err != nil {
		t.Fatal(err)
	}
	refused("link", "symbolic links")
	os.Remove(config)
	if err := os.WriteFile(config, make([]byte, MaxConfig+1), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("too large", "more than")
}

// TestLinksOfTheKernel: a link in /proc that leads to a folder of a process is not followed.
func TestLinksOfTheKernel(t *testing.T) {
	top, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer top.Close()
	for _, path := range []string{"/proc/self/cwd", "/proc/self/root/proc"} {
		if f, err := In(top, path, unix.O_PATH|unix.O_DIRECTORY); !errors.Is(err, unix.ELOOP) {
			t.Errorf("%s: %v, %v", path, f, err)
		}
	}
}

// TestHookFits: a configuration that the agent would not read with the hook gets none.
func TestHookFits(t *testing.T) {
	room := MaxConfig - len(with(`"hostname":"a"`, `"hostname":""`))
	if _, _, err := AddHook([]byte(with(`"hostname":"a"`, `"hostname":"`+strings.Repeat("a", room)+`"`)), Hook{Path: "/ours"}); err == nil || !strings.Contains(err.Error(), "with the hook") {
		t.Error(err)
	}
	small, _, err := AddHook([]byte(with(`"hostname":"a"`, `"hostname":""`)), Hook{Path: "/ours"})
	if err != nil {
		t.Fatal(err)
	}
	room = MaxConfig - len(small)
	if out, _, err := AddHook([]byte(with(`"hostname":"a"`, `"hostname":"`+strings.Repeat("a", room)+`"`)), Hook{Path: "/ours"}); err != nil || len(out) != MaxConfig {
		t.Error(len(out), err)
	}
}

// FuzzAddHook: whatever the configuration is, a hook is either not added, or is the first that a
// runtime runs, which reads as encoding/json does.
func FuzzAddHook(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(with(`"hostname":"a"`, `"hooks":{"createRuntime":[{"path":"/o"}]},"Hostname":"a"`)))
	f.Fuzz(func(t *testing.T, config []byte) {
		out, _, err := AddHook(config, Hook{Path: "/ours", Args: []string{"a"}})
		if err != nil {
			return
		}
		var s struct {
			Hooks struct {
				CreateRuntime []struct {
					Path string `json:"path"`
				} `json:"createRuntime"`
			} `json:"hooks"`
		}
		if err := json.Unmarshal(out, &s); err != nil {
			t.Fatal(err)
		}
		for _, h := range s.Hooks.CreateRuntime {
			if h.Path == "/ours" {
				return
			}
		}
		t.Fatalf("no hook of ours in %s", out)
	})
}
