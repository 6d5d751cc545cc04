// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/test/pages"
)

// readmeCommands returns the commands of the README below a heading.
func readmeCommands(heading string) ([]string, error) {
	blocks, err := blocksOf(readmePage, heading, "sh")
	if err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(blocks[0].Text), "\n"), nil
}

// pageCommands returns the commands of docs/operating.md below a heading.
func pageCommands(heading string) ([]string, error) {
	blocks, err := blocksOf(operatingPage, heading, "")
	var out []string
	for line := range strings.Lines(joined(blocks)) {
		if line = strings.TrimRight(line, "\n"); pages.IsCommand(line) {
			out = append(out, line)
		}
	}
	return out, err
}

func blocksOf(page, heading, lang string) ([]pages.Block, error) {
	p, err := pages.Read(root + page)
	if err != nil {
		return nil, err
	}
	return p.Under(heading, lang)
}

// pageFile returns the contents that docs/operating.md shows of a file.
func pageFile(path string) (string, error) {
	p, err := pages.Read(root + operatingPage)
	if err != nil {
		return "", err
	}
	return p.File(path)
}

// TestDocumentsAreFollowed: the commands and files that the checks take from the documents
// are found in them, and the units of the image are those of the documents.
func TestDocumentsAreFollowed(t *testing.T) {
	if *workFolder == "" { // in the folder of this package
		root = "../../../"
		defer func() { root = "" }()
	}
	for _, f := range []func() ([]string, error){
		func() ([]string, error) { return readmeCommands("Install it") },
		func() ([]string, error) { return pageCommands("Install") },
		func() ([]string, error) { return pageCommands("Declare an application") },
	} {
		if commands, err := f(); err != nil || len(commands) < 3 {
			t.Errorf("%q, %v", commands, err)
		}
	}
	for _, name := range []string{"report", "web"} {
		if _, err := pageFile("/etc/agentd/apps.d/" + name + ".toml"); err != nil {
			t.Error(err)
		}
		want, err := pageFile("/etc/systemd/system/" + name + ".service")
		if err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(root + "test/vm/image/" + name + ".service")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(want) {
			if !strings.Contains(string(b), strings.TrimSpace(line)) {
				t.Errorf("test/vm/image/%s.service does not have %q, as docs/operating.md", name, line)
			}
		}
	}
}

// TestChecksAreNamed: each check has a name of its own, and test/README.md names those that do not
// run on Debian 12.
func TestChecksAreNamed(t *testing.T) {
	lead := root
	if *workFolder == "" { // in the folder of this package
		lead = "../../../"
	}
	b, err := os.ReadFile(lead + "test/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(b), "\n## Virtual machines\n")
	section, _, _ = strings.Cut(section, "\n## ")
	names := map[string]bool{}
	for _, c := range checks {
		if names[c.name] {
			t.Errorf("two checks have the name %s", c.name)
		}
		names[c.name] = true
		if strings.Contains(section, "`"+c.name+"`") != (newer[c.name] != "") {
			t.Errorf("test/README.md, Virtual machines, must name %s if it does not run on Debian 12, and only then", c.name)
		}
	}
	for name := range newer {
		if !names[name] {
			t.Errorf("check %s does not exist", name)
		}
	}
}

// root leads from the working folder to the root of the source.
var root = ""

// folder makes the folder in which a person follows the documents. It contains the packages
// as `make package` leaves them, which this machine has built.
func (s *session) folder() {
	s.t.Helper()
	s.run(`mkdir -p /root/session/dist /root/session/bin && ln -s /packages/old/*.deb /root/session/dist/
printf '#!/bin/sh\n[ "$*" = package ]\n' >/root/session/bin/make && chmod 0755 /root/session/bin/make`)
}

// installing returns the commands of the README's "Install it": those that install, and
// those after them.
func (s *session) installing() (installing, using []string) {
	s.t.Helper()
	all, err := readmeCommands("Install it")
	s.must(err)
	i := slices.IndexFunc(all, func(line string) bool { return strings.HasPrefix(line, "apt install ") })
	if i < 0 {
		s.t.Fatalf("README.md does not install: %q", all)
	}
	return all[:i+1], all[i+1:]
}

// operating returns the commands of docs/operating.md that install and declare, without
// those that were run already.
func (s *session) operating(done []string) []string {
	s.t.Helper()
	install, err := pageCommands("Install")
	s.must(err)
	declare, err := pageCommands("Declare an application")
	s.must(err)
	plain := func(line string) string {
		line, _, _ = strings.Cut(line, " #")
		return strings.TrimSpace(line)
	}
	return slices.DeleteFunc(append(install, declare...), func(line string) bool {
		return slices.ContainsFunc(done, func(d string) bool { return plain(d) == plain(line) })
	})
}

// session types each line at a terminal, as it is in the document, and agrees if it is
// asked. Each must succeed, but for the doctor, who may find something in this machine.
func (s *session) session(lines []string) {
	s.t.Helper()
	for _, line := range lines {
		s.t.Logf("$ %s", line)
		and := ""
		if strings.HasPrefix(line, "agentctl doctor") {
			and = " || [ $? = 1 ]"
		}
		s.run("cd /root/session && cat >line <<'END'\n" + line + "\nEND\n" +
			`printf 'y\n' | PATH=/root/session/bin:$PATH SYSTEMD_PAGER=cat DEBIAN_FRONTEND=noninteractive script -qec "sh ./line" /dev/null` + and)
	}
}

// removal checks that a removal lets the operator's services start again, says which of
// them are not measured any more, and keeps what is needed to measure them again.
func (s *session) removal() {
	s.fails("systemctl restart billing.service") // there is no TPM
	s.want("DEBIAN_FRONTEND=noninteractive apt-get remove -y agentd 2>&1", "billing.service is NOT MEASURED any more", "50-agentd.conf.removed-with-agentd",
		volumeUnit+" OPENS NO VOLUME without agentd")
	s.run("systemctl reset-failed billing.service; systemctl restart billing.service && systemctl is-active billing.service && test -e /etc/systemd/system/billing.service.d/50-agentd.conf.removed-with-agentd")
	s.want("agentctl version; rm -rf /root/session", "agentctl")
}
