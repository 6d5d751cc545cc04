// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/test/pages"
)

// walks are four readers, each of whom types what a document prints, and a fifth who uses dnf.
// What they do not type is named in their steps, with the reason.
var walks = []check{
	{"boots", true, (*session).boots},
	{"relying-party", false, (*session).walkReader},
	{"engineer", false, (*session).walkEngineer},
	{"installs", true, (*session).walkInstall},
	{"application-developer", false, (*session).walkDeveloper},
	{"operator", false, (*session).walkOperator},
	{"packages-upgrade", false, (*session).walkPackages},
	{"apt-hook", false, (*session).walkUpgrade},
	{"operator-keys", false, (*session).walkKeys},
	{"operator-trouble", false, (*session).walkTrouble},
	{"operator-removes", true, (*session).walkRemove},
	{"rpm", false, (*session).walkRPM},
}

// step is a command of a document, and how a reader comes to type it.
type step struct {
	page   string   // the document
	line   string   // the command, or the first line of a session
	before string   // script that leads to the situation in which it is typed
	with   []string // pairs: what the reader replaces, as KEY, and by what the shell expands
	types  string   // in place of it, if the reader does not type it but puts it into a file
	each   bool     // each line of a session is typed when the one before has ended
	code   int      // how it ends
	says   []string // in its output
	after  string   // script that must succeed then
	not    string   // why it is not typed; the rest is empty
}

const (
	readmePage    = "README.md"
	operatingPage = "docs/operating.md"
	verifyPage    = "docs/verify.md"
	appsPage      = "docs/apps.md"
)

// allSteps are the steps of all walks.
func allSteps() []step {
	return slices.Concat(readerSteps, engineerSteps, installSteps, developerSteps, operatorSteps, packageSteps, upgradeSteps, keySteps, clearedSteps, troubleSteps, removeSteps, rpmSteps, elsewhere)
}

// elsewhere are commands that no walk types.
var elsewhere = []step{
	{page: readmePage, line: "make demo     # everything on a simulated machine", not: "these need Go and minutes of a processor: this machine emulates one, without Go"},
	{page: readmePage, line: "make setup", not: "the image has the programs"},
	{page: operatingPage, line: "make package SIGN=KEY", not: "make test-package signs and verifies"},
	{page: operatingPage, line: "make test-vm", not: "it is a test itself"},
	{page: operatingPage, line: "make bench", not: "figures of an emulated processor say nothing"},
	{page: operatingPage, line: "agentctl app add nginx.service", not: "the checks of credentials do it, with nginx"},
	{page: operatingPage, line: "agentctl app reload", not: "the same"},
	{page: operatingPage, line: "agentctl secret put --app nginx tls.key /root/tls.key", not: "the same"},
	{page: operatingPage, line: "agentctl app enable nginx.service --credential tls.key", not: "the same"},
	{page: operatingPage, line: "systemctl enable --now agentd-azure.timer", not: "there is no metadata service of Azure"},
	{page: operatingPage, line: "systemctl enable --now agentd-gate.service", not: "a check of its own enables it, for an application that asks"},
	{page: operatingPage, line: "systemctl enable --now agentd-secrets.service", not: "a check of its own enables it, and delivers from outside"},
	{page: operatingPage, line: "journalctl -u agentd-secrets", not: "the same"},
	{page: operatingPage, line: "agentctl secret send --to vm.example:8444 --policy policy.toml --app billing \\", not: "the same"},
	{page: operatingPage, line: "systemctl enable --now agentd-tunnel@site.service", not: "a check of its own runs a tunnel, with nginx"},
	{page: operatingPage, line: "agentctl tunnel connect --policy policy.toml --any-certificate --listen 127.0.0.1:9000 --to machine.example:8443", not: "the same"},
	{page: operatingPage, line: "systemctl reload agentd-tunnel@site", not: "the same"},
	{page: operatingPage, line: "agentctl tunnel serve", not: "the unit runs it"},
	{page: operatingPage, line: "systemctl disable --now agentd-azure.timer", not: "there is no metadata service of Azure"},
	{page: operatingPage, line: "agentctl collateral fetch --azure --dir /etc/agentd/certs --reload", not: "there is no metadata service of Azure"},
	{page: operatingPage, line: "systemctl status agentd-azure.service", not: "there is no metadata service of Azure"},
	{page: operatingPage, line: "modprobe sev-guest", not: "there is no such processor"},
	{page: verifyPage, line: "agentctl verify --policy azure.toml --nonce @challenge --azure-hcl hcl.bin --quote quote.msg --signature quote.sig --pcrs pcrs.bin --firmware-log firmware.log --certificate vcek.pem", not: "it needs what a paravisor recorded: test/scripts has that"},
	{page: verifyPage, line: "agentctl verify --ima-list ima.bin --policy policy.toml --nonce $NONCE evidence.json", not: "the kernel of the walk has no policy of IMA: cmd/agentctl has a list"},
	{page: verifyPage, line: "agentctl attest --ima --nonce $NONCE --out evidence.json", not: "the kernel of the walk has no policy of IMA: test/attacks does it"},
	{page: verifyPage, line: "agentctl verify --save-log machine.json --policy policy.toml --nonce $NONCE evidence.json", not: "the kernel of the walk has no policy of IMA: test/attacks does it"},
	{page: verifyPage, line: "agentctl attest --ima --ima-from $(jq .ima.next machine.json) --nonce $NONCE --out next.json", not: "the kernel of the walk has no policy of IMA: test/attacks does it"},
	{page: verifyPage, line: "agentctl verify --known-log machine.json --save-log machine.json --policy policy.toml --nonce $NONCE next.json", not: "the kernel of the walk has no policy of IMA: test/attacks does it"},
	{page: appsPage, line: "agentctl app enable UNIT --ima", not: "the kernel of the walk has no policy of IMA: cmd/agentctl does it"},
	{page: appsPage, line: "agentctl event emit --domain model --digest $(sha256sum model.bin | cut -c1-64)", not: "only a process of the app may: test/scripts does it"},
	{page: appsPage, line: "agentctl event list", not: "the same"},
	{page: appsPage, line: "agentctl key public --key host:ed25519:1 --ssh", not: "the image has no SSH server"},
	{page: appsPage, line: "agentctl policy reference --root DIR DECLARATION", not: "the walk types it for each declaration of the page"},
}

// firstLine returns what names a command in steps.
func firstLine(c pages.Block) string {
	line, _, _ := strings.Cut(c.Text, "\n")
	return line
}

// TestWalksFollowTheDocuments: every command that a document prints is typed by a walk, or it is
// said why not; and no walk types what no document prints.
func TestWalksFollowTheDocuments(t *testing.T) {
	if *workFolder == "" { // in the folder of this package
		root = "../../../"
		defer func() { root = "" }()
	}
	printed := map[string]map[string]bool{}
	for _, name := range []string{readmePage, operatingPage, verifyPage, appsPage} {
		p, err := pages.Read(root + name)
		if err != nil {
			t.Fatal(err)
		}
		printed[name] = map[string]bool{}
		for _, c := range p.Commands() {
			line := firstLine(c)
			printed[name][line] = true
			typed := slices.ContainsFunc(allSteps(), func(s step) bool { return s.line == line && s.page == name })
			if !typed && !mention(line) {
				t.Errorf("%s:%d: no walk types %q", name, c.Line, line)
			}
		}
	}
	for _, s := range allSteps() {
		if !printed[s.page][s.line] {
			t.Errorf("%s does not print %q", s.page, s.line)
		}
	}
}

// mention reports whether a line names a command that a reader does not type as it is: an
// argument is missing. TestMentions checks that the command exists.
func mention(line string) bool {
	words := strings.Fields(line)
	return slices.Contains(mentions, strings.Join(words, " ")) || words[0] == "make"
}

// mentions are the names of commands that the documents talk about.
var mentions = []string{
	"agentctl verify", "agentctl verify --verbose", "agentctl policy explain", "agentctl app add", "agentctl app enable", "agentctl seal",
	"agentctl key derive", "agentctl measure", "agentctl log", "agentctl policy reference", "agentctl policy check --format junit",
	"systemctl restart", "dnf remove agentd", "tpm2_quote -o", "agentctl sign", "agentctl ssh-agent", "agentctl key rotate", "agentctl key retire",
	"agentctl secret rotate", "agentctl disk remove", "journalctl -u agentd",
	"agentctl policy ima-reference", "agentctl show", "agentctl status",
}

// typed types a command, agrees if it is asked, and checks what it says.
func (s *session) typed(at step) string {
	s.t.Helper()
	if at.not != "" {
		return ""
	}
	if at.before != "" {
		s.run(at.before)
	}
	text := cmp.Or(at.types, s.printed(at))
	text = strings.TrimRight(strings.NewReplacer(at.with...).Replace(text), "\n")
	lines := []string{text}
	if at.each {
		lines = strings.Split(text, "\n")
	}
	var all strings.Builder
	for _, line := range lines {
		s.t.Logf("$ %s", line)
		r, err := s.machine.code(s.ctx, "mkdir -p /root/session && cd /root/session && cat >line <<'END OF THE LINE'\n"+line+"\nEND OF THE LINE\n"+
			"export PATH=/root/session/bin:$PATH SYSTEMD_PAGER=cat SYSTEMD_EDITOR=/root/session/bin/editor DEBIAN_FRONTEND=noninteractive\nprintf 'y\\n' | "+shell(line))
		s.must(err)
		all.WriteString(strings.ReplaceAll(r.Output, "\r", ""))
		if r.Code != at.code {
			s.t.Fatalf("it ended with exit code %d, want %d: %s\n%s", r.Code, at.code, line, all.String())
		}
	}
	s.contains(text, all.String(), at.says)
	if at.after != "" {
		s.run(at.after)
	}
	return all.String()
}

// shell returns the command that runs a line. What asks for an answer, or for an editor, wants a
// terminal. Others get none: a program that a service manager starts may keep it.
func shell(line string) string {
	for _, asks := range []string{"agentctl app add", "agentctl app enable", "systemctl edit"} {
		if strings.HasPrefix(line, asks) {
			return `script -qec "sh -eu ./line" /dev/null`
		}
	}
	return "sh -eu ./line 2>&1"
}

// printed returns a command as its document prints it.
func (s *session) printed(at step) string {
	p, err := pages.Read(root + at.page)
	s.must(err)
	for _, c := range p.Commands() {
		if firstLine(c) == at.line {
			return c.Text
		}
	}
	s.t.Fatalf("%s does not print %q", at.page, at.line)
	return ""
}

// walk types the steps in their order.
func (s *session) walk(steps []step) {
	s.t.Helper()
	for _, at := range steps {
		s.typed(at)
	}
}
