// SPDX-License-Identifier: Apache-2.0

package host

import "strings"

// configFS checks reports by configfs-tsm. First the kernel has that and no driver for it: the unit
// that makes the entry is skipped. Then the machine has no /dev/sev-guest, and the agent makes
// evidence by an entry that it could not make itself; twenty kills leave one entry. Then it has
// both. In the end the device is alone again.
func (s *session) configFS() {
	const entry = "/sys/kernel/config/tsm/report/agentd"
	s.want("systemctl show -p ActiveState,Result agentd-configfs; modprobe tsm && systemctl start sys-kernel-config.mount && ls -d /sys/kernel/config/tsm/report",
		"ActiveState=inactive", "Result=", "/sys/kernel/config/tsm/report")
	s.run("systemctl restart agentd-configfs; systemctl is-failed agentd-configfs; test $(systemctl is-active agentd-configfs) = inactive && test ! -e " + entry)

	s.run("systemctl stop sevguest && test ! -e /dev/sev-guest && systemctl start tsm && systemctl restart agentd-configfs && systemctl restart agentd")
	s.want("stat -c '%U %a' "+entry+"/inblob "+entry+"/outblob "+entry+"/generation; stat -c '%U %a' /sys/kernel/config/tsm/report", "agentd 200\nagentd 400\nagentd 444\nroot 755\n")
	s.accepts()
	s.way("configfs", false)
	for i := range 20 {
		s.t.Logf("kill %d", i+1)
		s.run(`p=$(systemctl show -p MainPID --value agentd); agentctl attest --nonce ` + nonce() + ` >/dev/null 2>&1 & kill -KILL $p
for i in $(seq 600); do q=$(systemctl show -p MainPID --value agentd); [ "$q" != 0 ] && [ "$q" != "$p" ] && break; sleep 0.2; done
wait; agentctl status --wait 5m >/dev/null; test "$(ls /sys/kernel/config/tsm/report)" = agentd`)
	}
	s.accepts()

	s.run("systemctl start sevguest && systemctl restart agentd")
	s.accepts()
	s.way("configfs", true)
	s.run("systemctl stop agentd-configfs && test ! -e " + entry + " && systemctl stop tsm && systemctl restart agentd")
	s.accepts()
	s.way("sev-guest", true)
	s.run("systemctl reset-failed agentd")
}

// svsm checks reports of an SVSM's service, by the same interface. The double has the first version
// of the manifest, which names the endorsement key of this machine's TPM.
func (s *session) svsm() {
	s.run("systemctl stop sevguest && systemctl start tsm-svsm && systemctl restart agentd-configfs && systemctl restart agentd")
	s.want("stat -c '%U %a' /sys/kernel/config/tsm/report/agentd/service_provider /sys/kernel/config/tsm/report/agentd/manifestblob", "agentd 200\nagentd 400\n")
	s.want("agentctl attest --nonce "+nonce()+" | jq -r '.. | .kind? // empty'", "sev-snp-svsm")
	if p := s.status().Platform; p.State != "ok" || p.Source != "svsm" || p.Machine != "svsm" {
		s.t.Fatalf("%+v", p)
	}
	s.run("systemctl stop agentd-configfs && systemctl stop tsm-svsm && systemctl start sevguest && systemctl restart agentd")
	s.accepts()
	s.way("sev-guest", true)
}

// way checks by which way reports come, and whether the agent says that there are no keys.
func (s *session) way(source string, keys bool) {
	s.t.Helper()
	p := s.status().Platform
	if p.State != "ok" || p.Source != source || p.Machine != "sev-snp" || strings.Contains(p.Why, "no derived keys") == keys {
		s.t.Fatalf("%+v, want %s, derived keys %v", p, source, keys)
	}
}
