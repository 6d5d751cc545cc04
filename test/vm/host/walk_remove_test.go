// SPDX-License-Identifier: Apache-2.0

package host

import "github.com/cvm-agentd/agentd/api"

// troubleSteps are those of an operator who looks for a fault.
var troubleSteps = []step{
	{page: operatingPage, line: "systemctl status agentd", says: []string{"Status: "}},
	{page: operatingPage, line: "agentctl status"},
	{page: operatingPage, line: "agentctl doctor", says: []string{"Verdict: "}},
	{page: operatingPage, line: "journalctl -u agentd -p warning"},
	{page: operatingPage, line: "agentd --check", says: []string{"/etc/agentd/config.toml:", "devise"}, code: 78,
		before: `cp -p /etc/agentd/config.toml /root/ && printf '[tpm]\ndevise = "/dev/tpm0"\n' >/etc/agentd/config.toml; systemctl restart agentd; true`},
	{page: operatingPage, line: "systemctl reset-failed agentd.service agentd.socket agentd-admin.socket; systemctl restart agentd",
		before: "cp -p /root/config.toml /etc/agentd/", after: "agentctl status --wait 1m && systemctl is-active agentd agentd.socket agentd-admin.socket"},
	{page: operatingPage, line: "systemctl status NAME", with: []string{"NAME", "billing"}, code: 3, says: []string{string(api.CodeMeasureFailed)},
		before: "mv /opt/billing/billing /opt/billing/away; agentctl app reload; systemctl restart billing; true",
		after:  "mv /opt/billing/away /opt/billing/billing && systemctl reset-failed billing && systemctl restart billing"},
}

func (s *session) walkTrouble() { s.walk(troubleSteps) }

// removeSteps are those of an operator who removes the packages.
var removeSteps = []step{
	{page: operatingPage, line: "apt remove agentd", says: []string{"billing.service is NOT MEASURED any more", "50-agentd.conf.removed-with-agentd"},
		after: "systemctl restart billing.service && systemctl is-active billing.service && systemctl is-enabled billing.service"},
	{page: operatingPage, line: "apt install ./dist/*.deb", says: []string{"billing.service is measured before each start again"},
		after: "agentctl status --wait 1m && systemctl restart billing.service && journalctl -u billing -o cat -n 5 --no-pager | grep 'billing measured'"},
	{page: operatingPage, line: "apt purge agentd", says: []string{"removed /var/lib/agentd", "0x81000001"},
		after: "systemctl restart billing.service && systemctl is-active billing.service && ! ls -d /etc/agentd /var/lib/agentd /run/agentd /etc/systemd/system/billing.service.d"},
	{page: operatingPage, line: "tpm2_evictcontrol -c 0x81000001"},
}

func (s *session) walkRemove() {
	s.walk(removeSteps)
	s.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y agentctl")
}
