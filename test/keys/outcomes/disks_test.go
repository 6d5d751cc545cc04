// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// diskRows are the rows of the other table that concern a volume too.
var diskRows = []string{
	"daemon killed", "machine rebooted", "other chip, for good", "other launch measurement", "TCB raised", "TPM cleared", "other TPM",
	"all files rolled back", "manifest deleted", "upgraded to another launch measurement in this folder", "upgraded, then launched as before",
}

// TestDisks does some rows to a machine with an enrolled volume and writes the table: what the agent
// says of the volume, whether the recovery key opens it, and whether the agent does in the end. Then
// the owner of the disk changes the header.
func TestDisks(t *testing.T) {
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed: scripts/setup.sh installs it")
	}
	t.Parallel()
	all := outcomes()
	doc := newTable(t, "disks", len(diskRows)+1, "| what happens | `agentctl disk check` | exit | the recovery key | then |", "|---|---|---|---|---|")
	for i, what := range diskRows {
		o := all[slices.IndexFunc(all, func(o outcome) bool { return o.what == what })]
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			b.enrol()
			o.do(b)
			doc.put(t, i, b.diskRow(o))
		})
	}
	t.Run("header changed by the owner of the disk", func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		b.enrol()
		good, err := os.ReadFile(b.volume())
		must(t, err)
		doc.put(t, len(diskRows), b.diskRow(outcome{
			what: "a key slot added by the owner of the disk", code: "disk-slot", exit: closed, after: "header put back",
			do: nil, then: func(b *bed) { must(b.t, os.WriteFile(b.volume(), good, 0o600)) },
		}))
	})
}

// volume is the file that stands for the device.
func (b *bed) volume() string { return filepath.Join(filepath.Dir(b.dir), "volume") }

// recovery is the file with the recovery key of the volume.
func (b *bed) recovery() string { return b.volume() + ".key" }

func (b *bed) cryptsetup(args ...string) error {
	out, err := exec.Command("cryptsetup", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cryptsetup %s: %w: %s", args[0], err, out)
	}
	return nil
}

// enrol makes a volume, enrols it, and switches the machine off.
func (b *bed) enrol() {
	b.t.Helper()
	must(b.t, os.WriteFile(b.volume(), nil, 0o600))
	must(b.t, os.Truncate(b.volume(), 17<<20))
	must(b.t, os.WriteFile(b.recovery(), []byte("recovery"), 0o600))
	must(b.t, b.cryptsetup("luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", b.recovery(), b.volume()))
	b.on()
	b.do(root, "", "disk", "enroll", b.volume(), "--name", "data", "--key-file", b.recovery(), "--no-crypttab")
	b.off()
}

// tellsOfVolume holds the contract of the record to the row, also when it does not open.
func (b *bed) tellsOfVolume(o outcome) {
	b.t.Helper()
	if o.change == "" {
		return
	}
	r := b.try(root, "", "key", "show", "disk:data", "--json")
	c, err := contractOf(r.out)
	if err != nil || r.exit != o.exit {
		b.t.Fatalf("%v, %v", r, err)
	}
	f, ok := changesOf(c)[o.change]
	if recorded := c.Openers[0].Who; !ok || o.change != "files-rolled-back" && string(f.Code) != o.code || recorded != "systemd-cryptsetup in unit systemd-cryptsetup@data.service" {
		b.t.Errorf("%+v, %+v", f, c.Openers)
	}
}

// diskRow switches the machine on, holds the answer to what o says, and returns the row. In the end
// the agent opens the volume: rotate adds a key slot with its key.
func (b *bed) diskRow(o outcome) string {
	b.t.Helper()
	if o.code == "disk-slot" {
		other := b.recovery() + ".other"
		must(b.t, os.WriteFile(other, []byte("other"), 0o600))
		must(b.t, b.cryptsetup("luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", b.recovery(), b.volume(), other))
	}
	b.on()
	b.tellsOfVolume(o)
	check := func() reply { return b.try(root, "", "disk", "check", "data") }
	got := check()
	if got.code != o.code || got.exit != o.exit {
		b.t.Fatalf("got code %q, exit %d: %v\nwant code %q, exit %d", got.code, got.exit, got, o.code, o.exit)
	}
	result, then := "the recorded header", ""
	if o.code != "" {
		result = "`" + o.code + "`"
	}
	must(b.t, b.cryptsetup("open", "--test-passphrase", "--key-file", b.recovery(), b.volume()))
	if o.then != nil {
		o.then(b)
		b.on()
		then = o.after + ": opens"
	}
	b.do(root, "", "disk", "rotate", "data")
	b.off()
	b.on()
	if r := check(); r.exit != 0 {
		b.t.Errorf("after one more boot: %v", r)
	}
	return fmt.Sprintf("| %s | %s | %d | opens | %s |", o.what, result, o.exit, then)
}
