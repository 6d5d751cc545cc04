// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// kills checks that the service restarts by itself after each kill, and gives evidence.
func (s *session) kills(ctx context.Context) error {
	for i := range 10 {
		script := `p=$(systemctl show -p MainPID --value agentd); kill -KILL $p
for i in $(seq 600); do q=$(systemctl show -p MainPID --value agentd); [ "$q" != 0 ] && [ "$q" != "$p" ] && break; sleep 0.2; done
agentctl attest --anchored --nonce ` + nonce() + ` >/dev/null`
		if _, err := s.machine.run(ctx, script); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
	}
	_, err := s.accepts(ctx)
	return err
}

// packageUpgrade checks an upgrade of the package under load (case 84).
func (s *session) packageUpgrade(ctx context.Context) error {
	out, err := s.machine.run(ctx, `set -e
before=$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket)
touch /tmp/storm.on
for i in 1 2; do vmguest storm /tmp/storm.on >/tmp/storm.$i & done
sleep 2
DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/new.deb >/tmp/upgrade.log 2>&1 || { cat /tmp/upgrade.log; exit 1; }
sleep 3
rm /tmp/storm.on; wait
cat /tmp/storm.*
[ "$before" = "$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket)" ] || { echo "a socket was restarted"; exit 1; }
systemctl is-active agentd billing
dpkg-query -W agentd`)
	if err != nil {
		return err
	}
	clients := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "answered ") {
			clients++
			if strings.HasPrefix(line, "answered 0 ") || !strings.Contains(line, "unanswered 0 ") {
				return fmt.Errorf("a client during the upgrade: %s", line)
			}
			fmt.Print("test-vm: during the upgrade: ", line)
		}
	}
	if clients != 2 {
		return fmt.Errorf("clients during the upgrade: %s", out)
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.AKName != s.akName {
		return fmt.Errorf("the attestation key changed: %s, was %s", st.AKName, s.akName)
	}
	_, err = s.accepts(ctx)
	return err
}

// sealedAfterUpgrade checks the secret that the older package sealed (case 79).
func (s *session) sealedAfterUpgrade(ctx context.Context) error {
	if err := s.want(ctx, "dpkg-query -W -f '${Version}' agentd", "~vm2"); err != nil {
		return err
	}
	return s.opens(ctx)
}

// badConfiguration checks that systemd does not restart the service after exit code 78.
func (s *session) badConfiguration(ctx context.Context) error {
	err := s.want(ctx, `cp -p /etc/agentd/config.toml /root/ && echo '[tpm]
devise = "/dev/tpm0"' >/etc/agentd/config.toml
systemctl restart agentd && echo started
sleep 3
systemctl show -p NRestarts -p ExecMainStatus -p ActiveState agentd
journalctl -u agentd -n 20 -o cat --no-pager`, "NRestarts=0", "ExecMainStatus=78", "ActiveState=failed", "tpm.devise")
	_, fixed := s.machine.run(ctx, "cp -p /root/config.toml /etc/agentd/ && systemctl reset-failed agentd.service agentd.socket agentd-admin.socket; systemctl restart agentd")
	return errors.Join(err, fixed)
}

func (s *session) reboots(ctx context.Context) error {
	if err := s.machine.reboot(ctx); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, patience, "systemctl is-active agentd billing agentd-measured.target"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.AKName != s.akName || s.akName == "" {
		return fmt.Errorf("attestation key %q after the reboot, was %q", st.AKName, s.akName)
	}
	s.digests = s.digests[len(s.digests)-1:] // in this boot only the new program was measured
	// Started after the measurement, not merely measured.
	if _, err := s.machine.run(ctx, `t() { systemctl show -p ActiveEnterTimestampMonotonic --value $1; }; [ $(t agentd-measured.target) -le $(t billing.service) ]`); err != nil {
		return err
	}
	if err := s.quiet(ctx); err != nil {
		return err
	}
	_, err = s.accepts(ctx)
	return err
}

func (s *session) oldEvidence(ctx context.Context) error {
	code, out, err := s.verify(ctx, s.old, nonce(), s.digests...)
	if err != nil || code != 2 {
		return fmt.Errorf("old evidence against a new nonce: exit code %d, want 2, %v:\n%s", code, err, out)
	}
	return nil
}

// powerCut cuts the power while the agent records one change after the other (case 83).
func (s *session) powerCut(ctx context.Context) error {
	if _, err := s.machine.run(ctx, `mkdir -p /opt/churn; date >/opt/churn/file
printf 'unit = "churn.service"\nuser = "root"\nfiles = ["/opt/churn/file"]\n' >/etc/agentd/apps.d/churn.toml
agentctl app reload; sync
`+sealOften+`
(bash -c 'while :; do printf x >>/opt/churn/file; agentctl measure --app churn; done' >/tmp/churn.log 2>&1 &)
until [ $(grep -c measured: /tmp/churn.log) -ge 3 ]; do sleep 0.1; done`); err != nil {
		return err
	}
	stored, err := s.sealedUntil(ctx)
	if err != nil {
		return err
	}
	s.machine.cut()
	if err := s.machine.start(ctx, true); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, patience, "systemctl is-active agentd billing"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if !st.Ledger.Synchronised || st.AKName != s.akName {
		return fmt.Errorf("after a power cut: %+v, attestation key was %s", st, s.akName)
	}
	// The agent must report what is on disk now, and not what it had recorded.
	says, err := s.appDigest(ctx, "churn")
	if err != nil {
		return err
	}
	if err := s.want(ctx, "agentctl policy reference /etc/agentd/apps.d/churn.toml", says); err != nil {
		return err
	}
	if _, err := s.machine.run(ctx, "rm -f /etc/agentd/apps.d/churn.toml && agentctl app reload"); err != nil {
		return err
	}
	if err := errors.Join(s.quiet(ctx), s.opens(ctx), s.countedFrom(ctx, stored)); err != nil {
		return err
	}
	if _, err = s.accepts(ctx); err != nil {
		return err
	}
	// Evidence from before the cut must be refused now.
	return s.oldEvidence(ctx)
}

// logDeleted checks that without its log the agent refuses evidence until the next boot.
func (s *session) logDeleted(ctx context.Context) error {
	if _, err := s.machine.run(ctx, "systemctl stop agentd.service && rm -rf /run/log/agentd && systemd-tmpfiles --create agentd.conf && systemctl start agentd.service"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Ledger.Synchronised {
		return fmt.Errorf("a deleted log was taken for a new boot: %+v", st)
	}
	if err := s.fails(ctx, "agentctl attest --nonce "+nonce(), "desynchronised"); err != nil {
		return err
	}
	return s.eventually(ctx, patience, "systemctl show -p StatusText agentd | grep 'not in step'")
}

// noTPM checks the service on a machine without a TPM (case 78).
func (s *session) noTPM(ctx context.Context) error {
	if err := s.machine.shutDown(ctx); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.machine.start(ctx, false); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, patience, "systemctl is-active agentd"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.TPM.State != "absent" {
		return fmt.Errorf("status without a TPM: %+v", st)
	}
	if err := s.fails(ctx, "agentctl doctor", "BAD   agent's TPM", "/dev/tpmrm0"); err != nil {
		return err
	}
	if err := s.fails(ctx, "agentctl attest --nonce "+nonce(), "hint:"); err != nil {
		return err
	}
	if err := s.eventually(ctx, patience, "systemctl show -p StatusText agentd | grep 'the TPM is absent'"); err != nil {
		return err
	}
	return s.want(ctx, "systemctl show -p NRestarts agentd", "NRestarts=0")
}

// purge checks that the package leaves only what it names at its removal (case 79).
func (s *session) purge(ctx context.Context) error {
	out, err := s.machine.run(ctx, "DEBIAN_FRONTEND=noninteractive apt-get purge -y agentd 2>&1")
	if err != nil {
		return err
	}
	for _, w := range []string{"0x81000001", "/var/lib/agentd", "agentd-clients", "0x01800000"} {
		if !strings.Contains(out, w) {
			return fmt.Errorf("purge does not name %s:\n%s", w, out)
		}
	}
	left, err := s.machine.run(ctx, `find / -xdev \( -path /proc -o -path /sys -o -path /var/lib/dpkg -o -path /var/log -o -path /var/cache \) -prune -o -name '*agentd*' -print
find /run -name '*agentd*' -not -path '/run/systemd/*' -not -path '/run/udev/*' -print
systemctl list-units --all 'agentd*.so*' 'agentd*.serv*' --no-legend --state=loaded
id agentd >/dev/null && echo user stays`)
	if err != nil {
		return err
	}
	rest, stays := strings.CutSuffix(left, "user stays\n")
	if !stays {
		return errors.New("the user was removed, although the package says that it is left in place")
	}
	if strings.TrimSpace(rest) != "" {
		return fmt.Errorf("files left in place:\n%s", rest)
	}
	return nil
}
