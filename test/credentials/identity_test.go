// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// asker is a program that asks the agent for a key and for evidence, and copies its credential if
// it has one. Its argument names what it writes.
const asker = `#!/bin/sh
to="@DIR@/out/$1"
test -z "$CREDENTIALS_DIRECTORY" || cp "$CREDENTIALS_DIRECTORY/db-password" "$to.credential"
@DIR@/bin/agentctl key derive --label disk --length 32 --socket @DIR@/agentd.sock >"$to.key" 2>"$to.why"
@DIR@/bin/agentctl attest --nonce ` + nonce + ` --socket @DIR@/agentd.sock >"$to.evidence" 2>>"$to.why"
id -u >"$to.uid"
mv "$to.uid" "$to"
`

const nonce = "4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e4e"

// leaver is a program that ends and leaves a process, which asks whenever it is told to.
const leaver = `#!/bin/sh
@DIR@/ask "$1"
(
for n in 1 2; do
	while ! test -e "@DIR@/out/go$n"; do sleep 0.05; done
	@DIR@/ask "left$n"
done
) </dev/null >/dev/null 2>&1 &
`

// nested is a program that moves into a control group with the name of another unit, below its own.
const nested = `#!/bin/sh
own=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir -p "$own/app.slice/report.service" && echo $$ >"$own/app.slice/report.service/cgroup.procs" || exit 9
grep -q app.slice/report.service /proc/self/cgroup || exit 8
exec @DIR@/ask "$1"
`

// planter is a program that tries to make itself the dynamic user of its uid.
const planter = `#!/bin/sh
ln -s planted /run/systemd/dynamic-uid/direct:61333 && exit 9
ln -s 61333 /run/systemd/dynamic-uid/direct:planted && exit 9
exec @DIR@/ask "$1"
`

// asking returns a service that asks, with more lines.
func asking(program string, lines ...string) string {
	return "[Unit]\nDefaultDependencies=no\n[Service]\nType=oneshot\nSupplementaryGroups=daemon\nExecStart=@DIR@/" + program + " %n\nReadWritePaths=-@DIR@/out\nStandardError=append:@DIR@/said\n" + strings.Join(lines, "\n") + "\n"
}

// passing are the units of this file.
var passing = map[string]string{
	"client.socket":     strings.Replace(units["client.socket"], "0600", "0660\nSocketGroup=daemon", 1),
	"report.service":    asking("ask", "DynamicUser=yes", fromAgent),
	"pool@.service":     asking("ask", "DynamicUser=yes", "User=pool-workers", fromAgent),
	"each@.service":     asking("ask", "User=daemon", "StandardInput=socket", fromAgent),
	"both@.service":     asking("ask", "DynamicUser=yes", "StandardInput=socket", fromAgent),
	"each.socket":       "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@DIR@/each.sock\nAccept=yes\n",
	"both.socket":       "[Unit]\nDefaultDependencies=no\n[Socket]\nListenStream=@DIR@/both.sock\nAccept=yes\n",
	"lasting.service":   asking("leave", "DynamicUser=yes", "KillMode=process"),
	"squatter.service":  asking("ask", "DynamicUser=yes", "RuntimeDirectory=squatter", "RemainAfterExit=yes"),
	"twin.service":      asking("ask", "DynamicUser=yes", "User=report"),
	"user@1000.service": asking("nest", "DynamicUser=yes", "User=report", "Delegate=yes"),
	"planted.service":   strings.Replace(asking("plant"), "ExecStart=", "ExecStart=setpriv --reuid 61333 --regid 61333 --groups daemon ", 1),
	"withuser.service":  asking("ask", "DynamicUser=yes", "User=daemon"), // a user that exists
}

const fromAgent = "LoadCredential=db-password:@DIR@/m/credentials.sock"

// answer is what a program got.
type answer struct {
	uid             uint32
	key, credential string
	why             string // what agentctl said
	caller          evidence.Caller
	document        string // the evidence
}

// answer returns what the program of a unit wrote, and removes it.
func (m *machine) answer(name string) (a answer) {
	m.t.Helper()
	path := filepath.Join(m.dir, "out", name)
	until(m.t, name+" has asked", func() bool { _, err := os.Stat(path); return err == nil })
	read := func(what string) string {
		b, _ := os.ReadFile(path + what)
		os.Remove(path + what)
		return string(b)
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(read("")), 10, 32)
	if err != nil {
		m.t.Fatalf("%s: %v", name, err)
	}
	a = answer{uid: uint32(uid), key: hex.EncodeToString([]byte(read(".key"))), credential: read(".credential"), why: read(".why")}
	a.document = read(".evidence")
	e, err := evidence.Parse([]byte(a.document))
	if err != nil {
		m.t.Fatalf("%s has no evidence: %v\n%s\n%s", name, err, a.why, m.said())
	}
	s, err := evidence.ParseStatement(e.Statement)
	if err != nil {
		m.t.Fatal(err)
	}
	if a.caller = s.Caller; a.caller.UID != a.uid {
		m.t.Errorf("%s of uid %d has evidence of uid %d", name, a.uid, a.caller.UID)
	}
	return a
}

// is checks what a program of an app got.
func (m *machine) is(a answer, unit, app, key, credential string) {
	m.t.Helper()
	if a.caller.Unit != unit || a.caller.App != app || len(a.key) != 64 || key != "" && a.key != key || a.credential != credential {
		m.t.Errorf("%s of uid %d: unit %s, app %q, a key of %d digits, the same %v, credential %q; %s", unit, a.uid, a.caller.Unit, a.caller.App, len(a.key), a.key == key, a.credential, a.why)
	}
}

// isNot checks that a program got nothing of an app.
func (m *machine) isNot(a answer, unit string) {
	m.t.Helper()
	if a.caller.Unit != unit || a.caller.App != "" || a.key != "" || a.credential != "" || !strings.Contains(a.why, "no-app") {
		m.t.Errorf("%s of uid %d: unit %s, app %q, a key of %d digits, credential %q; %s", unit, a.uid, a.caller.Unit, a.caller.App, len(a.key), a.credential, a.why)
	}
}

// newPassing starts a machine with the units of this file.
func newPassing(t *testing.T) *machine {
	t.Helper()
	files := map[string]string{"ask": asker, "leave": leaver, "nest": nested, "plant": planter}
	for name, text := range passing {
		files["units/"+name] = text
	}
	for app, lines := range map[string]string{
		"report": "unit = \"report.service\"\nuser = \"report\"\ndynamic_user = true", "pool": "unit = \"pool@.service\"\nuser = \"pool-workers\"\ndynamic_user = true",
		"each": "unit = \"each@.service\"\nuser = \"daemon\"", "both": "unit = \"both@.service\"\nuser = \"both\"\ndynamic_user = true",
		"lasting": "unit = \"lasting.service\"\nuser = \"lasting\"\ndynamic_user = true", "planted": "unit = \"planted.service\"\nuser = \"planted\"\ndynamic_user = true",
		"withuser": "unit = \"withuser.service\"\nuser = \"daemon\"",
	} {
		files["m/apps.d/"+app+".toml"] = lines + "\nfiles = [\"@DIR@/ask\"]\n"
	}
	m := newMachine(t, files)
	// Programs that are not root reach the socket, and not the folder of the machine.
	m.do("", "sh", "-c", "touch "+m.dir+"/agentd.sock && mount --bind "+m.dir+"/m/agentd.sock "+m.dir+"/agentd.sock")
	for _, app := range []string{"report", "pool", "each", "both"} {
		m.agentctl("secret of "+app, "secret", "put", "--app", app, "db-password")
	}
	return m
}

// ask starts a unit that must succeed, and returns what its program got.
func (m *machine) ask(unit string) answer {
	m.t.Helper()
	if how := m.startUnit(unit); how != "success" {
		m.t.Fatalf("%s: %s\n%s", unit, how, m.said())
	}
	return m.answer(unit)
}

// squat lets another unit with DynamicUser= have a uid, and returns what its program got. systemd
// prefers the uid of a folder that the unit will have.
func (m *machine) squat(uid uint32) answer {
	m.t.Helper()
	m.do("", "systemctl", "stop", "squatter.service")
	m.do("", "sh", "-c", "mkdir -p /run/squatter && chown "+strconv.FormatUint(uint64(uid), 10)+" /run/squatter")
	a := m.ask("squatter.service")
	if a.uid != uid {
		m.t.Fatalf("systemd gave uid %d, and not %d", a.uid, uid)
	}
	return a
}

// TestUnitsThatComeAndGo: instances of templates, units with DynamicUser= and units that a socket
// starts for each connection have evidence, keys and credentials of their app, also under another
// uid or name. Case 109.
func TestUnitsThatComeAndGo(t *testing.T) {
	m := newPassing(t)
	first := m.ask("report.service")
	m.is(first, "report.service", "report", "", "secret of report")
	if !pcr.DynamicUID(first.uid) {
		t.Errorf("uid %d", first.uid)
	}
	if a := m.squat(first.uid); a.uid == first.uid {
		m.isNot(a, "squatter.service") // the uid that was the app's
	}
	second := m.ask("report.service")
	m.is(second, "report.service", "report", first.key, "secret of report")
	if second.uid == first.uid || !pcr.DynamicUID(second.uid) {
		t.Errorf("uid %d after %d", second.uid, first.uid)
	}
	one, two := m.ask("pool@one.service"), m.ask("pool@two.service")
	m.is(one, "pool@one.service", "pool", "", "secret of pool")
	m.is(two, "pool@two.service", "pool", one.key, "secret of pool")
	if one.key == first.key {
		t.Error("two apps have one key")
	}
	m.is(m.ask("withuser.service"), "withuser.service", "withuser", "", "") // the user that has the name

	m.do("", "systemctl", "start", "each.socket", "both.socket")
	for _, app := range []string{"each", "both"} {
		key, before := "", ""
		for range 2 {
			name := m.connect(app)
			a := m.answer(name)
			m.is(a, name, app, key, "secret of "+app)
			if name == before {
				t.Errorf("two connections have the instance %s", name)
			}
			key, before = a.key, name
		}
	}
	m.accepted(m.ask("report.service"))
}

// accepted checks that a verifier accepts the evidence of the dynamic user under a policy that names
// it, and under no policy that names a user of that name with a uid.
func (m *machine) accepted(a answer) {
	m.t.Helper()
	show := m.agentctl("", "app", "show", "report", "--json")
	digest := regexp.MustCompile(`"digest": *"([0-9a-f]{64})"`).FindStringSubmatch(show)
	if digest == nil || !strings.Contains(show, `"dynamicUser": true`) {
		m.t.Fatalf("the app is %s", show)
	}
	policy, err := os.ReadFile(filepath.Join(m.dir, "m/policy.toml"))
	if err != nil {
		m.t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(m.dir, "out", name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			m.t.Fatal(err)
		}
		return path
	}
	document := write("document", a.document)
	for line, want := range map[string]bool{"dynamic_user = true": true, "": false} {
		rules := fmt.Sprintf("\n[[app]]\nname = \"report\"\nunit = \"report.service\"\nuser = \"report\"\n%s\ndigests = [%q]\n[caller]\nunit = \"report.service\"\napp = \"report\"\n", line, digest[1])
		file := write("policy.toml", string(policy)+rules)
		out, err := m.command(m.dir+"/bin/agentctl", "verify", "--policy", file, "--nonce", nonce, "--trust-test-root-that-vouches-for-no-hardware="+m.dir+"/m/test-root.pem", document).CombinedOutput()
		if (err == nil) != want || !want && !strings.Contains(string(out), "policy.app-unit") {
			m.t.Errorf("with %q: %v\n%s", line, err, out)
		}
	}
}

// connect connects to a socket, and returns the name of the unit that this starts.
func (m *machine) connect(app string) (unit string) {
	m.t.Helper()
	c, err := net.Dial("unix", filepath.Join(m.dir, app+".sock"))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	until(m.t, "an instance of "+app+" has asked", func() bool {
		found, _ := filepath.Glob(filepath.Join(m.dir, "out", app+"@*.service"))
		if len(found) == 1 {
			unit = filepath.Base(found[0])
		}
		return len(found) == 1
	})
	return unit
}

// TestUnitsThatAreNotTheApp: another unit with the name or the former uid of a dynamic user, a process
// that its unit left behind, a unit below the manager of a user, and a user who plants a link. Cases 86
// and 109.
func TestUnitsThatAreNotTheApp(t *testing.T) {
	m := newPassing(t)
	m.isNot(m.ask("twin.service"), "twin.service")
	m.isNot(m.ask("user@1000.service"), "user@1000.service")
	m.isNot(m.ask("planted.service"), "planted.service")

	before := m.ask("lasting.service")
	m.is(before, "lasting.service", "lasting", "", "")
	m.do("", "touch", m.dir+"/out/go1")
	left := m.answer("left1")
	m.isNot(left, "lasting.service") // systemd has the uid for no name
	if left.uid != before.uid {
		t.Fatalf("uid %d was left of %d", left.uid, before.uid)
	}
	m.squat(before.uid)
	m.do("", "touch", m.dir+"/out/go2")
	m.isNot(m.answer("left2"), "lasting.service") // it has it for another
	after := m.ask("lasting.service")
	m.is(after, "lasting.service", "lasting", before.key, "")
	if after.uid == before.uid {
		t.Errorf("uid %d again", after.uid)
	}
}
