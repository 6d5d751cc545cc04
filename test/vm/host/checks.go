package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// checks are all there are, in their order. The machine goes through an operator's year:
// installed, used, upgraded, mistreated, purged.
var checks = []check{
	{"boots-with-tpm", true, (*session).boots},
	{"package-installs-by-apt", true, (*session).installs},
	{"confined-as-its-own-user", false, (*session).confined},
	{"no-snp-device-no-crash-loop", false, (*session).noReports},
	{"journal-clean", false, (*session).journalClean},
	{"app-measured-before-start", true, (*session).appEnabled},
	{"evidence-verifies-outside", true, (*session).verifies},
	{"outsider-refused-by-socket", false, (*session).outsider},
	{"namespace-root-no-administration", false, (*session).namespaceRoot},
	{"user-unit-is-not-the-app", false, (*session).userUnit},
	{"app-upgrade-under-load", false, (*session).appUpgrade},
	{"ten-kills-in-a-row", false, (*session).kills},
	{"package-upgrade-under-load", false, (*session).packageUpgrade},
	{"unmeasurable-app-does-not-start", false, (*session).unmeasurable},
	{"bad-configuration-not-restarted", false, (*session).badConfiguration},
	{"reboot-same-key", true, (*session).reboots},
	{"old-evidence-refused", false, (*session).oldEvidence},
	{"power-cut-while-measuring", true, (*session).powerCut},
	{"log-deleted-desynchronised", false, (*session).logDeleted},
	{"no-tpm-no-crash-loop", true, (*session).noTPM},
	{"purge-leaves-what-it-names", false, (*session).purge},
}

func (s *session) boots(ctx context.Context) error {
	if err := s.machine.start(ctx, true); err != nil {
		return err
	}
	return s.want(ctx, "uname -r; test -c /dev/tpmrm0 && test -c /dev/sev-guest && echo devices", "devices")
}

// installs installs the older package, over the file system that it came on.
func (s *session) installs(ctx context.Context) error {
	// No report device yet: the next checks look at what that does.
	if _, err := s.machine.run(ctx, "systemctl stop sevguest && mkdir -p /packages && mount -o ro /dev/vdb /packages && DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/old.deb"); err != nil {
		return err
	}
	if err := s.eventually(ctx, time.Minute, "systemctl is-active agentd.service agentd.socket agentd-admin.socket"); err != nil {
		return err
	}
	return s.want(ctx, "stat -c '%U:%G %a' /run/agentd/agentd.sock /run/agentd/admin.sock /var/lib/agentd /run/log/agentd /dev/tpmrm0; systemctl is-enabled agentd.service",
		"root:agentd-clients 660", "root:root 600", "agentd:agentd 700\nagentd:agentd 700", ":tss 660", "enabled")
}

func (s *session) confined(ctx context.Context) error {
	err := s.want(ctx, `p=$(systemctl show -p MainPID --value agentd); grep -E '^(Uid|NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/$p/status | tr '\t' ' '; id -u agentd`,
		"NoNewPrivs: 1", "Seccomp: 2", "CapEff: 0000000000080004", "CapBnd: 0000000000080004")
	if err != nil {
		return err
	}
	if _, err := s.machine.run(ctx, `p=$(systemctl show -p MainPID --value agentd); test "$(stat -c %U /proc/$p)" = agentd`); err != nil {
		return err
	}
	out, err := s.machine.run(ctx, "systemd-analyze security agentd.service | grep -o 'exposure level for agentd.service: [0-9.]*' | grep -o '[0-9.]*$'")
	if err != nil {
		return err
	}
	if score, err := strconv.ParseFloat(strings.TrimSpace(out), 64); err != nil || score > 1.5 {
		return fmt.Errorf("exposure %q, want at most 1.5", out)
	}
	return nil
}

// noReports: case 78, without the report device.
func (s *session) noReports(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Platform.State != "absent" || st.TPM.State != "ok" || !st.Ledger.Synchronised {
		return fmt.Errorf("status without a report device: %+v", st)
	}
	if err := s.fails(ctx, "agentctl doctor", "BAD   agent's reports", "/dev/sev-guest"); err != nil {
		return err
	}
	if err := s.want(ctx, "systemctl show -p NRestarts -p StatusText agentd", "NRestarts=0", "there is no report device"); err != nil {
		return err
	}
	// The device is allowed to the service by its name when that starts.
	_, err = s.machine.run(ctx, "systemctl start sevguest && systemctl restart agentd && agentctl attest --nonce "+nonce()+" >/dev/null")
	return err
}

func (s *session) journalClean(ctx context.Context) error {
	out, err := s.machine.run(ctx, `journalctl -u agentd -o json _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value agentd) --no-pager`)
	if err != nil {
		return err
	}
	lines := 0
	for line := range strings.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return fmt.Errorf("journal: %w: %s", err, line)
		}
		if p, _ := r["PRIORITY"].(string); p == "" || p < "5" {
			return fmt.Errorf("record of priority %q: %v", p, r["MESSAGE"])
		}
		if r["MESSAGE"] != nil {
			lines++
		}
	}
	if lines == 0 {
		return errors.New("the journal holds nothing of agentd")
	}
	return s.want(ctx, "journalctl -u agentd -o json --no-pager | grep -c AGENTD_ || true; journalctl -u agentd -o json --no-pager", "AGENTD_")
}

// appEnabled declares and enables the application, and looks at the order of things.
func (s *session) appEnabled(ctx context.Context) error {
	err := s.want(ctx, "agentctl app add billing.service --yes && agentctl app reload && agentctl app enable billing.service --yes && systemctl enable --now billing.service && cat /etc/systemd/system/billing.service.d/50-agentd.conf",
		"ExecStartPre=+/usr/bin/agentctl measure --app billing")
	if err != nil {
		return err
	}
	if err := s.want(ctx, "systemctl show -p ExecStartPre billing.service; systemctl is-active agentd-measured.target", "measure --app billing", "active"); err != nil {
		return err
	}
	digest, err := s.appDigest(ctx)
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
	// The same evidence is refused by whoever wants another application.
	if code, out, err := s.verify(ctx, document, n, strings.Repeat("0", 64)); err != nil || code != 5 {
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

// namespaceRoot: case 87. Root of a user namespace, with the client group or without.
func (s *session) namespaceRoot(ctx context.Context) error {
	for _, command := range []string{"agentctl app list", "agentctl measure --app billing", "agentctl app list --admin /run/agentd/agentd.sock"} {
		script := "setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user sh -c 'test $(id -u) = 0 && " + command + "'"
		if err := s.fails(ctx, script, "agentctl: "); err != nil {
			return err
		}
	}
	// What it may do, it does as the user that it is outside.
	return s.want(ctx, "setpriv --reuid=1500 --regid=1500 --groups=$(getent group agentd-clients | cut -d: -f3) unshare --user --map-root-user agentctl self", "uid 1500")
}

// userUnit: case 86.
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
	}
	if err := json.Unmarshal([]byte(out), &self); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if self.Unit != "user@1500.service" || self.App != "" || self.Measured.Yes {
		return fmt.Errorf("a user's unit is taken for: %+v", self)
	}
	_, err = s.machine.run(ctx, "systemctl stop user@1500.service && gpasswd -d alice agentd-clients")
	return err
}

// unmeasurable: an application whose file is gone does not start. Once the file is back
// it starts, and for the rest of this boot a verifier hears that something went
// unmeasured.
func (s *session) unmeasurable(ctx context.Context) error {
	if err := s.fails(ctx, "mv /opt/billing/billing /opt/billing/away && cp /usr/local/sbin/vmguest /opt/billing/other && systemctl restart billing.service"); err != nil {
		return err
	}
	if err := s.want(ctx, "journalctl -u billing -o cat --no-pager | tail -n 20", "measurement-failed"); err != nil {
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

// appUpgrade replaces the application and restarts it while it is asked all the time.
// Evidence of the new program must never pass for the old one.
func (s *session) appUpgrade(ctx context.Context) error {
	n := nonce()
	script := `set -e
rm -rf /tmp/load; mkdir /tmp/load; touch /tmp/load.on
(i=0; while [ -e /tmp/load.on ]; do i=$((i+1)); vmguest ask /run/billing/socket ` + n + ` anchored >/tmp/load/$i 2>/dev/null || rm -f /tmp/load/$i; done) &
sleep 3
cp /opt/billing/billing /opt/billing/.new; printf v2 >>/opt/billing/.new
mv /opt/billing/.new /opt/billing/billing
systemctl restart billing.service
sleep 3
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
	programs := map[string]string{lines[0]: "old", lines[1]: "new"}
	old := s.digests[0]
	now, err := s.appDigest(ctx)
	if err != nil {
		return err
	}
	if now == old {
		return errors.New("the digest of the application did not change")
	}
	// Digests apply to everything that was measured since boot, so both are listed now.
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
		case "new":
			if forOld == 0 {
				return fmt.Errorf("evidence %s of the new program passes for the old digest:\n%s", name, says)
			}
			if forBoth != 0 {
				return fmt.Errorf("evidence %s of the new program is refused where its digest is listed: exit code %d:\n%s", name, forBoth, saysBoth)
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

// callerProgram is the digest of the executable that the statement of evidence names.
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
			Executable struct{ Digest string }
		}
	}
	if err := json.Unmarshal(b, &st); err != nil {
		return "", err
	}
	d, err := base64.StdEncoding.DecodeString(st.Caller.Executable.Digest)
	if err != nil || len(d) != 32 {
		return "", fmt.Errorf("caller without the digest of a program: %s", b)
	}
	return fmt.Sprintf("%x", d), nil
}

// kills: the service comes back by itself each time, and with evidence.
func (s *session) kills(ctx context.Context) error {
	for i := range 10 {
		script := `p=$(systemctl show -p MainPID --value agentd); kill -KILL $p
for i in $(seq 600); do q=$(systemctl show -p MainPID --value agentd); [ "$q" != 0 ] && [ "$q" != "$p" ] && break; sleep 0.05; done
agentctl attest --anchored --nonce ` + nonce() + ` >/dev/null`
		if _, err := s.machine.run(ctx, script); err != nil {
			return fmt.Errorf("kill %d: %w", i+1, err)
		}
	}
	_, err := s.accepts(ctx)
	return err
}

// packageUpgrade: case 84, by a whole package.
func (s *session) packageUpgrade(ctx context.Context) error {
	out, err := s.machine.run(ctx, `set -e
before=$(systemctl show -p ActiveEnterTimestampMonotonic agentd.socket agentd-admin.socket)
touch /tmp/storm.on
for i in 1 2 3; do vmguest storm /tmp/storm.on >/tmp/storm.$i & done
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
	if clients != 3 {
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

// badConfiguration: exit code 78 is not tried again by itself.
func (s *session) badConfiguration(ctx context.Context) error {
	err := s.want(ctx, `echo '[tpm]
devise = "/dev/tpm0"' >/etc/agentd/config.toml
systemctl restart agentd && echo started
sleep 3
systemctl show -p NRestarts -p ExecMainStatus -p ActiveState agentd
journalctl -u agentd -n 20 -o cat --no-pager`, "NRestarts=0", "ExecMainStatus=78", "ActiveState=failed", "tpm.devise")
	_, fixed := s.machine.run(ctx, "cp /dev/null /etc/agentd/config.toml && systemctl reset-failed agentd.service agentd.socket agentd-admin.socket; systemctl restart agentd")
	return errors.Join(err, fixed)
}

func (s *session) reboots(ctx context.Context) error {
	if err := s.machine.reboot(ctx); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, 30*time.Second, "systemctl is-active agentd billing agentd-measured.target"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.AKName != s.akName || s.akName == "" {
		return fmt.Errorf("attestation key %q after the reboot, was %q", st.AKName, s.akName)
	}
	s.digests = s.digests[len(s.digests)-1:] // this boot saw the new program alone
	// Started after the measurement, not merely measured.
	if _, err := s.machine.run(ctx, `t() { systemctl show -p ActiveEnterTimestampMonotonic --value $1; }; [ $(t agentd-measured.target) -le $(t billing.service) ]`); err != nil {
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

// powerCut: case 83. The power goes while the agent records one change after the other.
func (s *session) powerCut(ctx context.Context) error {
	if _, err := s.machine.run(ctx, `mkdir -p /opt/churn; date >/opt/churn/file
printf 'unit = "churn.service"\nuser = "root"\nfiles = ["/opt/churn/file"]\n' >/etc/agentd/apps.d/churn.toml
agentctl app reload; sync
(bash -c 'while :; do printf x >>/opt/churn/file; agentctl measure --app churn; done' >/tmp/churn.log 2>&1 &); sleep 2; test -s /tmp/churn.log`); err != nil {
		return err
	}
	s.machine.cut()
	if err := s.machine.start(ctx, true); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, 30*time.Second, "systemctl is-active agentd billing"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if !st.Ledger.Synchronised || st.AKName != s.akName {
		return fmt.Errorf("after a power cut: %+v, attestation key was %s", st, s.akName)
	}
	if _, err := s.machine.run(ctx, "rm -f /etc/agentd/apps.d/churn.toml && agentctl app reload"); err != nil {
		return err
	}
	if _, err = s.accepts(ctx); err != nil {
		return err
	}
	// Nothing that was vouched for before the cut passes now.
	return s.oldEvidence(ctx)
}

// logDeleted: without its log the agent vouches for nothing until the next boot.
func (s *session) logDeleted(ctx context.Context) error {
	if _, err := s.machine.run(ctx, "systemctl stop agentd.service && rm -rf /run/log/agentd && systemd-tmpfiles --create agentd.conf && systemctl start agentd.service"); err != nil {
		return err
	}
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if st.Ledger.Synchronised {
		return fmt.Errorf("a deleted log passes for a new boot: %+v", st)
	}
	if err := s.fails(ctx, "agentctl attest --nonce "+nonce(), "desynchronised"); err != nil {
		return err
	}
	return s.eventually(ctx, 20*time.Second, "systemctl show -p StatusText agentd | grep 'not in step'")
}

// noTPM: case 78, on a machine without one.
func (s *session) noTPM(ctx context.Context) error {
	if err := s.machine.shutDown(ctx); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.machine.start(ctx, false); err != nil {
		return fmt.Errorf("%w: %w", errMachine, err)
	}
	if err := s.eventually(ctx, 30*time.Second, "systemctl is-active agentd"); err != nil {
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
	return s.want(ctx, "systemctl show -p NRestarts -p StatusText agentd", "NRestarts=0", "the TPM is absent")
}

// purge: case 79. What is left is what the package's last words name.
func (s *session) purge(ctx context.Context) error {
	out, err := s.machine.run(ctx, "DEBIAN_FRONTEND=noninteractive apt-get purge -y agentd 2>&1")
	if err != nil {
		return err
	}
	for _, w := range []string{"0x81000001", "/var/lib/agentd", "agentd-clients"} {
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
		return errors.New("the user is gone, although it is named as left in place")
	}
	if strings.TrimSpace(rest) != "" {
		return fmt.Errorf("left behind:\n%s", rest)
	}
	return nil
}
