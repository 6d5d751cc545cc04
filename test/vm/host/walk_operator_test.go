// SPDX-License-Identifier: Apache-2.0

package host

import (
	"strings"

	"github.com/cvm-agentd/agentd/test/pages"
)

// works is the last line of the doctor on a machine that makes evidence.
const works = "Verdict: this machine makes evidence"

// operatorSteps are those of an operator who follows docs/operating.md, after the README's
// installation.
var operatorSteps = []step{
	{page: operatingPage, line: "make package"},
	{page: operatingPage, line: "apt install ./dist/*.deb"},
	{page: operatingPage, line: "rpm -K", with: []string{"rpm -K", "rpm -K dist/*.rpm"}, says: []string{"digests OK"}},
	{page: operatingPage, line: "systemctl start agentd"},
	{page: operatingPage, line: "systemctl status agentd", says: []string{"Status: \"1 of 1 applications measured"},
		before: "timeout 60 sh -c 'until systemctl show -p StatusText --value agentd | grep \"^1 of 1\"; do sleep 1; done'"},
	{page: operatingPage, line: "agentctl doctor", says: []string{works}},
	{page: operatingPage, line: "agentctl app add billing.service", says: []string{"declared billing"},
		before: "agentctl app disable billing.service && rm /etc/agentd/apps.d/billing.toml && agentctl app reload && systemctl restart billing"},
	{page: operatingPage, line: "agentctl app enable billing.service", says: []string{"billing measured: 2 files"}}, // the program and its unit
	{page: operatingPage, line: "systemctl restart billing.service",
		after: `systemctl is-active billing.service agentd-measured.target && systemctl show -p ExecStartPre --value billing | grep "measure --app billing"
journalctl -u agentd -o cat --no-pager | grep "` + billingDigest + `"`},
	{page: operatingPage, line: "agentctl app add billing.service --running --dry-run", says: []string{"billing.service is declared already, as billing", "nothing was written"}},
	{page: operatingPage, line: "systemctl reload agentd", before: "cp /var/lib/sevguest/test-root.pem /etc/agentd/certs/ask.pem",
		after: "rm /etc/agentd/certs/ask.pem; systemctl reload agentd"},
	{page: operatingPage, line: "systemctl edit agentd.service"},
	{page: operatingPage, line: "systemctl restart agentd",
		after: `test "$(systemctl show -p MemoryMax --value agentd)" = 2147483648 && systemctl show -p Environment agentd | grep 1536MiB &&
systemctl revert agentd.service && systemctl restart agentd && agentctl status --wait 1m`},
	{page: operatingPage, line: "agentctl status", says: []string{"evidence: ready"}},
	{page: operatingPage, line: "agentctl app list", says: []string{"billing: measured"}},
	{page: operatingPage, line: "systemctl status agentd-configfs.service", code: 3, says: []string{"inactive"}},
	{page: operatingPage, line: "systemctl restart agentd-configfs.service"},
	{page: operatingPage, line: "agentctl metrics", says: []string{"agentd_evidence_ready 1"}},
	{page: operatingPage, line: "agentctl metrics --client", says: []string{"agentd_evidence_ready 1"}},
	{page: operatingPage, line: "systemctl enable --now agentd-metrics.timer",
		before: "mkdir -p /var/lib/prometheus/node-exporter && cp /usr/share/doc/agentctl/docs/example/prometheus/agentd-metrics.* /etc/systemd/system/ && systemctl daemon-reload"},
}

// editor makes a program that types what the page shows between the comments of systemd, which
// discards what is elsewhere in the file.
const editor = `cat >/root/session/bin/editor <<'END' && chmod 0755 /root/session/bin/editor
#!/bin/sh
for last; do :; done
sed -i '/^### Anything between here/r /root/session/override.conf' "$last"
END
cat >/root/session/override.conf <<'END'
`

// walkOperator installs, declares, and sets up metrics.
func (s *session) walkOperator() {
	s.stand("package")
	p, err := pages.Read(root + operatingPage)
	s.must(err)
	limits, err := p.File("/etc/systemd/system/agentd.service.d/override.conf")
	s.must(err)
	s.run(editor + limits + "END\n")
	s.walk(operatorSteps)
	// What the page shows of the drop-in is what was written.
	shown, err := p.Under("Declare an application", "")
	s.must(err)
	dropin := s.run("sed '/^#/d' /etc/systemd/system/billing.service.d/50-agentd.conf")
	if !strings.Contains(joined(shown), dropin) {
		s.t.Errorf("%s does not show the drop-in:\n%s", operatingPage, dropin)
	}
	s.eventually("grep '^agentd_evidence_ready 1' /var/lib/prometheus/node-exporter/agentd.prom")
	s.run("systemctl disable --now agentd-metrics.timer && rm /etc/systemd/system/agentd-metrics.* && systemctl daemon-reload")
}

func joined(blocks []pages.Block) string {
	var out strings.Builder
	for _, b := range blocks {
		out.WriteString(b.Text)
	}
	return out.String()
}

// upgradeSteps are those around the upgrade of an application.
var upgradeSteps = []step{
	{page: operatingPage, line: "agentctl app changes", says: []string{"billing"}},
	{page: operatingPage, line: "agentctl app diff billing", says: []string{"/opt/billing/billing"}},
	{page: operatingPage, line: "agentctl policy diff policy.toml", code: 5, says: []string{"billing"}},
	{page: operatingPage, line: "agentctl policy add-digest --policy policy.toml --app billing 49ac...", with: []string{"49ac...", billingDigest},
		after: "cd /root/session && agentctl policy diff policy.toml"},
}

// billingPackage builds a package of the application, whose program is another one for each
// version.
const billingPackage = `billing() {
	d=/root/billing-$1; rm -rf $d; mkdir -p $d/DEBIAN $d/opt/billing
	cp /usr/local/sbin/vmguest $d/opt/billing/billing; printf $1 >>$d/opt/billing/billing
	printf 'Package: billing\nVersion: %s\nArchitecture: all\nMaintainer: a <a@b.invalid>\nDescription: an application\n' $1 >$d/DEBIAN/control
	dpkg-deb -Znone -b $d /root/billing_$1.deb >/dev/null
}
`

// walkUpgrade upgrades an application with apt. The hook says what a policy must list.
func (s *session) walkUpgrade() {
	s.run(`cd /root/session && agentctl attest --nonce ` + nonce() + ` --out golden.json && rm -f policy.toml &&
agentctl policy init --from golden.json --out policy.toml --trust-test-root-that-vouches-for-no-hardware /var/lib/sevguest/test-root.pem`)
	out := s.run(billingPackage + `billing 1; DEBIAN_FRONTEND=noninteractive apt-get install -y /root/billing_1.deb 2>&1`)
	digest := strings.TrimSpace(s.run("echo " + billingDigest))
	s.contains("the hook of apt", out, []string{"billing", "/opt/billing/billing", digest})
	if out := s.run("DEBIAN_FRONTEND=noninteractive apt-get install -y --reinstall /root/billing_1.deb 2>&1"); strings.Contains(out, digest) {
		s.t.Errorf("the hook of apt tells of an upgrade that changed nothing:\n%s", out)
	}
	s.walk(upgradeSteps)
	s.run("apt-get purge -y billing && install -D -m 0755 /usr/local/sbin/vmguest /opt/billing/billing && systemctl restart billing")
}

// packageSteps are those of the upgrade of the packages.
var packageSteps = []step{
	{page: operatingPage, line: "agentctl app list", says: []string{"billing: measured", "covered"}},
	{page: operatingPage, line: "apt install ./dist/*.deb", after: upgraded},
	{page: operatingPage, line: "agentctl app list", says: []string{"billing: measured", "in which nothing can have changed"}},
}

// before notes what an upgrade of the packages must leave, and upgraded compares it: sockets, the
// application and the attestation key are as before, and the service is another process.
const (
	unitTimes = "systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket; systemctl show -p MainPID billing; agentctl status --json | jq -r .akName"
	before    = "rm /root/session/dist/* && ln -s /packages/new/* /root/session/dist/ && { " + unitTimes + "; } >/root/before && systemctl show -p MainPID agentd >/root/pid"
	upgraded  = "agentctl status --wait 1m && { " + unitTimes + "; } | cmp - /root/before && ! systemctl show -p MainPID agentd | cmp -s - /root/pid && dpkg-query -W -f '${Version}' agentd | grep '~vm2'"
)

// walkPackages upgrades the packages while the application runs.
func (s *session) walkPackages() {
	s.run(before)
	s.walk(packageSteps)
}
