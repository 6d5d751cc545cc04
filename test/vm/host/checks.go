// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// checks lists all checks in their order. The machine goes through an operator's year: it is
// installed, used, upgraded, mistreated and purged.
var checks = []check{
	{"boots-with-tpm", true, (*session).boots},
	{"package-installs-by-apt", true, (*session).installs},
	{"confined-as-its-own-user", false, (*session).confined},
	{"no-snp-device-no-crash-loop", true, (*session).noReports},
	{"journal-clean", false, (*session).journalClean},
	{"app-measured-before-start", true, (*session).appEnabled},
	{"evidence-verifies-outside", true, (*session).verifies},
	{"outsider-refused-by-socket", false, (*session).outsider},
	{"namespace-root-no-administration", false, (*session).namespaceRoot},
	{"user-unit-is-not-the-app", false, (*session).userUnit},
	{"app-seals-and-derives", true, (*session).sealsKeys},
	{"other-callers-get-no-keys", false, (*session).otherCallers},
	{"python-service-verifies", false, (*session).pythonService},
	{"container-verifies", false, (*session).container},
	{"app-upgrade-under-load", false, (*session).appUpgrade},
	{"ten-kills-in-a-row", false, (*session).kills},
	{"package-upgrade-under-load", false, (*session).packageUpgrade},
	{"sealed-survives-upgrade", false, (*session).sealedAfterUpgrade},
	{"unmeasurable-app-does-not-start", false, (*session).unmeasurable},
	{"bad-configuration-not-restarted", false, (*session).badConfiguration},
	{"reboot-same-key", true, (*session).reboots},
	{"sealed-survives-reboot", false, (*session).opens},
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

// installs installs the older package from the file system that contains it.
func (s *session) installs(ctx context.Context) error {
	// The report device is still missing: the next checks are about that.
	if _, err := s.machine.run(ctx, "systemctl stop sevguest && mkdir -p /packages && mount -o ro /dev/vdb /packages && DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/old.deb"); err != nil {
		return err
	}
	if err := s.eventually(ctx, patience, "systemctl is-active agentd.service agentd.socket agentd-admin.socket"); err != nil {
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

// noReports checks the service without the report device (case 78).
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
	if err := s.eventually(ctx, patience, "systemctl show -p StatusText agentd | grep 'there is no report device'"); err != nil {
		return err
	}
	if err := s.want(ctx, "systemctl show -p NRestarts agentd", "NRestarts=0"); err != nil {
		return err
	}
	// systemd allows the device by its name when the service starts.
	_, err = s.machine.run(ctx, "systemctl start sevguest && systemctl restart agentd && agentctl attest --nonce "+nonce()+" >/dev/null")
	return err
}

func (s *session) journalClean(ctx context.Context) error {
	if err := s.quiet(ctx); err != nil {
		return err
	}
	return s.want(ctx, "journalctl -u agentd -o json --no-pager", "AGENTD_")
}

// quiet checks that the running agent has written to the journal, without a warning.
func (s *session) quiet(ctx context.Context) error {
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
		return errors.New("the journal does not contain a record of agentd")
	}
	return nil
}
