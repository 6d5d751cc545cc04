// SPDX-License-Identifier: Apache-2.0

package host

import "strings"

// rpmSteps are those of an operator whose machine has dnf.
var rpmSteps = []step{
	{page: operatingPage, line: "dnf remove agentd", says: []string{"billing.service is NOT MEASURED any more", "left in place: /var/lib/agentd"},
		after: "systemctl restart billing.service && systemctl is-active billing.service && systemctl is-enabled billing.service"},
}

// rpmbuilt builds an rpm without a source: NAME VERSION, then further lines.
const rpmbuilt = `rpmbuilt() {
	{ printf 'Name: %s\nVersion: %s\nRelease: 1\nSummary: s\nLicense: none\nBuildArch: noarch\nAutoReqProv: no\n' $1 $2; printf '%b' "$3"; } >/root/$1.spec
	rpmbuild -bb --quiet --define "_topdir /root/rpmbuild" --define '_build_id_links none' --define '__os_install_post %{nil}' --define '_binaries_in_noarch_packages_terminate_build 0' /root/$1.spec
}
`

// walkRPM uses dnf on a machine whose programs dpkg has installed: one package stands for what
// the others of a distribution provide. Everything else is as on a machine of rpm.
func (s *session) walkRPM() {
	s.run(rpmbuilt + `rpmbuilt distribution 1 'Provides: systemd = 257\nProvides: /bin/sh\n%description\nd\n%files\n'
printf '[main]\ngpgcheck=0\nreposdir=/nonexistent\n' >/etc/dnf/dnf.conf && dnf install -y /root/rpmbuild/RPMS/noarch/distribution-1-1.noarch.rpm`)
	dnf := "dnf --setopt=reposdir=/nonexistent --setopt=gpgcheck=0 -y "
	s.run(dnf + "install /packages/old/agentctl-*.rpm /packages/old/agentd-*.rpm 2>&1")
	// The preset enables them, and nothing is started.
	s.run("systemctl is-enabled agentd.service agentd.socket agentd-admin.socket && ! systemctl is-active agentd.service")
	s.run("systemctl start agentd && agentctl status --wait 1m && agentctl app add billing.service --yes && agentctl app enable billing.service --yes && systemctl restart billing")
	s.want(`before=$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket); pid=$(systemctl show -p MainPID agentd)
`+dnf+`install /packages/new/agentctl-*.rpm /packages/new/agentd-*.rpm 2>&1
agentctl status --wait 1m >/dev/null
[ "$before" = "$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket)" ] || { echo "a socket was restarted"; exit 1; }
[ "$pid" != "$(systemctl show -p MainPID agentd)" ] || { echo "the service was not restarted"; exit 1; }
systemctl is-active agentd billing && rpm -q agentd`, "~vm2")
	out := s.run(rpmbuilt + `rpmbuilt billing 1 '%description\nd\n%install\nmkdir -p %{buildroot}/opt/billing; cp /usr/local/sbin/vmguest %{buildroot}/opt/billing/billing; printf 1 >>%{buildroot}/opt/billing/billing\n%files\n/opt/billing/billing\n'
` + dnf + `install /root/rpmbuild/RPMS/noarch/billing-1-1.noarch.rpm 2>&1`)
	digest := strings.TrimSpace(s.run("echo " + billingDigest))
	s.contains("the hook of dnf", out, []string{"/opt/billing/billing", digest})
	s.walk(rpmSteps)
	s.want(dnf+"install /packages/new/agentd-*.rpm 2>&1", "billing.service is measured before each start again")
	s.run("systemctl start agentd && agentctl status --wait 1m && systemctl restart billing && journalctl -u billing -o cat -n 5 --no-pager | grep 'billing measured'")
	s.run(dnf + "remove agentd agentctl 2>&1; systemctl restart billing.service")
}
