// SPDX-License-Identifier: Apache-2.0

package host

import (
	"github.com/cvm-agentd/agentd/test/pages"
)

// mounted mounts the packages, once.
const mounted = "mkdir -p /packages && { mountpoint -q /packages || mount -o ro /dev/vdb /packages; }"

// engineerSteps are those of an engineer who looks at the simulator.
var engineerSteps = []step{
	{page: readmePage, line: "make build", not: "it is compared with what the page prints: see walkEngineer"},
	{page: readmePage, line: "agentctl show /tmp/evidence.json", says: []string{"NOT VERIFIED"}},
}

// walkEngineer runs the session with the simulator, with the programs that the host has built,
// and compares what it prints.
func (s *session) walkEngineer() {
	s.run(mounted + " && mkdir -p /root/session/bin && cp /packages/bin/* /root/session/bin/")
	s.stand("build")
	p, err := pages.Read(root + readmePage)
	s.must(err)
	session, err := p.Under("Use it", "sh")
	s.must(err)
	prints, err := p.Under("Use it", "text")
	s.must(err)
	s.run("cat >/root/session/page <<'END OF THE PAGE'\n" + session[0].Text + "wait\nEND OF THE PAGE\n")
	out := s.run("cd /root/session && PATH=/root/session/bin:$PATH sh -eu ./page 2>&1")
	if pages.SameEverywhere(out) != pages.SameEverywhere(prints[0].Text) {
		s.t.Errorf("%s prints\n%s\nthe session prints\n%s", readmePage, prints[0].Text, out)
	}
	s.walk(engineerSteps)
	s.run("rm /root/session/bin/agentctl /root/session/bin/agentd*")
}

// stand puts a program in the place of make that does nothing for these targets, and fails for
// others: the host has built.
func (s *session) stand(targets string) {
	s.run(`mkdir -p /root/session/bin && cat >/root/session/bin/make <<'EOF' && chmod 0755 /root/session/bin/make
#!/bin/sh
case " ` + targets + ` " in *" $* "*) exit 0 ;; esac
echo "make: $*: not here" >&2
exit 1
EOF`)
}

// installSteps are the README's installation, and its request with curl.
var installSteps = []step{
	{page: readmePage, line: "make package                          # dist/: .deb and .rpm, and a tarball of agentctl", each: true,
		says: []string{"Verdict: this machine makes evidence", "declared billing", "billing measured: 2 files", "billing.service is measured as billing from its next start on"},
		after: `systemctl is-active billing.service agentd.service agentd-measured.target && agentctl app list | grep "billing: measured"
journalctl -u billing -o cat --no-pager | grep "billing measured"`},
	{page: readmePage, line: `curl --unix-socket /run/agentd/agentd.sock http://agentd/v1/evidence \`, says: []string{`{"type":"agentd/evidence/`}},
}

// walkInstall installs the packages as the README says, where a service runs already.
func (s *session) walkInstall() {
	s.run(mounted + " && systemctl enable --now billing.service && mkdir -p /root/session/dist && ln -sf /packages/old/* /root/session/dist/")
	s.stand("package")
	s.walk(installSteps)
}
