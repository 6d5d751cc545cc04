// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/oci"
)

// asProgram has the test binary be the program.
const asProgram = "AGENTD_CONTAINER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) == "1" {
		os.Unsetenv(asProgram)
		main()
		return
	}
	if os.Getenv(asRuntime) == "1" {
		beRuntime()
		return
	}
	os.Exit(m.Run())
}

// program runs the program with the name it is started by and its arguments.
func program(t *testing.T, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = args
	cmd.Env = []string{asProgram + "=1", "KEPT=1"}
	cmd.Stdin = strings.NewReader(in)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	if err := cmd.Run(); err != nil {
		if _, ok := errors.AsType[*exec.ExitError](err); !ok {
			t.Fatal(err)
		}
	}
	return o.String(), e.String(), cmd.ProcessState.ExitCode()
}

// agentAt answers requests as the agent would, with status and body, and tells what was asked.
func agentAt(t *testing.T, status int, body string) (socket string, asked chan api.ContainerRequest) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "a")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan api.ContainerRequest, 1)
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var got api.ContainerRequest
		b, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(b, &got)
		}
		if err != nil || r.Method != "POST" || r.URL.Path != "/v1/containers" {
			t.Errorf("%s %s %s %v", r.Method, r.URL, b, err)
		}
		asked <- got
		w.Header().Set("Content-Type", api.ProblemType)
		if status == 200 {
			w.Header().Set("Content-Type", "application/json")
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return socket, asked
}

const state = `{"ociVersion":"1.0.2","id":"4f1c","status":"creating","pid":4711,"bundle":"/b"}`

// TestHook: the container starts exactly if the agent says so; otherwise the reason is on standard
// error, in one line, for the engine to show.
func TestHook(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers of users without privileges are passed over")
	}
	if unprivileged, err := rootless("/proc/self/uid_map"); err != nil || unprivileged {
		t.Skip("needs the first user namespace")
	}
	socket, asked := agentAt(t, 200, `{"engine":"podman","id":"4f1c","recorded":true}`)
	out, errs, code := program(t, state, "agentd-container", "hook", "--admin-socket", socket, "podman")
	if code != 0 || out != "" || errs != "" {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if got := <-asked; got != (api.ContainerRequest{Engine: "podman", ID: "4f1c", PID: 4711, Bundle: "/b"}) {
		t.Errorf("%+v", got)
	}
	crio := strings.TrimSuffix(state, "}") + `,"annotations":{"io.container.manager":"cri-o"}}`
	program(t, crio, "agentd-container", "hook", "--admin-socket", socket, "podman")
	if got := <-asked; got.Engine != criO {
		t.Errorf("%+v", got)
	}

	refusing, _ := agentAt(t, 422, `{"type":"about:blank","title":"x","status":422,"code":"container-root","detail":"/etc/\u001b[2Jx cannot be read"}`)
	throttling, _ := agentAt(t, 429, `{"type":"about:blank","title":"x","status":429,"code":"throttled","detail":"too often","retryAfter":42}`)
	for what, c := range map[string]struct{ in, socket, want string }{
		"too often":    {state, throttling, "start it again in 42 s"},
		"refused":      {state, refusing, "container-root"},
		"agent away":   {state, filepath.Join(t.TempDir(), "none"), "agentd.service"},
		"no state":     {"", socket, "does not start"},
		"other stage":  {strings.Replace(state, "creating", "running", 1), socket, "only while it is created"},
		"state twice":  {state + state, socket, "does not start"},
		"state is big": {strings.Repeat(" ", oci.MaxState+1), socket, "does not start"},
	} {
		out, errs, code := program(t, c.in, "agentd-container", "hook", "--admin-socket", c.socket, "podman")
		if code != 1 || out != "" || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "\x1b") {
			t.Errorf("%s: %d %q %q, want %q", what, code, out, errs, c.want)
		}
	}
}

// TestRootless: an engine of a user without privileges is told by its user namespace.
func TestRootless(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	for content, want := range map[string]bool{
		"         0          0 4294967295\n":               false,
		"         0       1000          1\n":               true,
		"0 1000 1\n1 100000 65536\n":                       true,
		"         0          0 4294967294\n":               true,
		"":                                                 true,
		"0 0 4294967295\n1 1 1\n":                          true,
		"         0          0          1 4294967295   \n": true,
	} {
		file := filepath.Join(t.TempDir(), "uid_map")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := rootless(file); err != nil || got != want {
			t.Errorf("%q: %v %v", content, got, err)
		}
	}
}

// minimal is a configuration that is measured.
const minimal = `{"process":{"args":["/x"]},"root":{"path":"r"},"linux":{}}`

// bundle makes a bundle with a configuration.
func bundle(t *testing.T, config string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, oci.ConfigName), []byte(config), 0o640); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, oci.ConfigName))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// echo is a runtime that tells its arguments and that it has the environment.
func echo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "runtime")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$KEPT|$*\"\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestRuntime: only a command that makes a container changes its configuration. The runtime has the
// same arguments and environment, and its exit code is that of the engine's child.
func TestRuntime(t *testing.T) {
	runtime := echo(t)
	for _, c := range []struct {
		args  []string // of the runtime; B is the bundle
		makes bool
	}{
		{[]string{"create", "--bundle", "B", "--pid-file", "/p", "id"}, true},
		{[]string{"create", "--bundle=B", "id"}, true},
		{[]string{"create", "-b", "B", "id"}, true},
		{[]string{"--root", "/r", "--log=/l", "--log-format", "json", "--systemd-cgroup", "create", "--bundle", "B", "id"}, true},
		{[]string{"--log", "start", "run", "--bundle", "B", "id"}, true},
		{[]string{"create", "--pid-file", "--bundle", "--bundle", "B", "--console-socket", "/s", "--preserve-fds=3", "id"}, true},
		{[]string{"--root", "create", "start", "id"}, false},
		{[]string{"--root", "create", "state", "--bundle", "B", "id"}, false},
		{[]string{"start", "id"}, false},
		{[]string{"exec", "--process", "/p", "create"}, false},
		{[]string{"delete", "--force", "id"}, false},
		{[]string{"update", "--resources", "-", "id"}, false},
		{[]string{"--version"}, false},
		{[]string{"features"}, false},
		{[]string{"--new-flag", "x", "features"}, false},
		{nil, false},
	} {
		dir := bundle(t, minimal)
		args := slices.Clone(c.args)
		for n := range args {
			args[n] = strings.Replace(args[n], "B", dir, 1)
		}
		out, errs, code := program(t, "", append([]string{"agentd-container", "runtime", "--admin-socket", "/a", "docker", runtime}, args...)...)
		if want := "1|" + strings.Join(args, " ") + "\n"; code != 7 || out != want || errs != "" {
			t.Errorf("%q: %d %q %q, want %q", args, code, out, errs, want)
		}
		config := read(t, dir)
		if !c.makes {
			if config != minimal {
				t.Errorf("%q changed the configuration to %s", args, config)
			}
			continue
		}
		s, err := oci.ParseSpec([]byte(config))
		if err != nil || s.Hooks == nil || len(s.Hooks.CreateRuntime) != 1 {
			t.Errorf("%q: %v %s", args, err, config)
			continue
		}
		self, err := os.Readlink("/proc/self/exe")
		if h := s.Hooks.CreateRuntime[0]; err != nil || h.Path != self || !slices.Equal(h.Args, []string{"agentd-container", "hook", "--admin-socket", "/a", "docker"}) {
			t.Errorf("%q: %+v %v", args, h, err)
		}
		if info, err := os.Stat(filepath.Join(dir, oci.ConfigName)); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%q: mode %v %v", args, info.Mode(), err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("%q left %v %v", args, names, err)
		}
	}
}

// TestRuntimeRefuses: a container that cannot get the hook does not start, and its configuration
// stays as it is.
func TestRuntimeRefuses(t *testing.T) {
	runtime := echo(t)
	for what, c := range map[string]struct {
		config string
		args   []string
		want   string
	}{
		"two bundles":        {minimal, []string{"create", "--bundle", "B", "--bundle", "B", "id"}, "two bundles"},
		"another file":       {minimal, []string{"run", "--bundle", "B", "--config", "/x", "id"}, "--config"},
		"another file, -f":   {minimal, []string{"run", "-f", "/x", "--bundle", "B", "id"}, "-f"},
		"joined":             {minimal, []string{"run", "-bB", "id"}, "ambiguous"},
		"shortened":          {minimal, []string{"create", "--bun", "B", "id"}, "ambiguous"},
		"shortened, joined":  {minimal, []string{"create", "--b=B", "id"}, "ambiguous"},
		"value, shortened":   {minimal, []string{"create", "--pid", "--bundle", "--bundle", "B", "id"}, "ambiguous"},
		"file, shortened":    {minimal, []string{"run", "--bundle", "B", "--conf", "/x", "id"}, "ambiguous"},
		"no value":           {minimal, []string{"run", "--bundle"}, "no value"},
		"unknown flag":       {minimal, []string{"--new-flag", "x", "create", "--bundle", "B", "id"}, "not known"},
		"hostile":            {`{"hooks":{},"Hooks":{},"process":{"args":["/x"]},"root":{"path":"r"},"linux":{}}`, []string{"create", "--bundle", "B", "id"}, "another case"},
		"not JSON":           {`x`, []string{"create", "--bundle", "B", "id"}, "config.json"},
		"no such bundle":     {minimal, []string{"create", "--bundle", "/none", "id"}, "bundle"},
		"too large to parse": {strings.Repeat(" ", oci.MaxConfig+1), []string{"create", "--bundle", "B", "id"}, "bytes"},
	} {
		dir := bundle(t, c.config)
		args := slices.Clone(c.args)
		for n := range args {
			args[n] = strings.Replace(args[n], "B", dir, 1)
		}
		out, errs, code := program(t, "", append([]string{"agentd-container", "runtime", "docker", runtime}, args...)...)
		if code != 1 || out != "" || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %q %q, want %q", what, code, out, errs, c.want)
		}
		if got := read(t, dir); got != c.config {
			t.Errorf("%s: configuration is now %.200s", what, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		want invocation
		err  string
	}{
		{"/usr/libexec/agentd/docker-runc create --bundle b id", invocation{engine: "docker", runtime: "runc", args: []string{"create", "--bundle", "b", "id"}}, ""},
		{"containerd-crun --version", invocation{engine: "containerd", runtime: "crun", args: []string{"--version"}}, ""},
		{"agentd-container hook podman", invocation{hook: true, engine: "podman"}, ""},
		{"agentd-container runtime docker /opt/runc x", invocation{engine: "docker", runtime: "/opt/runc", args: []string{"x"}}, ""},
		{"podman-sh hook podman", invocation{hook: true, engine: "podman"}, ""}, // not a link of ours
		{"agentd-container hook", invocation{}, "engine"},
		{"agentd-container hook lxc", invocation{}, "engine"},
		{"agentd-container hook podman more", invocation{}, "more"},
		{"agentd-container hook --admin-socket a podman", invocation{}, "absolute"},
		{"agentd-container runtime docker", invocation{}, "runtime"},
		{"agentd-container runtime docker --x", invocation{}, "runtime"},
		{"agentd-container", invocation{}, "--help"},
		{"agentd-container create", invocation{}, "--help"},
	} {
		got, err := parse(strings.Fields(c.args))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v, want %q", c.args, err, c.err)
			}
			continue
		}
		if err != nil || got.hook != c.want.hook || got.engine != c.want.engine || got.runtime != c.want.runtime || !slices.Equal(got.args, c.want.args) {
			t.Errorf("%q: %+v %v", c.args, got, err)
		}
	}
}

// TestFind: a runtime is found by name in the folders of packages alone, and is never this program.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	before := folders
	folders = []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	defer func() { folders = before }()
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		if err := os.Mkdir(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(folders[0], "runc")); err != nil {
		t.Fatal(err)
	}
	if _, err := (&invocation{runtime: "runc"}).find(); err == nil {
		t.Error("found itself")
	}
	want := filepath.Join(folders[1], "runc")
	if err := os.WriteFile(want, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := (&invocation{runtime: "runc"}).find(); err != nil || got != want {
		t.Error(got, err)
	}
	for _, runtime := range []string{"crun", "sh", "../b/runc", dir} {
		if got, err := (&invocation{runtime: runtime}).find(); err == nil {
			t.Errorf("%q is %s", runtime, got)
		}
	}
}

// TestTimes: each who waits for a measurement is more patient than the next, and what is written for
// runtimes says so.
func TestTimes(t *testing.T) {
	if agent := api.CallRecordContainer.Timeout; agent >= oci.HookPatience || oci.HookPatience >= oci.HookTimeout {
		t.Errorf("the agent %v, the hook %v, the runtime %v", agent, oci.HookPatience, oci.HookTimeout)
	}
	dir := bundle(t, minimal)
	if _, errs, code := program(t, "", "agentd-container", "runtime", "docker", echo(t), "create", "--bundle", dir, "id"); code != 7 {
		t.Fatal(code, errs)
	}
	spec, err := oci.ParseSpec([]byte(read(t, dir)))
	if err != nil || len(spec.Hooks.CreateRuntime) != 1 || time.Duration(spec.Hooks.CreateRuntime[0].Timeout)*time.Second != oci.HookTimeout {
		t.Errorf("%+v %v", spec, err)
	}
}

// asRuntime has the test binary be a runtime that gives its hook no standard error, as crun does.
const asRuntime = "AGENTD_CONTAINER_TEST_AS_RUNTIME"

// asWrapper has it start a runtime of ours instead of the hook.
const asWrapper = "AGENTD_CONTAINER_TEST_AS_WRAPPER"

// beRuntime runs the hook with the state on standard input, and says that it failed.
func beRuntime() {
	hook := exec.Command("/proc/self/exe")
	hook.Args = []string{"agentd-container", "hook", "--admin-socket", "/nonexistent/agent", "podman"}
	if os.Getenv(asWrapper) == "1" {
		hook.Args = []string{"agentd-container", "runtime", "docker", "/bin/true", "create", "--bundle", "/nonexistent/bundle", "id"}
	}
	hook.Env = []string{asProgram + "=1"}
	hook.Stdin = os.Stdin
	err := hook.Run()
	os.Stderr.WriteString("the hook failed\n")
	for n, arg := range os.Args {
		if path, ok := strings.CutPrefix(arg, "--log="); ok || arg == "--log" {
			if !ok {
				path = os.Args[n+1]
			}
			f, _ := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			f.WriteString(`{"msg":"the hook failed"}` + "\n")
		}
	}
	if err != nil {
		os.Exit(1)
	}
}

// TestReasonUnderCrun: a runtime that discards what a hook writes has the reason on its own standard
// error, before its own words, and in a log in JSON, which then is not one object.
func TestReasonUnderCrun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: containers of users without privileges are passed over")
	}
	for name, c := range map[string]struct {
		flags  []string // LOG is the log
		logged bool
	}{
		"podman":         {[]string{"--cgroup-manager", "systemd", "--log-format=json", "--log=LOG"}, true},
		"apart":          {[]string{"--log", "LOG", "--log-format", "json"}, true},
		"as text":        {[]string{"--log-format=text", "--log=LOG"}, false},
		"of the command": {[]string{"create", "--log-format=json", "--log=LOG"}, false},
	} {
		log := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(log, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{"crun"}
		for _, f := range c.flags {
			cmd.Args = append(cmd.Args, strings.ReplaceAll(f, "LOG", log))
		}
		cmd.Env, cmd.Stdin = []string{asRuntime + "=1"}, strings.NewReader(state)
		var errs strings.Builder
		cmd.Stderr = &errs
		if err := cmd.Run(); err == nil {
			t.Errorf("%s: the hook did not fail", name)
		}
		lines := strings.Split(errs.String(), "\n")
		if len(lines) != 3 || !strings.HasPrefix(lines[0], "agentd: container 4f1c was not measured") || lines[1] != "the hook failed" {
			t.Errorf("%s: %q", name, lines)
		}
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(b), "was not measured"); got != c.logged {
			t.Errorf("%s: the log has %q", name, b)
		}
		var one map[string]any
		if err := json.Unmarshal(b, &one); (err != nil) != c.logged {
			t.Errorf("%s: the log is one object: %v", name, err)
		}
	}
}

// TestRuntimeTellsItsEngine: what was started in place of a runtime tells its own standard error alone,
// also if that is nothing: the process that started it is an engine, whose log is not one of crun.
func TestRuntimeTellsItsEngine(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{"engine", "--log-format=json", "--log=" + log}
	cmd.Env = []string{asRuntime + "=1", asWrapper + "=1"}
	out, err := cmd.CombinedOutput()
	b, _ := os.ReadFile(log)
	if err == nil || string(out) != "the hook failed\n" || strings.Contains(string(b), "agentd") {
		t.Errorf("%v: %q, and in the log %q", err, out, b)
	}
}

// TestLinkAsLog: a link in the place of the log is not followed, and a file that is not there is not
// made.
func TestLinkAsLog(t *testing.T) {
	dir := t.TempDir()
	proc, victim, link := filepath.Join(dir, "proc"), filepath.Join(dir, "victim"), filepath.Join(dir, "link")
	for _, err := range []error{os.MkdirAll(proc+"/fd", 0o755), os.WriteFile(proc+"/fd/2", nil, 0o600), os.WriteFile(victim, nil, 0o600), os.Symlink(victim, link)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, log := range []string{link, filepath.Join(dir, "none"), "relative"} {
		if err := os.WriteFile(proc+"/cmdline", []byte("crun\x00--log-format=json\x00--log\x00"+log+"\x00create\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = tellRuntime(proc, "a reason")
		if b, err := os.ReadFile(victim); err != nil || len(b) > 0 {
			t.Errorf("%s: %q %v", log, b, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "none")); err == nil {
		t.Error("a log was made")
	}
	if b, err := os.ReadFile(proc + "/fd/2"); err != nil || string(b) != strings.Repeat("a reason\n", 3) {
		t.Errorf("%q %v", b, err)
	}
}
