// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is what all scripts use: the commands, and a software platform whose keys
// were made once.
var shared struct {
	commands string
	platform string
}

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(commands, dir string) (_ func() error, err error) {
		shared.commands = commands
		shared.platform, err = simulated.Platform(commands, dir)
		return nil, err
	}))
}

func TestScripts(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", shared.commands+string(filepath.ListSeparator)+os.Getenv("PATH"))
			// The configuration of this machine, if it has one, is not that of the simulated one.
			return os.WriteFile(filepath.Join(e.WorkDir, "plain.toml"), []byte("[sockets]\nclient_group = \"\"\n"), 0o644)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"machine":  start,
			"halt":     halt,
			"powercut": powercut,
			"hangup":   hangup,
			"exits":    exits,
			"waitfor":  waitfor,
			"flip":     flip,
			"spoil":    spoil,
			"json":     compare,
			"answers":  answers(t),
			"fits":     fits(t),
			"nonce":    nonce,
			"kds":      serveKDS,
			"thim":     serveTHIM,
			"strip":    strip,
			"report":   reportOf,
			"firmware": firmware,
		},
	})
}

// machines are the running ones, by script and folder.
var machines sync.Map

func key(ts *testscript.TestScript, dir string) string { return ts.Name() + " " + ts.MkAbs(dir) }

// start is "machine DIR ARGS...": it starts a simulated machine and points the
// commands to it.
func start(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: machine DIR ARGS...")
	}
	dir := ts.MkAbs(args[0])
	m, err := simulated.Start(shared.commands, dir, shared.platform, args[1:]...)
	ts.Check(err)
	machines.Store(key(ts, args[0]), m)
	ts.Defer(func() {
		if m, loaded := machines.LoadAndDelete(key(ts, args[0])); loaded {
			m.(*simulated.Machine).Kill()
		}
	})
	ts.Setenv("AGENTD_SOCKET", m.Socket())
	ts.Setenv("AGENTD_ADMIN_SOCKET", m.AdminSocket())
	ts.Setenv("MACHINE", dir)
	ts.Setenv("TRUST", "--trust-test-root-that-vouches-for-no-hardware="+m.Root())
}

func running(ts *testscript.TestScript, args []string) *simulated.Machine {
	if len(args) != 1 {
		ts.Fatalf("want the folder of one machine")
	}
	m, ok := machines.Load(key(ts, args[0]))
	if !ok {
		ts.Fatalf("no machine runs in %s", args[0])
	}
	return m.(*simulated.Machine)
}

// halt is "halt DIR": the machine must end well. (A command called stop is testscript's own
// and ends the script there, as passed.)
func halt(ts *testscript.TestScript, _ bool, args []string) {
	m := running(ts, args)
	machines.Delete(key(ts, args[0]))
	ts.Check(m.Stop())
}

// firmware is "firmware FILE": it writes a small image of a firmware for direct boot.
func firmware(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: firmware FILE")
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), launchtest.OVMF().Bytes(), 0o600))
}

// powercut is "powercut DIR".
func powercut(ts *testscript.TestScript, _ bool, args []string) {
	m := running(ts, args)
	machines.Delete(key(ts, args[0]))
	m.Kill()
}

// hangup is "hangup DIR": SIGHUP.
func hangup(ts *testscript.TestScript, _ bool, args []string) { ts.Check(running(ts, args).Reload()) }

// exits is "exits CODE COMMAND...".
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// patience is how long a script waits for what must come: it ends only one that fails.
const patience = 5 * time.Minute

// waitfor is "waitfor COMMAND...": it tries until the command succeeds.
func waitfor(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(patience)
	for {
		err := ts.Exec(args[0], args[1:]...)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("waited in vain for %s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// flip is "flip FROM MEMBER OFFSET TO": it flips the lowest bit of one byte of a
// base64 member, named like batch.quote.attest.
func flip(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: flip FROM MEMBER OFFSET TO")
	}
	var document map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &document))
	path := strings.Split(args[1], ".")
	at := document
	for _, p := range path[:len(path)-1] {
		at, _ = at[p].(map[string]any)
	}
	last := path[len(path)-1]
	text, _ := at[last].(string)
	b, err := base64.StdEncoding.DecodeString(text)
	ts.Check(err)
	offset, err := strconv.Atoi(args[2])
	ts.Check(err)
	if offset >= len(b) {
		ts.Fatalf("%s has %d bytes", args[1], len(b))
	}
	b[offset] ^= 1
	at[last] = base64.StdEncoding.EncodeToString(b)
	out, err := json.Marshal(document)
	ts.Check(err)
	writeFile(ts, args[3], out)
}

// spoil is "spoil one|all OFFSET PATTERN": it changes one byte of the first file of a pattern, or of
// each, whatever the byte was.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 || args[0] != "one" && args[0] != "all" {
		ts.Fatalf("usage: spoil one|all OFFSET PATTERN")
	}
	offset, err := strconv.Atoi(args[1])
	ts.Check(err)
	files, err := filepath.Glob(ts.MkAbs(args[2]))
	ts.Check(err)
	if len(files) == 0 {
		ts.Fatalf("no file fits %s", args[2])
	}
	if args[0] == "one" {
		files = files[:1]
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		ts.Check(err)
		if offset >= len(b) {
			ts.Fatalf("%s has %d bytes", name, len(b))
		}
		b[offset] ^= 0xff
		ts.Check(os.WriteFile(name, b, 0o600))
	}
}

func writeFile(ts *testscript.TestScript, name string, b []byte) {
	ts.Check(os.WriteFile(ts.MkAbs(name), b, 0o600))
}

// compare is "json FILE MEMBER WANT": the member, named like a.b, must be WANT.
func compare(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: json FILE MEMBER WANT")
	}
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &at))
	for p := range strings.SplitSeq(args[1], ".") {
		switch v := at.(type) {
		case map[string]any:
			at = v[p]
		case []any:
			i, err := strconv.Atoi(p)
			if err != nil || i >= len(v) {
				ts.Fatalf("no element %s in a list of %d", p, len(v))
			}
			at = v[i]
		default:
			at = nil
		}
	}
	if got := fmt.Sprint(at); (got == args[2]) == neg {
		ts.Fatalf("%s is %q, want %q", args[1], got, args[2])
	}
}

// nonce is "nonce NAME": 32 bytes in hexadecimal in the environment, other for each name.
func nonce(ts *testscript.TestScript, _ bool, args []string) {
	ts.Setenv(args[0], fmt.Sprintf("%x", []byte(fmt.Sprintf("%-32s", ts.Name()+args[0]))[:32]))
}

// TestReadme runs the session of the README in a new folder, and compares the output.
func TestReadme(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a simulated machine: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	session, prints := block(t, "README.md", "Use it", "sh"), block(t, "README.md", "Use it", "text")
	out := runSession(t, session)
	if !strings.Contains(out, "pass, by the guest's word: accepted.") {
		t.Errorf("the session prints\n%s", out)
	}
	if pages.SameEverywhere(out) != pages.SameEverywhere(prints) {
		t.Errorf("the session prints\n%s\nREADME.md says\n%s", out, prints)
	}
}

// TestKeysWithoutSystemd runs the session of docs/api.md in which a program without a unit
// keeps a secret, on a simulated machine.
func TestKeysWithoutSystemd(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a simulated machine: not with -short")
	}
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	session := block(t, "docs/api.md", "Try it without systemd", "sh")
	out := runSession(t, session)
	for _, want := range []string{"1 declared, 1 measured\n", "application billing\n", "outcome of each change:\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the session does not print %q:\n%s", want, out)
		}
	}
	if !strings.HasSuffix(out, "secret") {
		t.Errorf("the session does not end with the secret:\n%s", out)
	}
}

// block returns the first block of a language that a document has below a heading.
func block(t *testing.T, name, heading, lang string) string {
	t.Helper()
	p, err := pages.Read("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	blocks, err := p.Under(heading, lang)
	if err != nil {
		t.Fatal(err)
	}
	return blocks[0].Text
}

// runSession runs a session of a document in a new folder, with the built commands, and
// returns what it prints.
func runSession(t *testing.T, session string) string {
	t.Helper()
	dir := t.TempDir()
	session = strings.ReplaceAll(session, "/tmp/", dir+"/")
	session = strings.Replace(session, "make build\n", "", 1)
	session = strings.Replace(session, "$PWD/bin", shared.commands, 1)
	// A minute is enough for a reader, and not always while other tests run.
	if session = strings.Replace(session, "--wait 1m", "--wait 10m", 1); !strings.Contains(session, "--wait 10m") {
		t.Fatal("the session does not wait for the agent")
	}
	cmd := exec.Command("sh", "-eu", "-c", session+"wait\n")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the session ends with %v:\n%s", err, out)
	}
	return strings.ReplaceAll(string(out), dir+"/", "/tmp/")
}
