// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
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
	{"evidence-verifies-outside", true, (*session).evidence},
	{"outsider-refused-by-socket", false, (*session).outsider},
	{"namespace-root-no-administration", false, (*session).namespaceRoot},
	{"user-unit-is-not-the-app", false, (*session).userUnit},
	{"reports-by-configfs-alone", false, (*session).configFS},
	{"reports-of-an-svsm", false, (*session).svsm},
	{"app-seals-and-derives", true, (*session).sealsKeys},
	{"other-callers-get-no-keys", false, (*session).otherCallers},
	{"nginx-key-by-credential", false, (*session).nginxCredential},
	{"postgresql-password-by-credential", false, (*session).postgresCredential},
	{"credential-of-dynamic-user-and-instances", false, (*session).dynamicCredential},
	{"others-get-no-credential", false, (*session).othersCredential},
	{"replaced-program-gets-no-credential", false, (*session).replacedCredential},
	{"credential-as-fast-as-systemd-creds", false, (*session).fastCredential},
	{"volume-opens-by-crypttab", false, (*session).volumeOpens},
	{"forged-volume-does-not-open", false, (*session).volumeForged},
	{"python-service-verifies", false, (*session).pythonService},
	{"container-verifies", false, (*session).container},
	{"tunnel-to-nginx", false, (*session).tunnelToNginx},
	{"secret-delivered-over-network", false, (*session).delivered},
	{"app-upgrade-under-load", false, (*session).appUpgrade},
	{"restart-keeps-coverage", false, (*session).keepsCoverage},
	{"ten-kills-in-a-row", false, (*session).kills},
	{"package-upgrade-under-load", false, (*session).packageUpgrade},
	{"sealed-survives-upgrade", false, (*session).sealedAfterUpgrade},
	{"unmeasurable-app-does-not-start", false, (*session).unmeasurable},
	{"bad-configuration-not-restarted", false, (*session).badConfiguration},
	{"gate-on-this-kernel", false, (*session).gateOnThisKernel},
	{"gate-guards-programs", false, (*session).gateGuards},
	{"gate-swaps", false, (*session).gateSwaps},
	{"reboot-same-key", true, (*session).reboots},
	{"sealed-survives-reboot", false, (*session).opens},
	{"credential-at-boot", false, (*session).credentialAtBoot},
	{"volume-at-boot", false, (*session).volumeHas},
	{"old-evidence-refused", false, (*session).oldEvidence},
	{"power-cut-while-measuring", true, (*session).powerCut},
	{"power-cut-while-rotating-volume", false, (*session).volumeCut},
	{"log-deleted-desynchronised", false, (*session).logDeleted},
	{"boots-by-shim-and-grub", false, (*session).firmwareBoot},
	{"credential-retired", false, (*session).credentialRetired},
	{"no-tpm-no-crash-loop", true, (*session).noTPM},
	{"volume-opens-by-recovery", false, (*session).volumeRecovered},
	{"removal-lets-units-start", true, (*session).removal},
	{"purge-leaves-what-it-names", false, (*session).purge},
}

// beside lists the checks that the second of two machines runs, if two run beside each other: the
// others neither need them nor see what they leave. An emulated machine uses one processor.
var beside = []string{
	"reports-by-configfs-alone", "reports-of-an-svsm", "python-service-verifies", "container-verifies",
	"tunnel-to-nginx", "secret-delivered-over-network",
	"app-upgrade-under-load", "ten-kills-in-a-row", "gate-on-this-kernel", "gate-guards-programs", "gate-swaps",
}

// newer lists the checks that do not run on Debian 12, and what it lacks.
var newer = map[string]string{
	"reports-by-configfs-alone": "Linux 6.1 has no configfs-tsm",
	"reports-of-an-svsm":        "Linux 6.1 has no configfs-tsm",
}

func (s *session) boots() {
	s.must(s.machine.start(s.ctx, reachable))
	s.want("uname -r; test -c /dev/tpmrm0 && test -c /dev/sev-guest && echo devices", "devices")
}

// installs installs the older package from the file system that contains it.
func (s *session) installs() {
	// The report device is still missing: the next checks are about that.
	s.run("systemctl stop sevguest && mkdir -p /packages && mount -o ro /dev/vdb /packages")
	s.folder()
	installing, _ := s.installing()
	s.session(installing)
	s.eventually("systemctl is-active agentd.service agentd.socket agentd-admin.socket agentd-credentials.socket")
	s.want("stat -c '%U:%G %a' /run/agentd/agentd.sock /run/agentd/admin.sock /run/agentd/credentials.sock /var/lib/agentd /run/log/agentd /dev/tpmrm0; systemctl is-enabled agentd.service",
		"root:agentd-clients 660", "root:root 600\nroot:root 600", "agentd:agentd 700\nagentd:agentd 700", ":tss 660", "enabled")
}

func (s *session) confined() {
	s.want(`p=$(systemctl show -p MainPID --value agentd); grep -E '^(Uid|NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/$p/status | tr '\t' ' '; id -u agentd`,
		"NoNewPrivs: 1", "Seccomp: 2", "CapEff: 0000000000080004", "CapBnd: 0000000000080004")
	s.run(`p=$(systemctl show -p MainPID --value agentd); test "$(stat -c %U /proc/$p)" = agentd`)
	s.exposed("agentd.service", 1.5)
}

// exposed checks that systemd finds a unit exposed so much at most.
func (s *session) exposed(unit string, most float64) {
	s.t.Helper()
	out := strings.TrimSpace(s.run("systemd-analyze security " + unit + " | grep -o 'exposure level for [^ ]*: [0-9.]*' | grep -o '[0-9.]*$'"))
	if score, err := strconv.ParseFloat(out, 64); err != nil || score > most {
		s.t.Fatalf("exposure of %s is %q, want at most %v", unit, out, most)
	}
}

// startsNothing checks that the process of a unit has no privilege and starts no program, also if an
// attacker takes it over.
func (s *session) startsNothing(unit string) {
	s.t.Helper()
	s.want("p=$(systemctl show -p MainPID --value "+unit+"); grep -E '^(NoNewPrivs|Seccomp|CapEff|CapBnd):' /proc/$p/status | tr '\\t' ' '; nsenter -t $p -m /bin/true || echo none",
		"NoNewPrivs: 1", "Seccomp: 2", "CapEff: 0000000000000000", "CapBnd: 0000000000000000", "\nnone\n")
}

// noReports checks the service without the report device (case 78).
func (s *session) noReports() {
	st := s.status()
	if st.Platform.State != "absent" || st.TPM.State != "ok" || !st.Ledger.Synchronised {
		s.t.Fatalf("status without a report device: %+v", st)
	}
	s.fails("agentctl doctor", "BAD   report device", "/dev/sev-guest", "  so  agent's reports")
	s.eventually("systemctl show -p StatusText agentd | grep platform-absent")
	s.want("systemctl show -p NRestarts agentd", "NRestarts=0")
	// systemd allows the device by its name when the service starts.
	s.run("systemctl start sevguest && systemctl restart agentd && agentctl attest --nonce " + nonce() + " >/dev/null")
}

func (s *session) journalClean() {
	s.quiet()
	s.want("journalctl -u agentd -o json --no-pager", "AGENTD_")
}

// quiet checks that the running agent has written to the journal, without a warning.
func (s *session) quiet() {
	out := s.run(`journalctl -u agentd -o json _SYSTEMD_INVOCATION_ID=$(systemctl show -p InvocationID --value agentd) --no-pager`)
	lines := 0
	for line := range strings.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("journal: %v: %s", err, line)
		}
		if p, _ := r["PRIORITY"].(string); p == "" || p < "5" {
			s.t.Fatalf("record of priority %q: %v", p, r["MESSAGE"])
		}
		if r["MESSAGE"] != nil {
			lines++
		}
	}
	if lines == 0 {
		s.t.Fatal("the journal does not contain a record of agentd")
	}
}
