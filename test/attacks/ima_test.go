// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
	"github.com/cvm-agentd/agentd/verify"
)

// A kernel measures programs before it runs them: it adds an entry to its list, then extends PCR 10.
type kernel struct {
	t    *testing.T
	list string // file
	tpm  *tpm.Device
}

// bootKernel begins a list with the digest of the PCRs of the boot.
func bootKernel(t *testing.T, list, address string) *kernel {
	t.Helper()
	device, err := tpm.Open(t.Context(), address, tpm.Options{})
	must(t, err)
	t.Cleanup(func() { device.Close() })
	k := &kernel{t, list, device}
	var values pcr.Values
	must(t, device.Do(t.Context(), func(x transport.TPM) (err error) {
		s, err := pcr.ParseSelection("sha256:0-9")
		if err == nil {
			values, err = registers.Read(x, s)
		}
		return err
	}))
	must(t, os.WriteFile(list, nil, 0o600))
	k.measure(evidencetest.IMAAggregate(values))
	return k
}

// measure adds an entry, and extends the PCR. Of the entry, data follow a head of 24 bytes, the name
// of the template and a length.
func (k *kernel) measure(entry []byte) {
	k.t.Helper()
	k.add(entry)
	must(k.t, k.tpm.Do(k.t.Context(), func(x transport.TPM) error {
		banks, err := registers.ActiveBanks(x)
		if err != nil {
			return err
		}
		var digests []pcr.Digest
		for _, b := range banks {
			value := b.Sum(entry[28+int(entry[24])+4:])
			if bytes.Equal(entry[4:24], make([]byte, 20)) {
				value = bytes.Repeat([]byte{0xff}, b.Size())
			}
			digests = append(digests, pcr.Digest{Algorithm: b, Value: value})
		}
		return registers.Extend(x, 10, digests)
	}))
}

// add adds an entry to the list alone.
func (k *kernel) add(entry []byte) {
	k.t.Helper()
	f, err := os.OpenFile(k.list, os.O_APPEND|os.O_WRONLY, 0)
	must(k.t, err)
	_, err = f.Write(entry)
	must(k.t, err)
	must(k.t, f.Close())
}

// run runs a program, and returns its exit code.
func (k *kernel) run(program string) int {
	k.t.Helper()
	b, err := os.ReadFile(program)
	must(k.t, err)
	k.measure(evidencetest.IMAFile(program, string(b)))
	cmd := exec.Command(program)
	if cmd.Run(); cmd.ProcessState == nil {
		k.t.Fatalf("%s did not run", program)
	}
	return cmd.ProcessState.ExitCode()
}

// next returns the number of the entry that a verifier asks for next.
func next(t *testing.T, state string) string {
	t.Helper()
	b, err := os.ReadFile(state)
	must(t, err)
	var s verify.LogState
	must(t, json.Unmarshal(b, &s))
	if s.IMA == nil {
		t.Fatalf("the state has no list of IMA:\n%s", b)
	}
	return fmt.Sprint(s.IMA.Next)
}

// TestUndeclaredProgramRunsUnnoticed: root changes a program that no declaration names, and runs it.
// The log of the agent does not show it. The kernel's list in evidence does, by its path, whether it
// is whole or begins at an index; and neither a list that was cut nor one of another boot hides it.
// An upgrade to files that the policy lists is not an alarm (case 127).
func TestUndeclaredProgramRunsUnnoticed(t *testing.T) {
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	dir, list := t.TempDir(), filepath.Join(t.TempDir(), "list")
	chip := swtpm.Start(t)
	address := chip.Listen().Address()
	k := bootKernel(t, list, address)
	x := switchOn(t, filepath.Join(dir, "m"), "--tpm", address, "--ima-list", list)
	x.declare("billing", "declared, and never run here")

	program, tool := filepath.Join(dir, "program"), filepath.Join(dir, "tool")
	reference, root := filepath.Join(dir, "packages.ref"), filepath.Join(dir, "root")
	must(t, os.Mkdir(root, 0o700))
	for name, content := range map[string]string{"program": reviewed, "upgraded": "#!/bin/sh\nexit 0 # upgraded\n", "tool": "#!/bin/sh\nexit 0 # tool\n"} {
		must(t, os.WriteFile(filepath.Join(root, name), []byte(content), 0o700))
	}
	install := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(root, from))
		must(t, err)
		must(t, os.WriteFile(to, b, 0o700))
	}
	rule := x.do("policy", "ima-reference", "--out", reference, "--root", root)
	text := policy("", rule)
	state := filepath.Join(dir, "state")

	install("program", program)
	install("tool", tool)
	if k.run(program) != 0 || k.run(tool) != 0 {
		t.Fatal("the reviewed programs did not run")
	}
	nonce, file := x.attest("--ima")
	first := file
	r := x.verify(text, nonce, file, "--ima-reference", reference, "--save-log", state)
	r.accepted(t, "what the packages contain")
	if !strings.Contains(r.text, "leads to the quoted PCR 10: 3 measurements") {
		t.Errorf("PCR 10 is not explained to the last entry:\n%s", r.text)
	}

	install("upgraded", program)
	k.run(program)
	nonce, file = x.attest("--ima", "--ima-from", next(t, state))
	known := []string{"--ima-reference", reference, "--known-log", state}
	later := filepath.Join(dir, "later")
	x.verify(text, nonce, file, append(known, "--save-log", later)...).accepted(t, "an upgrade to what the packages contain")
	if next(t, later) != "4" {
		t.Errorf("the verifier asks for entry %s next", next(t, later))
	}
	known = []string{"--ima-reference", reference, "--known-log", later}

	runInstead(t, program) // as root
	k.run(program)
	for name, args := range map[string][]string{"whole": {"--ima"}, "from an index": {"--ima", "--ima-from", next(t, later)}} {
		nonce, file = x.attest(args...)
		r := x.verify(text, nonce, file, known...)
		r.refused(t, "a program that was changed on disk and run, "+name, 5, "policy.ima-files")
		if !strings.Contains(r.text, program) {
			t.Errorf("%s: the program is not named by its path:\n%s", name, r.text)
		}
	}
	nonce, file = x.attest("--log", "none")
	x.verify(policy("log = \"optional\"\n", rule), nonce, file, "--ima-reference", reference).refused(t, "evidence without the list", 5, "policy.ima")

	whole, err := os.ReadFile(list)
	must(t, err)
	nonce, file = x.attest("--ima")
	evil := len(evidencetest.IMAFile(program, "#!/bin/sh\nexit 7 # the attacker's\n"))
	given := write(t, string(whole[:len(whole)-evil]))
	x.verify(text, nonce, file, append(known, "--ima-list", given)...).refused(t, "a list from elsewhere that was cut", 2, "ima.replay")
	x.verify(text, nonce, file, append(known, "--ima-list", list)...).refused(t, "a list from elsewhere that is whole", 5, "policy.ima-files")

	must(t, os.WriteFile(list, whole[:len(whole)-evil], 0o600)) // root mounts this over the kernel's file
	must(t, x.Stop())
	x = switchOn(t, filepath.Join(dir, "m"), "--tpm", address, "--ima-list", list)
	nonce, file = x.attest("--ima")
	x.verify(text, nonce, file, known...).refused(t, "a list without its last entry", 2, "ima.replay")
	x.verify(text, nonce, first, known...).refused(t, "evidence of before", 2, "statement.nonce")

	k.measure(evidencetest.IMAViolation(program))
	must(t, os.WriteFile(list, append(whole, evidencetest.IMAViolation(program)...), 0o600))
	must(t, x.Stop())
	x = switchOn(t, filepath.Join(dir, "m"), "--tpm", address, "--ima-list", list)
	nonce, file = x.attest("--ima")
	x.verify(text, nonce, file, known...).refused(t, "a file that was written while it was used", 5, "policy.ima-violations")
}
