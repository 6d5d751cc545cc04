// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// appEnabled declares and enables the application, and checks the order of events.
func (s *session) appEnabled() {
	// The operator's service runs before. Both documents are followed to the letter.
	s.run("systemctl enable --now billing.service")
	installing, using := s.installing()
	s.session(using)
	s.run("agentctl app disable billing.service && rm /etc/agentd/apps.d/billing.toml && agentctl app reload && systemctl restart billing.service")
	s.session(s.operating(installing))
	s.want("systemctl is-active billing.service && cat /etc/systemd/system/billing.service.d/50-agentd.conf",
		"active\n", "ExecStartPre=+/usr/bin/agentctl --admin /run/agentd/admin.sock measure --app billing")
	s.want("systemctl show -p ExecStartPre billing.service; systemctl is-active agentd-measured.target", "measure --app billing", "active")
	s.digests = []string{s.appDigest("billing")}
	s.want(`journalctl -u billing --no-pager -o cat`, "billing measured")
}

func (s *session) evidence() {
	n := nonce()
	s.old = s.ask(n, "fresh")
	s.verifies(0, "billing", s.old, n, s.digests...)
	// A verifier that wants another application refuses the same evidence.
	s.verifies(5, "billing", s.old, n, strings.Repeat("ab", 32))
	s.akName = s.status().AKName
}

func (s *session) outsider() {
	s.fails("runuser -u alice -- agentctl attest --nonce "+nonce(), "permission denied")
	s.fails("runuser -u billing -- agentctl app list", "permission denied")
}

// namespaceRoot checks root of a user namespace, with and without the client group (case 87).
func (s *session) namespaceRoot() {
	for _, command := range []string{"agentctl app list", "agentctl measure --app billing", "agentctl app list --admin /run/agentd/agentd.sock"} {
		script := "setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user sh -c 'test $(id -u) = 0 && " + command + "'"
		s.fails(script, "agentctl: ")
	}
	// Its rights are those of the user that it is outside.
	s.want("setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user agentctl self", "uid 1500")
}

// userUnit checks a unit of a user (case 86).
func (s *session) userUnit() {
	s.run("usermod -aG agentd-clients alice && systemctl start user@1500.service")
	out := s.run(`mkdir -p /home/alice/.config/systemd/user && chown -R alice:alice /home/alice/.config
printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "agentctl self --json >/home/alice/self.json"\n' >/home/alice/.config/systemd/user/billing.service
u() { setpriv --reuid=1500 --regid=1500 --init-groups env XDG_RUNTIME_DIR=/run/user/1500 systemctl --user "$@"; }
u daemon-reload && u start billing.service && cat /home/alice/self.json`)
	var self struct {
		Unit, App string
		Measured  struct{ Yes bool }
		Keys      struct{ Yes bool }
	}
	if err := json.Unmarshal([]byte(out), &self); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	if self.Unit != "user@1500.service" || self.App != "" || self.Measured.Yes || self.Keys.Yes {
		s.t.Fatalf("a unit of a user was identified as: %+v", self)
	}
	s.run("systemctl stop user@1500.service && gpasswd -d alice agentd-clients")
}

// unmeasurable checks that an application does not start while its file is missing. When
// the file is back it starts, and a verifier accepts it that asks since when its process was
// watched. One that asks for all time since boot is told, until the next boot, that a
// measurement failed.
func (s *session) unmeasurable() {
	s.fails("mv /opt/billing/billing /opt/billing/away && cp /usr/local/sbin/vmguest /opt/billing/other && systemctl restart billing.service")
	s.want("journalctl -u billing -o cat --no-pager | tail -n 20", string(api.CodeMeasureFailed))
	s.run("rm /opt/billing/other; mv /opt/billing/away /opt/billing/billing && systemctl reset-failed billing && systemctl restart billing")
	s.accepts()
	s.watched = "unbroken"
	defer func() { s.watched = "" }()
	n := nonce()
	if out := s.verifies(5, "billing", s.ask(n, "fresh"), n, s.digests...); !strings.Contains(out, "policy.app-covered") {
		s.t.Fatalf("evidence of a boot in which the application could not be measured: want a refusal for policy.app-covered:\n%s", out)
	}
}

// appUpgrade replaces and restarts the application under constant requests. Evidence of the
// new program must never be accepted as evidence of the old one. An answer that the application did
// not finish, since it was stopped, does not count.
func (s *session) appUpgrade() {
	n := nonce()
	s.ask(n, "anchored") // so that the agent knows the digest of the program
	script := `set -e
rm -rf /tmp/load; mkdir /tmp/load; touch /tmp/load.on
(i=0; while [ -e /tmp/load.on ]; do i=$((i+1)); vmguest ask /run/billing/socket evidence ` + n + ` anchored >/tmp/load/$i 2>/dev/null && jq -e .statement /tmp/load/$i >/dev/null 2>&1 || rm -f /tmp/load/$i; done) &
seen() { jq -r .statement "/tmp/load/$(ls -t /tmp/load | head -n 1)" | base64 -d | jq -e .caller.executable.digest >/dev/null; }
more() { n=$(ls /tmp/load | wc -l); until [ $(ls /tmp/load | wc -l) -ge $((n+4)) ] && seen; do sleep 0.1; done 2>/dev/null; }
more
cp /opt/billing/billing /opt/billing/.new; printf v2 >>/opt/billing/.new
mv /opt/billing/.new /opt/billing/billing
systemctl restart billing.service
more
rm /tmp/load.on; wait
sha256sum /usr/local/sbin/vmguest /opt/billing/billing | cut -c 1-64
ls /tmp/load | sort -n`
	out := s.run(script)
	lines := strings.Fields(out)
	if len(lines) < 2+4 {
		s.t.Fatalf("too little evidence was collected: %s", out)
	}
	programs := map[string]string{lines[0]: "old", lines[1]: "new", "": "unreadable"}
	old := s.digests[0]
	now := s.appDigest("billing")
	if now == old {
		s.t.Fatal("the digest of the application did not change")
	}
	// The policy applies to all measurements since boot, so it lists both digests now.
	s.digests = []string{old, now}
	count := map[string]int{}
	for _, name := range lines[2:] {
		document := []byte(s.run("cat /tmp/load/" + name))
		runs, err := callerProgram(document)
		if err != nil {
			s.t.Fatalf("evidence %s: %v", name, err)
		}
		count[programs[runs]]++
		forOld, says := s.verify("billing", document, n, old)
		forBoth, saysBoth := s.verify("billing", document, n, old, now)
		switch programs[runs] {
		case "old":
		case "unreadable":
			if forBoth == 0 {
				s.t.Fatalf("evidence %s is accepted although the program of its caller is unknown:\n%s", name, saysBoth)
			}
		case "new":
			if forOld == 0 {
				s.t.Fatalf("evidence %s of the new program is accepted for the old digest:\n%s", name, says)
			}
			if forBoth != 0 {
				s.t.Fatalf("evidence %s of the new program is refused although its digest is listed: exit code %d:\n%s", name, forBoth, saysBoth)
			}
		default:
			s.t.Fatalf("evidence %s names an unknown program %q", name, runs)
		}
	}
	if count["old"] == 0 || count["new"] == 0 {
		s.t.Fatalf("the load did not span the restart: %v", count)
	}
	s.t.Logf("evidence of the old program %d times, of the new one %d times", count["old"], count["new"])
}

// callerProgram returns the digest of the executable that the statement names, or "" if the
// agent could not read the program.
func callerProgram(document []byte) (string, error) {
	var e struct{ Statement string }
	if err := json.Unmarshal(document, &e); err != nil {
		return "", err
	}
	b, err := base64.StdEncoding.DecodeString(e.Statement)
	if err != nil {
		return "", err
	}
	var st struct {
		Caller struct {
			Executable struct{ State, Digest string }
		}
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return "", err
	}
	if st.Caller.Executable.State == "unreadable" {
		return "", nil
	}
	d, err := base64.StdEncoding.DecodeString(st.Caller.Executable.Digest)
	if err != nil || len(d) != 32 {
		return "", fmt.Errorf("caller without the digest of a program: %s", b)
	}
	return fmt.Sprintf("%x", d), nil
}
