// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// appEnabled declares and enables the application, and checks the order of events.
func (s *session) appEnabled(ctx context.Context) error {
	err := s.want(ctx, "agentctl app add billing.service --yes && agentctl app reload && agentctl app enable billing.service --yes && systemctl enable --now billing.service && cat /etc/systemd/system/billing.service.d/50-agentd.conf",
		"ExecStartPre=+/usr/bin/agentctl --admin /run/agentd/admin.sock measure --app billing")
	if err != nil {
		return err
	}
	if err := s.want(ctx, "systemctl show -p ExecStartPre billing.service; systemctl is-active agentd-measured.target", "measure --app billing", "active"); err != nil {
		return err
	}
	digest, err := s.appDigest(ctx, "billing")
	if err != nil {
		return err
	}
	s.digests = []string{digest}
	return s.want(ctx, `journalctl -u billing --no-pager -o cat`, "billing measured")
}

func (s *session) verifies(ctx context.Context) error {
	n := nonce()
	document, err := s.ask(ctx, n, "fresh")
	if err != nil {
		return err
	}
	s.old = document
	code, out, err := s.verify(ctx, document, n, s.digests...)
	if err != nil || code != 0 {
		return fmt.Errorf("verify: exit code %d, %v:\n%s", code, err, out)
	}
	// A verifier that wants another application refuses the same evidence.
	if code, out, err := s.verify(ctx, document, n, strings.Repeat("ab", 32)); err != nil || code != 5 {
		return fmt.Errorf("verify against another digest: exit code %d, want 5, %v:\n%s", code, err, out)
	}
	st, err := s.status(ctx)
	s.akName = st.AKName
	return err
}

func (s *session) outsider(ctx context.Context) error {
	if err := s.fails(ctx, "runuser -u alice -- agentctl attest --nonce "+nonce(), "permission denied"); err != nil {
		return err
	}
	return s.fails(ctx, "runuser -u billing -- agentctl app list", "permission denied")
}

// namespaceRoot checks root of a user namespace, with and without the client group (case 87).
func (s *session) namespaceRoot(ctx context.Context) error {
	for _, command := range []string{"agentctl app list", "agentctl measure --app billing", "agentctl app list --admin /run/agentd/agentd.sock"} {
		script := "setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user sh -c 'test $(id -u) = 0 && " + command + "'"
		if err := s.fails(ctx, script, "agentctl: "); err != nil {
			return err
		}
	}
	// Its rights are those of the user that it is outside.
	return s.want(ctx, "setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user agentctl self", "uid 1500")
}

// userUnit checks a unit of a user (case 86).
func (s *session) userUnit(ctx context.Context) error {
	if _, err := s.machine.run(ctx, "usermod -aG agentd-clients alice && systemctl start user@1500.service"); err != nil {
		return err
	}
	out, err := s.machine.run(ctx, `mkdir -p /home/alice/.config/systemd/user && chown -R alice:alice /home/alice/.config
printf '[Service]\nType=oneshot\nExecStart=/bin/sh -c "agentctl self --json >/home/alice/self.json"\n' >/home/alice/.config/systemd/user/billing.service
u() { setpriv --reuid=1500 --regid=1500 --init-groups env XDG_RUNTIME_DIR=/run/user/1500 systemctl --user "$@"; }
u daemon-reload && u start billing.service && cat /home/alice/self.json`)
	if err != nil {
		return err
	}
	var self struct {
		Unit, App string
		Measured  struct{ Yes bool }
		Keys      struct{ Yes bool }
	}
	if err := json.Unmarshal([]byte(out), &self); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if self.Unit != "user@1500.service" || self.App != "" || self.Measured.Yes || self.Keys.Yes {
		return fmt.Errorf("a unit of a user was identified as: %+v", self)
	}
	_, err = s.machine.run(ctx, "systemctl stop user@1500.service && gpasswd -d alice agentd-clients")
	return err
}

// unmeasurable checks that an application does not start while its file is missing. When
// the file is back it starts, and until the next boot a verifier is told that a measurement
// failed.
func (s *session) unmeasurable(ctx context.Context) error {
	if err := s.fails(ctx, "mv /opt/billing/billing /opt/billing/away && cp /usr/local/sbin/vmguest /opt/billing/other && systemctl restart billing.service"); err != nil {
		return err
	}
	if err := s.want(ctx, "journalctl -u billing -o cat --no-pager | tail -n 20", string(api.CodeMeasureFailed)); err != nil {
		return err
	}
	if _, err := s.machine.run(ctx, "rm /opt/billing/other; mv /opt/billing/away /opt/billing/billing && systemctl reset-failed billing && systemctl restart billing"); err != nil {
		return err
	}
	n := nonce()
	document, err := s.ask(ctx, n, "fresh")
	if err != nil {
		return err
	}
	code, out, err := s.verify(ctx, document, n, s.digests...)
	if err != nil || code != 5 || !strings.Contains(out, "policy.log-unmeasured") {
		return fmt.Errorf("evidence of a boot in which the application could not be measured: exit code %d, want 5 for policy.log-unmeasured, %v:\n%s", code, err, out)
	}
	return nil
}

// appUpgrade replaces and restarts the application under constant requests. Evidence of the
// new program must never be accepted as evidence of the old one.
func (s *session) appUpgrade(ctx context.Context) error {
	n := nonce()
	if _, err := s.ask(ctx, n, "anchored"); err != nil { // so that the agent knows the digest of the program
		return err
	}
	script := `set -e
rm -rf /tmp/load; mkdir /tmp/load; touch /tmp/load.on
(i=0; while [ -e /tmp/load.on ]; do i=$((i+1)); vmguest ask /run/billing/socket evidence ` + n + ` anchored >/tmp/load/$i 2>/dev/null || rm -f /tmp/load/$i; done) &
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
	out, err := s.machine.run(ctx, script)
	if err != nil {
		return err
	}
	lines := strings.Fields(out)
	if len(lines) < 2+4 {
		return fmt.Errorf("too little evidence was collected: %s", out)
	}
	programs := map[string]string{lines[0]: "old", lines[1]: "new", "": "unreadable"}
	old := s.digests[0]
	now, err := s.appDigest(ctx, "billing")
	if err != nil {
		return err
	}
	if now == old {
		return errors.New("the digest of the application did not change")
	}
	// The policy applies to all measurements since boot, so it lists both digests now.
	s.digests = []string{old, now}
	count := map[string]int{}
	for _, name := range lines[2:] {
		document, err := s.machine.run(ctx, "cat /tmp/load/"+name)
		if err != nil {
			return err
		}
		runs, err := callerProgram([]byte(document))
		if err != nil {
			return fmt.Errorf("evidence %s: %w", name, err)
		}
		count[programs[runs]]++
		forOld, says, err := s.verify(ctx, []byte(document), n, old)
		if err != nil {
			return err
		}
		forBoth, saysBoth, err := s.verify(ctx, []byte(document), n, old, now)
		if err != nil {
			return err
		}
		switch programs[runs] {
		case "old":
		case "unreadable":
			if forBoth == 0 {
				return fmt.Errorf("evidence %s is accepted although the program of its caller is unknown:\n%s", name, saysBoth)
			}
		case "new":
			if forOld == 0 {
				return fmt.Errorf("evidence %s of the new program is accepted for the old digest:\n%s", name, says)
			}
			if forBoth != 0 {
				return fmt.Errorf("evidence %s of the new program is refused although its digest is listed: exit code %d:\n%s", name, forBoth, saysBoth)
			}
		default:
			return fmt.Errorf("evidence %s names an unknown program %q", name, runs)
		}
	}
	if count["old"] == 0 || count["new"] == 0 {
		return fmt.Errorf("the load did not span the restart: %v", count)
	}
	fmt.Printf("test-vm: evidence of the old program %d times, of the new one %d times\n", count["old"], count["new"])
	return nil
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
