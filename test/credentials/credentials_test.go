// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// unit returns a service whose program copies its credential, and which loads it from the agent.
func unit(lines ...string) string {
	return "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=@DIR@/program %n\nLoadCredential=db-password:@DIR@/m/credentials.sock\nStandardError=append:@DIR@/said\n" + strings.Join(lines, "\n") + "\n"
}

// units are the files of the machine. @DIR@ is its folder.
var units = map[string]string{
	"test.target": "[Unit]\nDescription=tests\nDefaultDependencies=no\nAllowIsolate=yes\n",
	"agentd-sim.service": `[Unit]
DefaultDependencies=no
[Service]
Type=notify
ExecStart=@DIR@/bin/agentd-sim --dir @DIR@/m
StandardError=append:@DIR@/said
Sockets=client.socket admin.socket credentials.socket
FileDescriptorStoreMax=132
Restart=always
RestartSec=100ms
`,
	"client.socket":      "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@DIR@/m/agentd.sock\nSocketMode=0600\nFileDescriptorName=client\nService=agentd-sim.service\n",
	"admin.socket":       "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@DIR@/m/admin.sock\nSocketMode=0600\nFileDescriptorName=admin\nService=agentd-sim.service\n",
	"credentials.socket": "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@DIR@/m/credentials.sock\nSocketMode=0600\nFileDescriptorName=credentials\nService=agentd-sim.service\n",

	"billing.service":    unit("User=daemon"),
	"prepared.service":   unit("User=daemon", "ExecStartPre=/bin/sh -c 'test -s \"$CREDENTIALS_DIRECTORY/db-password\"'"),
	"slow.service":       unit("User=daemon"), // its app takes long to measure
	"worker@.service":    unit("User=daemon"),
	"dynamic.service":    unit("DynamicUser=yes", "User=agentd-dynamic", "ReadWritePaths=@DIR@/out"),
	"thief.service":      unit("User=daemon"),                       // an app of its own, without this secret
	"undeclared.service": unit(),                                    // no app
	"fallback.service":   unit("SetCredential=db-password:guessed"), // an app without the secret
	"user@0.service":     unit(),                                    // as the manager of root's units
	"inside.service":     "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=AGENTD_TEST_ASKS=/unit/inside.service/db-password\nExecStart=@DIR@/bin/test @DIR@/m/credentials.sock\nStandardOutput=file:@DIR@/out/inside.service\n",
	"outside.service":    "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nEnvironment=AGENTD_TEST_ASKS=/unit/billing.service/db-password\nExecStart=@DIR@/bin/test @DIR@/m/credentials.sock\nStandardOutput=file:@DIR@/out/outside.service\n",
}

// declared are the apps: unit and user.
var declared = map[string][2]string{
	"billing": {"billing.service", "daemon"}, "prepared": {"prepared.service", "daemon"}, "worker": {"worker@.service", "daemon"},
	"dynamic": {"dynamic.service", "root"}, "thief": {"thief.service", "daemon"}, "fallback": {"fallback.service", "root"}, "inside": {"inside.service", "root"},
}

const program = "#!/bin/sh\ncp \"$CREDENTIALS_DIRECTORY/db-password\" \"@DIR@/out/$1\"\n"

// newMachine starts systemd with a simulated machine as a service, whose apps have no secrets yet.
// Further files, by their names in the folder of the machine, have the modes of programs.
func newMachine(t *testing.T, further ...map[string]string) *machine {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts systemd: not with -short")
	case shared.platform == "":
		t.Skip("swtpm is not installed")
	case os.Geteuid() != 0:
		t.Skip("must be root to make namespaces")
	}
	hierarchy(t)
	systemd(t)
	dir, err := os.MkdirTemp("/var/lib", "agentd-") // in no folder of which a unit may get one of its own
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "@DIR@", dir)), mode); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range units {
		write("units/"+name, text, 0o644)
	}
	for name, x := range declared {
		write("m/apps.d/"+name+".toml", "unit = \""+x[0]+"\"\nuser = \""+x[1]+"\"\nfiles = [\"@DIR@/program\"]\n", 0o600)
	}
	write("m/apps.d/slow.toml", "unit = \"slow.service\"\nuser = \"daemon\"\nfiles = [\"@DIR@/program\", \"@DIR@/large\"]\n", 0o600)
	write("large", "", 0o644)
	if err := os.Truncate(filepath.Join(dir, "large"), 700<<20); err != nil { // holes count too
		t.Fatal(err)
	}
	write("program", program, 0o755)
	for _, files := range further {
		for name, text := range files {
			write(name, text, 0o755)
		}
	}
	write("bin/none", "", 0o644)
	for _, name := range []string{"agentd-sim", "agentctl"} {
		install(t, filepath.Join(shared.commands, name), filepath.Join(dir, "bin", name))
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	install(t, self, filepath.Join(dir, "bin/test"))
	if err := os.CopyFS(filepath.Join(dir, "m/platform"), os.DirFS(shared.platform)); err != nil {
		t.Fatal(err)
	}
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{"", 0o755}, {"m", 0o700}, {"m/apps.d", 0o700}, {"out", 0o777}} {
		path := filepath.Join(dir, d.path)
		if err := os.MkdirAll(path, d.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, d.mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := private(filepath.Join(dir, "m/platform")); err != nil {
		t.Fatal(err)
	}
	m := start(t, dir)
	m.do("", "systemctl", "start", "client.socket", "admin.socket", "credentials.socket", "agentd-sim.service")
	return m
}

func private(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// agentctl runs agentctl as root of the machine.
func (m *machine) agentctl(input string, args ...string) string {
	m.t.Helper()
	return m.do(input, m.dir+"/bin/agentctl", m.asked(args...)...)
}

// asked returns the arguments of agentctl that ask the agent of the machine.
func (m *machine) asked(args ...string) []string {
	return append(args, "--socket", m.dir+"/m/agentd.sock", "--admin", m.dir+"/m/admin.sock")
}

// got returns what a unit's program copied, and removes it.
func (m *machine) got(unit string) string {
	path := filepath.Join(m.dir, "out", unit)
	b, _ := os.ReadFile(path)
	os.Remove(path)
	return string(b)
}

// refused is what systemd says of a unit whose credential was refused: EXIT_CREDENTIALS.
const refused = "243"

// TestUnits: a service that knows nothing of the agent gets its secret, and every other way to
// ask for it fails. Case 120.
func TestUnits(t *testing.T) {
	m := newMachine(t)
	for _, app := range []string{"billing", "prepared", "worker", "dynamic", "inside"} {
		m.agentctl("secret of "+app, "secret", "put", "--app", app, "db-password")
	}
	for _, c := range []struct{ unit, how, want, code string }{
		{"billing.service", "success", "secret of billing", ""},
		{"prepared.service", "success", "secret of prepared", ""},
		{"worker@one.service", "success", "secret of worker", ""},
		{"dynamic.service", "success", "secret of dynamic", ""},
		{"thief.service", refused, "", "not-found"},
		{"undeclared.service", refused, "", "no-app"},
		{"fallback.service", refused, "", "not-found"},
		{"user@0.service", refused, "", "no-system-unit"},
		{"inside.service", "success", "refused\n", "not-systemd"}, // its own program asks
		{"outside.service", "success", "refused\n", "other-unit"}, // asks for that of another
	} {
		how, got := m.startUnit(c.unit), m.got(c.unit)
		if how != c.how || got != c.want {
			t.Errorf("%s: %s, %q; want %s, %q\n%s", c.unit, how, got, c.how, c.want, m.said())
		}
		m.hasLine(c.unit, c.code)
	}
	// Root outside a unit, with the right address.
	cmd := m.command("env", asks+"=/unit/billing.service/db-password", m.dir+"/bin/test", m.dir+"/m/credentials.sock")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "refused\n" {
		t.Errorf("root outside a unit: %q, %v", out, err)
	}
	m.hasLine("billing.service", "no-system-unit")

	// Rotated, for the next start; removed, for none.
	m.agentctl("another", "secret", "rotate", "--app", "billing", "db-password")
	if how, got := m.startUnit("billing.service"), m.got("billing.service"); how != "success" || got != "another" {
		t.Errorf("after a rotation: %s, %q", how, got)
	}
	m.agentctl("", "secret", "remove", "--app", "worker", "db-password")
	if how, got := m.startUnit("worker@two.service"), m.got("worker@two.service"); how != refused || got != "" {
		t.Errorf("after a removal: %s, %q", how, got)
	}
}

// hasLine checks that the log has one line about the refusal, with the name of the unit, its code
// and what to do.
func (m *machine) hasLine(unit, code string) {
	m.t.Helper()
	if code == "" {
		return
	}
	until(m.t, "the log says why "+unit+" was refused", func() bool {
		for line := range strings.Lines(m.said()) {
			if strings.Contains(line, unit) && strings.Contains(line, "was refused") && strings.Contains(line, "("+code+")") {
				return true
			}
		}
		return false
	})
}

// TestOtherProgramIsRefused: the app's keys require a digest, and its program is replaced. The unit
// does not start until root authorises the new one.
func TestOtherProgramIsRefused(t *testing.T) {
	m := newMachine(t)
	m.agentctl("secret", "secret", "put", "--app", "billing", "db-password")
	m.agentctl("", "key", "require-digest", "--app", "billing")
	start := func(want, content string) {
		t.Helper()
		if how, got := m.startUnit("billing.service"), m.got("billing.service"); how != want || got != content {
			t.Errorf("%s, %q; want %s, %q\n%s", how, got, want, content, m.said())
		}
	}
	start("success", "secret")
	path := filepath.Join(m.dir, "program")
	other := strings.ReplaceAll(program, "@DIR@", m.dir) + "# changed\n"
	if err := os.WriteFile(path+".new", []byte(other), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	start(refused, "") // although no command measured it: the agent measures when systemd asks
	m.hasLine("billing.service", "digest-not-authorised")
	digest := m.do("", "sh", "-c", m.dir+"/bin/agentctl app show billing --json --admin "+m.dir+"/m/admin.sock | grep -o '\"digest\": *\"[0-9a-f]*' | grep -o '[0-9a-f]*$' | head -n 1")
	m.agentctl("", "key", "authorize", "--app", "billing", "--digest", strings.TrimSpace(digest))
	start("success", "secret")
}

// TestKilledAgentStartsNoUnit: the agent is killed while a unit waits for its credential. systemd
// holds the connection, and the next agent refuses it. An end without bytes would start the unit
// with an empty credential. Case 123.
func TestKilledAgentStartsNoUnit(t *testing.T) {
	m := newMachine(t)
	m.agentctl("secret", "secret", "put", "--app", "slow", "db-password")
	until(t, "slow is measured", func() bool {
		return !strings.Contains(m.agentctl("", "app", "show", "slow", "--json"), "\"reading\"")
	})
	// A kill may come when the unit had its answer already: then once more.
	until(t, "a kill came before the answer", func() bool {
		ended := make(chan string, 1)
		go func() { ended <- m.startUnit("slow.service") }()
		how := ""
		agent := m.process("agentd-sim.service", "agentd-sim")
		until(t, "the agent reads for the unit, or is done", func() bool {
			select {
			case how = <-ended:
				return true
			default:
				return opened(agent, filepath.Join(m.dir, "large"))
			}
		})
		if err := syscall.Kill(agent, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if how == "" {
			how = <-ended
		}
		got := m.got("slow.service")
		if how == "success" && got != "secret" || how != "success" && how != refused {
			t.Fatalf("%s, and the unit ran with the credential %q\n%s", how, got, m.said())
		}
		// systemd may still take the killed agent for active, and an agent that starts has read no
		// declaration yet.
		until(t, "the next agent knows its applications", func() bool { return m.command(m.dir+"/bin/agentctl", m.asked("app", "show", "slow")...).Run() == nil })
		m.do("", "systemctl", "reset-failed", "agentd-sim.service")
		return how == refused
	})
	m.hasLine("slow.service", "shutting-down")
	if how, got := m.startUnit("slow.service"), m.got("slow.service"); how != "success" || got != "secret" {
		t.Errorf("the next start: %s, %q\n%s", how, got, m.said())
	}
}
