// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"bytes"
	"os"
	"path/filepath"
)

// machineRows are what happens to the machine: restarts, hardware, launch, firmware.
func machineRows() []outcome {
	return []outcome{
		{what: "daemon restarted, the TPM runs on", change: "restart", do: func(b *bed) {
			b.keepTPM()
			b.on()
			b.stop()
		}},
		{what: "machine rebooted", change: "restart", do: func(b *bed) { b.on(); b.stop() }},
		{what: "daemon killed", change: "restart", do: func(b *bed) {
			b.keepTPM()
			b.on()
			b.off()
		}},
		{what: "power cut", change: "restart", do: func(b *bed) {
			tpm := b.keepTPM()
			b.on()
			b.off()
			tpm.PowerCut()
			b.booted()
		}},

		{what: "other chip", change: "other-chip", do: chip(2), code: "other-chip", exit: closed, field: "chip-id",
			after: "on the old chip again", then: oldChip},
		{what: "other chip, for good", change: "other-chip", do: chip(2), code: "other-chip", exit: closed, field: "chip-id",
			after: "recovered with the right identity (a wrong one: `wrong-identity`)", then: recovered},
		{what: "other chip that masks its id", do: func(b *bed) { chip(2)(b); b.masks() }, code: "other-chip", exit: closed, field: "chip-id"},
		{what: "chip id masked from now on, same chip", do: (*bed).masks},
		{what: "chip ids masked here and there, other chip", do: func(b *bed) {
			b.masks()
			b.do(root, "", "key", "rewrap")
			chip(2)(b)
		}, code: "wrong-key", exit: closed, after: "recovered with the right identity", then: recovered},
		{what: "other launch measurement", change: "other-measurement", do: launched("--launch", "other"),
			code: "other-measurement", exit: closed, field: "measurement", after: "launched as before", then: undo(launched())},
		{what: "guest policy changed (debug allowed)", change: "guest-policy", do: launched("--allow-debug"),
			code: "guest-policy-changed", exit: closed, field: "guest-policy", after: "under the old policy", then: undo(launched())},
		{what: "other VMPL", change: "other-vmpl", do: vmpl("2"), code: "other-vmpl", exit: closed, field: "vmpl",
			after: "at the old VMPL", then: undo(vmpl("0"))},

		{what: "TCB raised", change: "tcb-raised", do: tcb(usual.snp+1, usual.microcode),
			after: "re-wrapped to the new TCB by the agent", then: (*bed).rewrapped},
		{what: "TCB raised, re-wrapped, then lowered", do: func(b *bed) {
			tcb(usual.snp+1, usual.microcode)(b)
			b.rewrapped()
			b.off()
			tcb(usual.snp, usual.microcode)(b)
		}, code: "tcb-below", exit: closed, field: "tcb", after: "recovered with the right identity", then: recovered},
		{what: "TCB lowered", change: "tcb-lowered", do: tcb(usual.snp-1, usual.microcode), code: "tcb-below", exit: closed, field: "tcb",
			after: "under the old TCB again", then: undo(tcb(usual.snp, usual.microcode))},
		{what: "TCB lowered in one component, raised in another", do: tcb(usual.snp+1, usual.microcode-1), code: "tcb-below", exit: closed, field: "tcb",
			after: "under the old TCB again", then: undo(tcb(usual.snp, usual.microcode))},
		{what: "firmware answers with an all-zero key", do: launched("--fault", "zero-key"), code: "bad-derived-key", exit: unavailable,
			after: "firmware works again", then: undo(launched())},
	}
}

// chipFile is the secret that makes the software chip, 32 bytes.
func (b *bed) chipFile() string { return filepath.Join(b.dir, "platform", "chip") }

// chip moves the machine to another chip.
func chip(n byte) func(*bed) {
	return func(b *bed) {
		b.off()
		must(b.t, os.WriteFile(b.chipFile(), bytes.Repeat([]byte{n}, 32), 0o600))
	}
}

// oldChip moves it back.
func oldChip(b *bed) {
	b.off()
	secret, err := os.ReadFile(filepath.Join(shared.machine, "platform", "chip"))
	must(b.t, err)
	must(b.t, os.WriteFile(b.chipFile(), secret, 0o600))
}

// masks leaves the chip's id out of reports from now on.
func (b *bed) masks() { b.flags = append(b.flags, "--mask-chip-id") }

// launched launches with these flags of agentd-sim from now on.
func launched(flags ...string) func(*bed) {
	return func(b *bed) { b.flags = flags }
}

// tcb is what the firmware is committed to from now on.
func tcb(snp, microcode int) func(*bed) {
	return func(b *bed) { b.raise = levels{snp, microcode} }
}

// vmpl is the level at which the agent asks from now on.
func vmpl(level string) func(*bed) {
	return func(b *bed) {
		config, err := os.ReadFile(filepath.Join(shared.machine, "config.toml"))
		must(b.t, err)
		config = append(config, "[report]\nvmpl = "+level+"\n"...)
		must(b.t, os.WriteFile(filepath.Join(b.dir, "config.toml"), config, 0o600))
	}
}

// rewrapped waits until the agent has sealed everything to the TCB of now.
func (b *bed) rewrapped() {
	b.t.Helper()
	b.on()
	until(b.t, "everything is sealed to the new TCB", func() bool {
		s := b.store()
		for _, blob := range s.Blobs {
			if blob.Rewrap {
				return false
			}
		}
		return len(s.Blobs) > 0 && !s.Status.Rewrap
	})
}
