// SPDX-License-Identifier: Apache-2.0

package host

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify"
)

// imaChecks are those of a machine whose kernel measures by ima_policy=tcb.
var imaChecks = []check{
	{"boots-measuring", true, (*session).bootsMeasuring},
	{"installs", true, (*session).installsMeasured},
	{"list-explains-pcr-10", true, (*session).listExplains},
	{"upgrade-to-listed-packages", false, (*session).upgradeListed},
	{"file-written-while-read", false, (*session).writtenWhileRead},
	{"changed-program-is-named", false, (*session).changedProgram},
	{"measures-as-told", false, (*session).measuresAsTold},
	{"boots-without-policy", false, (*session).bootsWithoutPolicy},
}

// TestIMA has a kernel measure, from the boot on in which the packages are installed. Evidence explains
// PCR 10 to the last entry, and a policy decides what may have run (case 127).
func TestIMA(t *testing.T) {
	if *workFolder == "" {
		t.Skip("needs a virtual machine: run `make test-vm-ima`")
	}
	onMachine(t, imaChecks, asRealDisks)
}

// imaFiles are what a policy lists: its tables, and the file of digests that they name.
type imaFiles struct{ rules, reference string }

// bootsMeasuring boots until the TPM has answered the kernel each time: the kernel never repeats an
// extension, and on a busy machine the TPM can be late.
func (s *session) bootsMeasuring() {
	s.must(s.machine.start(s.ctx, measuring))
	for range 3 {
		if s.lost() == "" {
			break
		}
		s.must(s.machine.reboot(s.ctx))
	}
	s.want("cat /proc/cmdline; uname -r", "ima_policy=tcb")
}

// lost returns what the kernel says of the first extension that the TPM did not answer in time.
func (s *session) lost() string {
	s.t.Helper()
	return s.run("journalctl -kb -o cat --no-pager | grep -m 1 'ima: Error' || true")
}

// installsMeasured installs the older packages, and declares the application. The daemon reads the list
// by a capability, in its sandbox.
func (s *session) installsMeasured() {
	s.run(mounted + " && { DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/old/*.deb >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }; }")
	s.eventually("systemctl is-active agentd.service agentd.socket agentd-admin.socket && agentctl status --wait 5m >/dev/null")
	s.run("systemctl enable --now billing.service && agentctl app add billing.service --yes && agentctl app enable billing.service --yes && systemctl restart billing.service")
	s.want("stat -Lc '%U:%a' /sys/kernel/security/ima/binary_runtime_measurements; stat -c %U /proc/$(systemctl show -p MainPID --value agentd)", "root:440\nagentd\n")
}

// listExplains verifies the whole list, and keeps its state for the next check.
func (s *session) listExplains() {
	s.listFiles()
	c := s.measured(s.ima, 0, "--save-log", s.imaState())
	if c.Entries < 300 || c.Unlisted != 0 {
		s.t.Fatalf("%+v", c)
	}
	s.t.Logf("%d entries, %d violations", c.Entries, c.Violations)
}

// upgradeListed upgrades to packages that are listed. The verifier goes on after the entries that it
// knows. A policy that lists the older packages alone names the programs of the newer ones, and a verifier
// who does not know the entries before accepts none after them.
func (s *session) upgradeListed() {
	next := s.nextIMA()
	digests := strings.Fields(s.run(mounted + ` && { DEBIAN_FRONTEND=noninteractive apt-get install -y /packages/new/*.deb >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; exit 1; }; }
agentctl status --wait 5m >/dev/null; dpkg-query -W -f '${Version}\n' agentd; sha256sum /usr/bin/agentctl /usr/sbin/agentd | cut -d ' ' -f 1`))
	if len(digests) != 3 || !strings.Contains(digests[0], "~vm2") {
		s.t.Fatalf("after the upgrade: %q", digests)
	}
	c := s.measured(s.ima, next, "--known-log", s.imaState())
	if c.Entries <= next || c.Unlisted != 0 {
		s.t.Fatalf("the list did not grow from %d entries: %+v", next, c)
	}
	s.t.Logf("%d entries, %d of them since the upgrade began", c.Entries, c.Entries-next)
	s.refusedIMA(s.imaOld, 0, "allow", "policy.ima-files", `"/usr/bin/agentctl" sha256:`+digests[1], `"/usr/sbin/agentd" sha256:`+digests[2])
	s.refusedIMA(s.ima, next, "allow", "ima.continuation")
}

// writtenWhileRead has root read a file that is open for writing. The kernel cannot tell what was read, and
// extends the PCR by ones: the list still leads to its value, and the policy decides.
func (s *session) writtenWhileRead() {
	s.run("exec 3>>/root/written && cat /root/written && exec 3>&- && rm /root/written")
	if c := s.measured(s.ima, 0); c.Violations == 0 {
		s.t.Fatalf("no violation: %+v", c)
	}
	s.refusedIMA(s.ima, 0, "refuse", "policy.ima-violations")
}

// changedProgram has a program of a package run, changes it on disk, and runs it again.
func (s *session) changedProgram() {
	s.run("cp /usr/bin/true /usr/local/bin/tool && /usr/local/bin/tool")
	s.measured(s.ima, 0)
	digest := strings.Fields(s.run("printf x >>/usr/local/bin/tool && /usr/local/bin/tool && sha256sum /usr/local/bin/tool"))[0]
	s.refusedIMA(s.ima, 0, "allow", "policy.ima-files", `"/usr/local/bin/tool" sha256:`+digest)
	s.ima.rules += fmt.Sprintf("[[ima_files]]\npath = \"/usr/local/bin/tool\"\ndigests = [\"sha256:%s\"]\n", digest)
	s.measured(s.ima, 0)
}

// measuresAsTold compares what `agentctl app enable --ima` says with what the running kernel does, before
// and after the policy is loaded that the command prints.
func (s *session) measuresAsTold() {
	told := strings.Fields(s.run("agentctl app enable billing.service --yes --ima")) // lines are as wide as a terminal
	s.contains("agentctl app enable --ima", strings.Join(told, " "), []string{"by ima_policy=tcb on the kernel's command line", "uid=1200 fowner=0"})
	s.run("printf one >/opt/billing/first.conf; printf two >/opt/billing/second.conf; chmod 644 /opt/billing/*.conf; runuser -u billing -- cat /opt/billing/first.conf")
	list := func(path string) bool {
		return strings.Contains(s.run("cut -d ' ' -f 5 /sys/kernel/security/ima/ascii_runtime_measurements"), "\n"+path+"\n")
	}
	if !list("/opt/billing/billing") || list("/opt/billing/first.conf") {
		s.t.Fatal("the kernel does not measure what its policy says")
	}
	s.run(`agentctl app enable billing.service --yes --ima | sed -n '/^# What ima_policy=tcb measures/,/^$/p' | grep . >/root/ima-policy
cat /root/ima-policy >/sys/kernel/security/ima/policy && runuser -u billing -- cat /opt/billing/second.conf && rm /opt/billing/*.conf`)
	if !list("/opt/billing/second.conf") || list("/opt/billing/first.conf") {
		s.t.Fatal("the policy that the command prints does not have the kernel measure what the application reads")
	}
}

// bootsWithoutPolicy boots a kernel that is told to measure nothing. Its list has boot_aggregate alone and
// is explained, which is why the command line must be known from elsewhere. It does not continue the list
// of the boot before.
func (s *session) bootsWithoutPolicy() {
	s.must(s.machine.shutDown(s.ctx))
	s.must(s.machine.start(s.ctx, direct))
	s.eventually("systemctl is-active agentd billing agentd-measured.target && agentctl status --wait 5m >/dev/null")
	if c := s.measured(s.ima, 0); c.Entries != 1 || c.Violations != 0 {
		s.t.Fatalf("%+v", c)
	}
	s.fails(fmt.Sprintf("agentctl attest --ima --ima-from %d --nonce %s", s.nextIMA(), nonce()), "agentd: ima-start")
}

// measured verifies evidence with the list from an entry on, which must be accepted, and must explain
// PCR 10.
func (s *session) measured(files imaFiles, from uint64, flags ...string) *verify.IMAClaim {
	s.t.Helper()
	a := s.appraiseIMA(files, from, "allow", flags...)
	claims, err := a.Claims()
	if err != nil {
		s.t.Fatalf("%v: %+v; the kernel: %q", err, a.Failed(), s.lost())
	}
	if claims.IMA == nil || !slices.ContainsFunc(claims.PCRs, func(p verify.PCRClaim) bool { return p.Index == 10 && p.Explained == verify.ByIMA }) {
		s.t.Fatalf("PCR 10 is not explained: %+v", claims.PCRs)
	}
	return claims.IMA
}

// refusedIMA verifies evidence with the list from an entry on, which must be refused by one check that finds
// these words.
func (s *session) refusedIMA(files imaFiles, from uint64, violations string, id verify.CheckID, words ...string) {
	s.t.Helper()
	a := s.appraiseIMA(files, from, violations)
	failed := a.Failed()
	if a.ExitCode() == 0 || len(failed) == 0 || failed[0].ID != id {
		s.t.Fatalf("exit code %d, want %s: %+v; the kernel: %q", a.ExitCode(), id, failed, s.lost())
	}
	for _, w := range words {
		if !strings.Contains(failed[0].Found, w) {
			s.t.Fatalf("%s does not name %s: %+v", id, w, failed[0])
		}
	}
}

// appraiseIMA verifies evidence with the list from an entry on, outside the machine, by a policy that lists
// files, and allows or refuses violations.
func (s *session) appraiseIMA(files imaFiles, from uint64, violations string, flags ...string) *verify.Appraisal {
	s.t.Helper()
	measurement, err := os.ReadFile(filepath.Join(s.machine.image, "measurement"))
	s.must(err)
	text := fmt.Sprintf("version = 1\nproducts = [\"milan\"]\nfreshness = \"anchored\"\nmax_anchor_age = \"30m\"\n\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware\"\n\n"+
		"[guest_policy]\nallow_smt = true\n\n[ima]\nviolations = %q\n\n%s", measurement, violations, files.rules)
	policy, document, n := filepath.Join(s.machine.work, "ima.toml"), filepath.Join(s.machine.work, "ima.json"), nonce()
	s.must(os.WriteFile(policy, []byte(text), 0o644))
	s.must(os.WriteFile(document, []byte(s.run(fmt.Sprintf("agentctl attest --ima --ima-from %d --nonce %s", from, n))), 0o644))
	args := append([]string{"verify", "--json", "--policy", policy, "--nonce", n, "--ima-reference", files.reference,
		"--trust-test-root-that-vouches-for-no-hardware", filepath.Join(s.machine.image, "test-root.pem")}, flags...)
	out, err := exec.CommandContext(s.ctx, *agentctlFile, append(args, document)...).Output()
	a := new(verify.Appraisal)
	if json.Unmarshal(out, a) != nil {
		s.t.Fatalf("verify: %v: %s", err, out)
	}
	return a
}

// imaState is the file with the state of the list that was accepted.
func (s *session) imaState() string { return filepath.Join(s.machine.work, "ima-state.json") }

// nextIMA returns the number of the entry after those that the verifier knows.
func (s *session) nextIMA() uint64 {
	s.t.Helper()
	b, err := os.ReadFile(s.imaState())
	s.must(err)
	var known verify.LogState
	s.must(json.Unmarshal(b, &known))
	if known.IMA == nil {
		s.t.Fatalf("no list of IMA is known: %s", b)
	}
	return known.IMA.Next
}

// listFiles lists the files of all packages that the machine has or gets, of Debian's and ours, and those
// without our newer ones.
func (s *session) listFiles() {
	s.t.Helper()
	folder := filepath.Join(s.machine.work, "base")
	s.must(os.Mkdir(folder, 0o700))
	defer os.RemoveAll(folder)
	out, err := exec.CommandContext(s.ctx, "tar", "-x", "--no-same-owner", "--exclude=./dev/*", "-C", folder, "-f", *imageBase).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tar: %v: %s", err, out)
	}
	s.imaOld = s.imaReference("old.ref", folder, "old")
	s.ima = s.imaReference("all.ref", folder, "old", "new")
}

// imaReference writes the digests of a folder and of our packages. What is configuration, or data of this
// machine, is listed by its path.
func (s *session) imaReference(name, folder string, versions ...string) imaFiles {
	s.t.Helper()
	file := filepath.Join(s.machine.work, name)
	args := []string{"policy", "ima-reference", "--out", file, "--root", folder}
	for _, v := range versions {
		packages, err := filepath.Glob(filepath.Join(*packageFolder, v, "*.deb"))
		s.must(err)
		if len(packages) == 0 {
			s.t.Fatalf("no packages in %s/%s", *packageFolder, v)
		}
		args = append(args, packages...)
	}
	rule, err := exec.CommandContext(s.ctx, *agentctlFile, args...).Output()
	if err != nil {
		s.t.Fatalf("agentctl %v: %v", args, err)
	}
	guest, err := os.ReadFile(*guestFile)
	s.must(err)
	text := fmt.Sprintf("%s\n[[ima_files]]\ndigests = [\"sha256:%x\"]\n", rule, sha256.Sum256(guest))
	for _, path := range imaData {
		text += fmt.Sprintf("[[ima_files]]\npath = %q\nany_digest = true\n", path)
	}
	return imaFiles{text, file}
}

// imaData are files that differ on each machine: the initial file system, configuration, and what services
// keep.
var imaData = []string{"/init", "/conf/**", "/scripts/**", "/usr/lib/modules/*/modules.*", "/etc/**", "/var/**", "/run/**", "/root/**", "/tmp/**", "/packages/**", "/dev/**", "/memfd:*", "**/__pycache__/**"}
