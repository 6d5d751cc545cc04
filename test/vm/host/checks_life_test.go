// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// covered returns since when billing is covered, and how often that was carried on.
func (s *session) covered() api.Covered {
	s.t.Helper()
	var list struct {
		Apps []struct {
			Name    string
			Covered *api.Covered
		}
	}
	s.must(json.Unmarshal([]byte(s.run("agentctl app list --json")), &list))
	for _, a := range list.Apps {
		if a.Name == "billing" && a.Covered != nil {
			return *a.Covered
		}
	}
	s.t.Fatalf("billing is not covered: %+v", list.Apps)
	panic("not reached")
}

// keepsCoverage checks that the coverage of an application goes on over a restart of the agent and
// over a crash, by what systemd keeps, and that a file that was touched meanwhile ends it (case 98).
func (s *session) keepsCoverage() {
	handedOver := func() {
		s.t.Helper()
		s.must(waitFor(s.ctx, patience, func() bool { return s.covered().EndsWithAgent == "" }))
	}
	handedOver()
	before := s.covered()
	for i, restart := range []string{
		"systemctl restart agentd",
		"p=$(systemctl show -p MainPID --value agentd); kill -KILL $p; until q=$(systemctl show -p MainPID --value agentd); [ \"$q\" != 0 ] && [ \"$q\" != \"$p\" ]; do :; done",
	} {
		s.run(restart + "; agentctl status --wait 5m >/dev/null")
		if now := s.covered(); now.Since != before.Since || now.Record != before.Record || now.Carried != before.Carried+uint64(i)+1 {
			s.t.Fatalf("after %s: covered %+v, before %+v", restart, now, before)
		}
		handedOver()
		s.accepts() // the application was not restarted
	}
	s.run("systemctl stop agentd && touch /opt/billing/billing")
	// Neither an upgrade nor the key TAB starts it by the socket.
	s.run(`test -z "$(agentctl app changes --if-running 2>&1)" && agentctl __complete measure --app "" 2>/dev/null | grep -q '^billing' && ! systemctl is-active -q agentd.service`)
	s.run("systemctl start agentd && agentctl status --wait 5m >/dev/null")
	if now := s.covered(); now.Since <= before.Since || now.Carried != 0 {
		s.t.Fatalf("its file was touched while no agent ran: covered %+v, before %+v", now, before)
	}
	n := nonce()
	if out := s.verifies(5, "billing", s.ask(n, "fresh"), n, s.digests...); !strings.Contains(out, "covered") {
		s.t.Fatalf("a process that started before its coverage: %s", out)
	}
	s.run("systemctl restart billing")
	s.stoppedBeside()
	s.accepts()
}

// stoppedBeside checks, after a stop of the agent, that evidence of another application is refused
// until the next boot for what may have happened to nginx meanwhile. It is accepted by a relying
// party who does not ask for that.
func (s *session) stoppedBeside() {
	s.t.Helper()
	if s.nginx == "" {
		return
	}
	n := nonce()
	if out := s.verifies(5, "billing", s.ask(n, "fresh"), n, s.digests...); !strings.Contains(out, "policy.app-covered") || !strings.Contains(out, "nginx") {
		s.t.Fatalf("nginx ran while no agent watched it: %s", out)
	}
	s.nginxOnly = "now"
}

// kills checks that the service restarts by itself after each kill, and gives evidence.
func (s *session) kills() {
	for i := range 10 {
		script := `p=$(systemctl show -p MainPID --value agentd); kill -KILL $p
for i in $(seq 600); do q=$(systemctl show -p MainPID --value agentd); [ "$q" != 0 ] && [ "$q" != "$p" ] && break; sleep 0.2; done
agentctl attest --anchored --nonce ` + nonce() + ` >/dev/null`
		s.t.Logf("kill %d", i+1)
		s.run(script)
	}
	s.accepts()
}

// packageUpgrade checks an upgrade of the package under load (case 84).
func (s *session) packageUpgrade() {
	out := s.run(`set -e
before=$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket agentd-credentials.socket)
touch /tmp/storm.on
for i in 1 2; do vmguest storm /tmp/storm.on >/tmp/storm.$i & done
sleep 2
DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/new/*.deb >/tmp/upgrade.log 2>&1 || { cat /tmp/upgrade.log; exit 1; }
sleep 3
rm /tmp/storm.on; wait
cat /tmp/storm.*
[ "$before" = "$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket agentd-credentials.socket)" ] || { echo "a socket was restarted"; exit 1; }
systemctl is-active agentd billing
dpkg-query -W agentd`)
	clients := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "answered ") {
			clients++
			if strings.HasPrefix(line, "answered 0 ") || !strings.Contains(line, "unanswered 0 ") {
				s.t.Fatalf("a client during the upgrade: %s", line)
			}
			s.t.Log("during the upgrade: ", line)
		}
	}
	if clients != 2 {
		s.t.Fatalf("clients during the upgrade: %s", out)
	}
	st := s.status()
	if st.AKName != s.akName {
		s.t.Fatalf("the attestation key changed: %s, was %s", st.AKName, s.akName)
	}
	s.accepts()
}

// sealedAfterUpgrade checks the secret that the older package sealed (case 79).
func (s *session) sealedAfterUpgrade() {
	s.want("dpkg-query -W -f '${Version}' agentd", "~vm2")
	s.opens()
}

// badConfiguration checks that systemd does not restart the service after exit code 78.
func (s *session) badConfiguration() {
	defer s.run("cp -p /root/config.toml /etc/agentd/ && systemctl reset-failed agentd.service agentd.socket agentd-admin.socket agentd-credentials.socket; systemctl restart agentd")
	s.want(`cp -p /etc/agentd/config.toml /root/ && echo '[tpm]
devise = "/dev/tpm0"' >/etc/agentd/config.toml
systemctl restart agentd && echo started
sleep 3
systemctl show -p NRestarts -p ExecMainStatus -p ActiveState agentd
journalctl -u agentd -n 20 -o cat --no-pager`, "NRestarts=0", "ExecMainStatus=78", "ActiveState=failed", "tpm.devise")
}

func (s *session) reboots() {
	s.must(s.machine.reboot(s.ctx))
	s.eventually("systemctl is-active agentd billing agentd-measured.target")
	st := s.status()
	if st.AKName != s.akName || s.akName == "" {
		s.t.Fatalf("attestation key %q after the reboot, was %q", st.AKName, s.akName)
	}
	s.digests = s.digests[len(s.digests)-1:] // in this boot only the new program was measured
	s.nginxOnly = ""
	// Started after the measurement, not merely measured.
	s.run(`t() { systemctl show -p ActiveEnterTimestampMonotonic --value $1; }; [ $(t agentd-measured.target) -le $(t billing.service) ]`)
	s.quiet()
	s.accepts()
}

func (s *session) oldEvidence() {
	s.verifies(2, "billing", s.old, nonce(), s.digests...)
}

// powerCut cuts the power while the agent records one change after the other (case 83).
func (s *session) powerCut() {
	s.run(`mkdir -p /opt/churn; date >/opt/churn/file
printf 'unit = "churn.service"\nuser = "root"\nfiles = ["/opt/churn/file"]\n' >/etc/agentd/apps.d/churn.toml
agentctl app reload; sync
` + sealOften + `
(bash -c 'while :; do printf x >>/opt/churn/file; agentctl measure --app churn; done' >/tmp/churn.log 2>&1 &)
until [ $(grep -c measured: /tmp/churn.log) -ge 3 ]; do sleep 0.1; done`)
	stored := s.sealedUntil()
	s.machine.cut()
	s.must(s.machine.start(s.ctx, direct))
	s.eventually("systemctl is-active agentd billing")
	st := s.status()
	if !st.Ledger.Synchronised || st.AKName != s.akName {
		s.t.Fatalf("after a power cut: %+v, attestation key was %s", st, s.akName)
	}
	// The agent must report what is on disk now, and not what it had recorded.
	says := s.appDigest("churn")
	s.want("agentctl policy reference /etc/agentd/apps.d/churn.toml", says)
	s.run("rm -f /etc/agentd/apps.d/churn.toml && agentctl app reload")
	s.quiet()
	s.opens()
	s.countedFrom(stored)
	s.accepts()
	// Evidence from before the cut must be refused now.
	s.oldEvidence()
}

// logDeleted checks that without its log the agent refuses evidence until the next boot.
func (s *session) logDeleted() {
	s.run("systemctl stop agentd.service && rm -rf /run/log/agentd && systemd-tmpfiles --create agentd.conf && systemctl start agentd.service")
	st := s.status()
	if st.Ledger.Synchronised {
		s.t.Fatalf("a deleted log was taken for a new boot: %+v", st)
	}
	s.fails("agentctl attest --nonce "+nonce(), "desynchronised")
	s.eventually("systemctl show -p StatusText agentd | grep log-desynchronised")
}

// noTPM checks the service on a machine without a TPM (case 78).
func (s *session) noTPM() {
	s.must(s.machine.shutDown(s.ctx))
	s.must(s.machine.start(s.ctx, withoutTPM))
	s.eventually("systemctl is-active agentd")
	st := s.status()
	if st.TPM.State != "absent" {
		s.t.Fatalf("status without a TPM: %+v", st)
	}
	s.fails("agentctl doctor", "BAD   TPM", "/dev/tpmrm0", "  so  agent's TPM")
	s.fails("agentctl attest --nonce "+nonce(), "hint:")
	s.eventually("systemctl show -p StatusText agentd | grep tpm-unavailable")
	s.want("systemctl show -p NRestarts agentd", "NRestarts=0")
}

// purge checks that the package leaves only what it names at its removal (case 79).
func (s *session) purge() {
	out := s.run("DEBIAN_FRONTEND=noninteractive apt-get purge -y agentd agentctl 2>&1")
	for _, w := range []string{"0x81000001", "/var/lib/agentd", "agentd-clients", "0x01800000", "/run/agentd-disks", "/etc/crypttab"} {
		if !strings.Contains(out, w) {
			s.t.Fatalf("purge does not name %s:\n%s", w, out)
		}
	}
	left := s.run(`find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \) -prune -o -name '*agentd*' -print
find /run -name '*agentd*' -not -path '/run/systemd/*' -not -path '/run/udev/*' -print
systemctl list-units --all 'agentd*.so*' 'agentd*.serv*' --no-legend --state=loaded
id agentd >/dev/null && echo user stays`)
	rest, stays := strings.CutSuffix(left, "user stays\n")
	if !stays {
		s.t.Fatal("the user was removed, although the package says that it is left in place")
	}
	if strings.TrimSpace(rest) != "" {
		s.t.Fatalf("files left in place:\n%s", rest)
	}
}
