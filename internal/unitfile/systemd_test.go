// SPDX-License-Identifier: Apache-2.0

package unitfile

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

var seed = flag.Uint64("seed", 0, "of the generated units: a failed run names its own")

// A loaded unit is what the real systemd says of one.
type loaded struct {
	id       string
	aliases  []string
	state    string // loaded, masked, not-found, bad-setting, error
	user     string
	dynamic  bool
	commands []string // as its dump prints them
}

// manager is the program of systemd.
const manager = "/usr/lib/systemd/systemd"

// load lets a real systemd load units from folders, without starting any, and returns what it
// says of each.
func load(t *testing.T, dirs []string, units []string) map[string]*loaded {
	t.Helper()
	if _, err := os.Stat(manager); err != nil {
		t.Skip("systemd is not installed: apt-get install systemd")
	}
	target := "[Unit]\nWants=" + strings.Join(units, " ") + "\n"
	if err := os.WriteFile(filepath.Join(dirs[0], "all-of-them.target"), []byte(target), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(manager, "--test", "--system", "--log-target=console", "--no-pager", "--unit=all-of-them.target")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/tmp", "XDG_RUNTIME_DIR=/tmp", "SYSTEMD_UNIT_PATH=" + strings.Join(dirs, ":"), "SYSTEMD_LOG_LEVEL=err"}
	if os.Geteuid() == 0 { // it refuses to test as root
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	out, err := cmd.Output()
	if err != nil {
		t.Skipf("this systemd does not load units in a test: %v", err)
	}
	return parseDump(string(out))
}

var dumped = regexp.MustCompile(`(?m)^\t-> Unit (.*):$`)

// parseDump reads the units of a manager's dump, by their names.
func parseDump(dump string) map[string]*loaded {
	out := map[string]*loaded{}
	at := dumped.FindAllStringSubmatchIndex(dump, -1)
	for i, m := range at {
		end := len(dump)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		u := &loaded{id: dump[m[2]:m[3]]}
		for line := range strings.Lines(dump[m[1]:end]) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch key {
			case "Alias":
				u.aliases = append(u.aliases, value)
			case "Unit Load State":
				u.state = value
			case "User":
				u.user = value
			case "DynamicUser":
				u.dynamic = value == "yes"
			case "Command Line":
				u.commands = append(u.commands, value)
			}
		}
		for _, name := range append(u.aliases, u.id) {
			out[name] = u
		}
	}
	return out
}

// unitGenerator makes folders of unit files with the names, links and settings that people use,
// and a few that they should not.
type unitGenerator struct {
	*rand.Rand
	dirs []string
}

func (g *unitGenerator) pick(of ...string) string { return of[g.IntN(len(of))] }

// unitNames are few, so that links, drop-ins and templates meet.
var unitNames = []string{
	"a.service", "b.service", "a-b.service", "a-b-c.service", `a\x2db.service`, "w@.service", "w@1.service", "w@x-y.service", `w@x\x2dy.service`,
	"v@.service", "v@1.service", "w@1@2.service", "d-e@.service", "d-e@1.service", "a:b.service", "_a.service", "a.b.service", "w.service", "c.socket", "w.socket",
}

func (g *unitGenerator) write(t *testing.T) {
	t.Helper()
	for range 30 {
		dir, name := g.pick(g.dirs...), g.pick(unitNames...)
		path := filepath.Join(dir, name)
		var err error
		switch g.IntN(12) {
		case 0, 1, 2:
			err = os.Symlink(g.pick(g.pick(unitNames...), filepath.Join(g.pick(g.dirs...), g.pick(unitNames...)), "./"+g.pick(unitNames...), "../x/"+g.pick(unitNames...)), path)
		case 3:
			err = os.Symlink(g.pick("/dev/null", filepath.Join(g.dirs[0], "../linked", name), "nowhere", "/nowhere/"+name), path)
		case 4:
			if _, exists := os.Lstat(path); exists != nil {
				err = os.WriteFile(path, nil, 0o644)
			}
		case 5, 6, 7:
			of := g.pick(append(unitNames, "service", "a-.service", "a-b-.service", "d-@.service", "d-e@.service")...)
			drop := filepath.Join(dir, of+".d")
			err = errors.Join(os.MkdirAll(drop, 0o755), g.file(filepath.Join(drop, g.pick("10.conf", "20.conf", ".hidden.conf", "x.txt")), true))
		default:
			err = g.file(path, false)
		}
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
}

// file writes a unit file or drop-in, if the path is free.
func (g *unitGenerator) file(path string, dropIn bool) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if strings.HasSuffix(path, ".socket") || strings.Contains(path, ".socket.d/") {
		_, err := fmt.Fprintf(f, "[Socket]\nListenStream=/run/x\nAccept=%s\n", g.pick("yes", "no", "1"))
		return err
	}
	var b strings.Builder
	b.WriteString(g.pick("", "# comment \\\n", "[Unit]\nDescription=x\nUser=not-here\n"))
	b.WriteString("[Service]\nType=oneshot\n")
	for range g.IntN(4) {
		switch g.IntN(4) {
		case 0, 1:
			b.WriteString("User=" + g.pick("daemon", "root", "0", "1", "", "%i", "%I", "%j", "%p", "%N", "app-%i", "%u", "a\\\nb", "www-data") + "\n")
		case 2:
			b.WriteString("DynamicUser=" + g.pick("yes", "no", "1", "off", "t") + "\n")
		case 3:
			b.WriteString("ExecStart=" + g.command() + "\n")
		}
	}
	if !dropIn {
		b.WriteString("ExecStart=" + g.command() + "\n")
	}
	_, err = f.WriteString(b.String())
	return err
}

func (g *unitGenerator) command() string {
	return g.pick("", "-", ":", "+", "!", "!!", "-+") +
		g.pick("/bin/true", "/usr/bin/env", `"/bin/true"`, `/bin/tr"u"e`, `/bin/\x74rue`, "//bin//true", "/bin/./true", "/opt/%i/x", "/opt/%p/%N", "/opt/%%x", "true", "/bin/tr\\\n  ue", "'/bin/a b'") +
		g.pick("", " x", ` "x y" z`, ` %i %n`, ` a\x20b 'c"d'`, " ; /bin/echo 1", ` \; ";" x`, " $FOO ${BAR}", "\t x", " a\\\n# comment\n b", ` \q`, ` "é" \u00e9 \303\251`)
}

// plain removes what a manager's dump adds to a command line so that it can be read again.
var plain = strings.NewReplacer(`\`, "", `"`, "", "'", "", " ", "", "\t", "", "/./", "/", "//", "/")

// sameStart compares programs: specifiers in arguments are not replaced.
func sameStart(a, b string) bool {
	a, _, _ = strings.Cut(a, "%i%n")
	return strings.HasPrefix(b, a)
}

// TestAgreesWithSystemd is a property test (case 109): what a real systemd loads under a name, the
// package loads under that name too: the same unit, user and programs, or a refusal in words.
// And what `agentctl app add` writes is read back by the agent's own reader as that unit and
// that user.
func TestAgreesWithSystemd(t *testing.T) {
	seed, rounds := cmp.Or(*seed, rand.Uint64()), 150
	if testing.Short() {
		rounds = 15
	}
	t.Logf("seed %d", seed)
	defer func(before []string) { folders = before }(folders)
	counts := map[string]int{}
	var services []string
	for _, n := range unitNames {
		if strings.HasSuffix(n, ".service") && !strings.HasSuffix(n, "@.service") {
			services = append(services, n)
		}
	}
	for round := range rounds {
		base, err := os.MkdirTemp("", "agentd-units-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(base) })
		g := &unitGenerator{Rand: rand.New(rand.NewPCG(seed, uint64(round)))}
		for _, name := range []string{"first", "x", "last"} {
			g.dirs = append(g.dirs, filepath.Join(base, name))
		}
		linked := filepath.Join(base, "linked")
		for _, dir := range append(slices.Clone(g.dirs), linked) {
			if err := os.Mkdir(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.Chmod(base, 0o755), g.file(filepath.Join(linked, "a.service"), false), g.file(filepath.Join(linked, "w@.service"), false)); err != nil {
			t.Fatal(err)
		}
		g.write(t)
		folders = g.dirs
		// One at a time, so that no unit is loaded under another name before.
		unit := g.pick("a.service", "a-b.service", "a-b-c.service", "w@1.service", "w@x-y.service", "v@1.service", "d-e@1.service", g.pick(services...))
		want := load(t, g.dirs, []string{unit})[unit]
		if want == nil {
			t.Fatalf("systemd says nothing of %s", unit)
		}
		counts[compare(t, unit, want)]++
		if t.Failed() {
			for _, dir := range append(g.dirs, linked) {
				out, _ := exec.Command("sh", "-c", "cd "+dir+" && ls -lR . && find . -type f -exec head -99 {} +").CombinedOutput()
				t.Logf("%s:\n%s", dir, out)
			}
			return
		}
	}
	t.Log(counts)
	for _, kind := range []string{"same", "masked", "not-found"} {
		if counts[kind] < rounds/30 {
			t.Errorf("only %d units of kind %s: the generator is broken", counts[kind], kind)
		}
	}
}

// compare compares one unit, and returns the kind of the outcome.
func compare(t *testing.T, unit string, want *loaded) string {
	t.Helper()
	s, err := Load("/", unit)
	if errors.Is(err, errByHand) {
		return "by hand"
	}
	switch want.state {
	case "masked":
		if !errors.Is(err, ErrMasked) {
			t.Errorf("%s is masked, and is read as %+v, %v", unit, s, err)
		}
		return "masked"
	case "not-found":
		if !errors.Is(err, ErrNoUnit) && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is not found, and is read as %+v, %v", unit, s, err)
		}
		return "not-found"
	case "error":
		if err == nil {
			t.Errorf("%s is not loaded, and is read as %+v", unit, s)
		}
		return want.state
	case "loaded":
	default:
		return want.state
	}
	if err != nil {
		t.Errorf("%s is loaded as %+v: %v", unit, want, err)
		return "wrong"
	}
	if s.Name != want.id || s.User != want.user && !want.dynamic || s.DynamicUser != want.dynamic {
		t.Errorf("%s is %s of user %q, dynamic %v; read as %s of user %q, dynamic %v, from %v", unit, want.id, want.user, want.dynamic, s.Name, s.User, s.DynamicUser, s.Files)
	}
	var got, theirs []string
	for _, c := range s.Commands {
		got = append(got, plain.Replace(strings.Join(append([]string{c.Program}, c.Args...), "")))
	}
	for _, c := range want.commands {
		theirs = append(theirs, plain.Replace(c))
	}
	if !slices.EqualFunc(got, theirs, func(a, b string) bool { return len(a) > 0 && len(b) > 0 && sameStart(a, b) }) {
		t.Errorf("%s runs %q; read as %q", unit, theirs, got)
	}
	return readBack(t, s, want)
}

// readBack declares a unit and reads the declaration as the agent does.
func readBack(t *testing.T, s *Service, want *loaded) string {
	t.Helper()
	text, err := s.Declaration(&Contents{Groups: []Group{{Title: "a program", Files: []string{"/bin/true"}}}})
	if err != nil {
		// systemd loads such a name too, and does not start the unit.
		noName := s.DynamicUser && (strings.HasPrefix(want.user, "_du") || declaration.CheckDynamicUser(want.user) != nil)
		if !noName && s.PerCall == "" {
			t.Errorf("%s of user %q is not declared: %v", s.Name, want.user, err)
		}
		return "refused"
	}
	d, err := declaration.Parse("app", "app.toml", text, func(string) (uint32, error) { return 1, nil })
	if err != nil {
		t.Errorf("the declaration of %s is not read back: %v\n%s", s.Name, err, text)
		return "wrong"
	}
	static, err := hasUser("/", want.user)
	if err != nil {
		t.Fatal(err)
	}
	if dynamic := want.dynamic && !static; d.Dynamic != dynamic {
		t.Errorf("%s of user %q, dynamic %v, is read back as dynamic %v", want.id, want.user, dynamic, d.Dynamic)
	}
	if user := want.user; d.Unit != want.id || d.User != user && (user != "" || d.User != "root") {
		t.Errorf("%s of user %q is read back as %s of user %q", want.id, want.user, d.Unit, d.User)
	}
	return "same"
}
