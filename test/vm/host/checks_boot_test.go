// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify"
)

// firmwareBoot boots the machine as stock images boot: UEFI firmware, shim, GRUB, kernel.
// shim extends PCR 14, and none of them extends the agent's default PCR 13. A policy that
// is drafted from this very machine accepts it, with the log in either (case 102).
func (s *session) firmwareBoot() {
	s.must(s.machine.shutDown(s.ctx))
	s.must(s.machine.start(s.ctx, byFirmware))
	s.want(`test -d /sys/firmware/efi && tr -c '[:print:]' '\n' </sys/kernel/security/tpm0/binary_bios_measurements | grep -E '^(MokList|MokListX|MokListTrusted|kernel_cmdline: .*)$'`,
		"MokList\n", "MokListX\n", "MokListTrusted\n", "kernel_cmdline: /vmlinuz root=/dev/vda")
	s.golden(13, "PCR 13 had the value zero", map[uint32]verify.Explanation{4: verify.ByFirmware, 8: verify.ByFirmware, 13: verify.ByLog, 14: verify.ByFirmware})
	s.run(`cp -p /etc/agentd/config.toml /root/ && printf '[measurement]\npcr = 14\n' >/etc/agentd/config.toml`)
	s.must(s.machine.reboot(s.ctx))
	s.run("cp -p /root/config.toml /etc/agentd/")
	s.golden(14, "PCR 14 had the value ", map[uint32]verify.Explanation{4: verify.ByFirmware, 13: verify.Unexplained, 14: verify.ByLog})
}

// golden drafts a policy from evidence of this machine, with its log in a PCR, and checks
// that the policy accepts other evidence of it. A simulated processor is a Milan, which a
// person must allow.
func (s *session) golden(index uint32, began string, explained map[uint32]verify.Explanation) {
	s.eventually("systemctl is-active agentd")
	root := filepath.Join(s.machine.image, "test-root.pem")
	file := func(name string) string { return filepath.Join(s.machine.work, name) }
	n := nonce()
	for _, name := range []string{"golden.json", "after.json"} {
		s.must(os.WriteFile(file(name), []byte(s.run("agentctl attest --firmware-log --nonce "+n)), 0o644))
	}
	draft, err := exec.CommandContext(s.ctx, *agentctlFile, "policy", "init", "--from", file("golden.json"), "--trust-test-root-that-vouches-for-no-hardware", root).Output()
	s.must(err)
	policy := strings.Replace(string(draft), `# products = ["milan"]`, `products = ["milan"]`, 1)
	s.must(os.WriteFile(file("golden.toml"), []byte(policy), 0o644))
	out, err := exec.CommandContext(s.ctx, *agentctlFile, "verify", "--json", "--policy", file("golden.toml"), "--nonce", n,
		"--trust-test-root-that-vouches-for-no-hardware", root, file("after.json")).Output()
	a := new(verify.Appraisal)
	if json.Unmarshal(out, a) != nil {
		s.t.Fatalf("verify: %v: %s", err, out)
	}
	claims, refused := a.Claims()
	if err != nil || refused != nil {
		s.t.Fatalf("a policy from this machine refuses it: %v, %v\n%s", err, refused, draft)
	}
	said := a.Check("policy.start-value").Sentence
	s.t.Log(said)
	if !strings.Contains(said, began) || claims.Log.PCR != index {
		s.t.Fatalf("the log is in PCR %d; %s", claims.Log.PCR, said)
	}
	for i, want := range explained {
		if !slices.ContainsFunc(claims.PCRs, func(p verify.PCRClaim) bool { return p.Index == i && p.Explained == want }) {
			s.t.Errorf("PCR %d is not explained by %s: %+v", i, want, claims.PCRs)
		}
	}
}
