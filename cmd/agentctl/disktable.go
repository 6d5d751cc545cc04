// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/cryptsetup"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// maxTable is the largest crypttab that is read.
const maxTable = 1 << 20

// readTable reads a file that may be absent.
func readTable(path string) ([]byte, error) {
	b, err := durable.ReadRegular(path, maxTable)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// writeTable writes the line in crypttab and the drop-in of a volume, after showing them.
func (t *terminal) writeTable(v *cryptsetup.Volume, d *api.Disk, yes bool) error {
	line := crypttab.Line(d.Name, d.UUID, unitname.CredentialsSocket, crypttab.HeaderFile(v.Folder, d.Name))
	out := t.out
	if t.json {
		t.out = t.err
		defer func() { t.out = out }()
	}
	dropIn := crypttab.DropInPath(d.Name)
	if err := t.review(crypttab.File+" (this line)", []byte(line), true); err != nil {
		return err
	}
	if err := t.review(dropIn, crypttab.DropIn(d.Name), yes); err != nil {
		return err
	}
	table, err := readTable(crypttab.File)
	if err != nil {
		return writeFailed(err)
	}
	if b, err := readTable(dropIn); err != nil || b != nil && !crypttab.Ours(b) {
		return writeFailed(errors.Join(err, fmt.Errorf("%s was not written by agentctl: move it away first", dropIn)))
	}
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		return writeFailed(err)
	}
	// The drop-in is first: with the line alone, the unit would fail for want of the header.
	if err := durable.WriteReadable(dropIn, crypttab.DropIn(d.Name)); err != nil {
		return writeFailed(err)
	}
	if err := durable.WriteFile(crypttab.File, crypttab.Put(table, d.Name, line), modeOf(crypttab.File, 0o600)); err != nil {
		return writeFailed(err)
	}
	fmt.Fprintf(t.out, "%s opens from the next boot on, or now: systemctl start '%s'\n", cleanLine(d.Name), cleanLine(d.Unit))
	return t.reloadUnits("/")
}

// modeOf returns the permissions of a file, or those given if there is none.
func modeOf(path string, other fs.FileMode) fs.FileMode {
	if i, err := os.Stat(path); err == nil {
		return i.Mode().Perm()
	}
	return other
}

// removeTable removes the line in crypttab and the drop-in of a volume below root, if they are there.
func (t *terminal) removeTable(root, name string) error {
	if err := crypttab.CheckName(name); err != nil {
		return misuse(err)
	}
	path := filepath.Join(root, crypttab.File)
	table, err := readTable(path)
	if err != nil {
		return writeFailed(err)
	}
	changed := false
	if crypttab.Find(table, name) != "" {
		changed = true
		if err := durable.WriteFile(path, crypttab.Remove(table, name), modeOf(path, 0o600)); err != nil {
			return writeFailed(err)
		}
	}
	dropIn := filepath.Join(root, crypttab.DropInPath(name))
	if b, err := readTable(dropIn); err == nil && crypttab.Ours(b) {
		changed = true
		if err := os.Remove(dropIn); err != nil {
			return writeFailed(err)
		}
		os.Remove(filepath.Dir(dropIn)) // fails if the folder contains other drop-ins
	}
	if !changed {
		return nil
	}
	return t.reloadUnits(root)
}

// table is what systemd knows of a volume.
type table struct {
	line, dropIn bool
	missing      []string
}

// tableOf compares the line in crypttab and the drop-in of a volume with those that enroll writes.
func tableOf(folder string, d *api.Disk) (t table, err error) {
	b, err := readTable(crypttab.File)
	if err != nil {
		return t, err
	}
	want := crypttab.Line(d.Name, d.UUID, unitname.CredentialsSocket, crypttab.HeaderFile(folder, d.Name))
	if t.line = crypttab.Find(b, d.Name) == want; !t.line {
		t.missing = append(t.missing, fmt.Sprintf("the line in %s: %s", crypttab.File, strings.TrimSpace(want)))
	}
	if b, err = readTable(crypttab.DropInPath(d.Name)); err != nil {
		return t, err
	}
	if t.dropIn = string(b) == string(crypttab.DropIn(d.Name)); !t.dropIn {
		t.missing = append(t.missing, fmt.Sprintf("the drop-in %s, which `agentctl disk enroll` writes", crypttab.DropInPath(d.Name)))
	}
	return t, nil
}

// diskChecked is what disk check prints as JSON.
type diskChecked struct {
	Disk    api.Disk `json:"disk"`    // the volume, as it is recorded
	Torn    bool     `json:"torn"`    // one of the two copies of the header has no right checksum
	Next    bool     `json:"next"`    // the device has the header of a change that was begun and not ended
	Line    bool     `json:"line"`    // crypttab has the line of the volume
	DropIn  bool     `json:"dropIn"`  // its unit has the drop-in that checks the header
	Missing []string `json:"missing"` // what to do before it opens at the next boot
}

func (t *terminal) checkDisk(c *cobra.Command, v *cryptsetup.Volume, _ *api.Disk) error {
	x, err := v.Check(c.Context())
	if err != nil {
		return diskFailed(err)
	}
	out := diskChecked{Disk: x.Disk, Torn: x.Torn, Next: x.Next, Missing: []string{}}
	d := &x.Disk
	of, err := tableOf(v.Folder, d)
	if err != nil {
		return diskFailed(err)
	}
	out.Line, out.DropIn, out.Missing = of.line, of.dropIn, append(out.Missing, of.missing...)
	if out.Torn || out.Disk.Pending {
		out.Missing = append(out.Missing, fmt.Sprintf("a change of the header was interrupted: agentctl disk rotate %s", d.Name))
	}
	return present(t, out, nil, func() {
		n := diskNode(d)
		n.add("the header on the device is the recorded one")
		for _, m := range out.Missing {
			n.add("to do: %s", m)
		}
		n.draw(t)
	})
}

func (t *terminal) drawDisk(d *api.Disk) { diskNode(d).draw(t) }

// diskNode returns a volume as a tree.
func diskNode(d *api.Disk) *node {
	n := &node{text: cleanLine(fmt.Sprintf("volume %s, %s", d.Name, d.UUID))}
	if d.Code != "" || d.Reason != "" {
		n.add("the record does not open: %s", d.Reason)
		return n
	}
	n.add("%s, key of %d bits, enrolled from %s", d.Cipher, d.KeyBits, d.Device)
	n.add("key slot %d is the agent's, asked for by %s", d.Slot, d.Unit)
	switch {
	case len(d.Recovery) > 0:
		n.add("recovery key slots: %v", d.Recovery)
	default:
		n.add("no recovery key slot: what the agent cannot open is lost")
	}
	if len(d.Former) > 0 || d.Pending {
		n.add("a rotation was interrupted: agentctl disk rotate %s", d.Name)
	}
	if d.Unproven {
		n.add("recovered although nothing told who wrote it: the key is not given out; enroll the volume again with --replace")
	}
	n.add("header %s", d.Digest)
	return n
}

func (t *terminal) printDisks(all *api.Disks, err error) error {
	err = present(t, all, err, func() {
		if len(all.Disks) == 0 {
			fmt.Fprintln(t.out, "no volume is enrolled")
		}
		for i := range all.Disks {
			t.drawDisk(&all.Disks[i])
		}
	})
	if err != nil {
		return err
	}
	for _, d := range all.Disks {
		if d.Code != "" || d.Reason != "" {
			return &exitError{code: exitSealed, hint: d.Code.Info().Hint}
		}
	}
	return nil
}
