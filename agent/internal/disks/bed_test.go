// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/cryptsetup"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// records are the records of volumes in memory. Step is called before and after each write.
type records struct {
	sealed     map[string][]byte
	unproven   bool
	frozen     error // why no record is changed
	generation uint64
	step       func(what string, do func() error) error
}

func (r *records) Volumes(context.Context) (out []Listed, _ error) {
	for name := range r.sealed {
		out = append(out, Listed{Name: name, Generation: r.generation, Unproven: r.unproven})
	}
	return out, nil
}

func (r *records) Volume(_ context.Context, name string) (*secret.Secret, error) {
	b, ok := r.sealed[name]
	if !ok {
		return nil, &sealing.Error{Code: api.CodeNotFound}
	}
	return secret.Take(bytes.Clone(b))
}

func (r *records) Changeable(context.Context) error { return r.frozen }

func (r *records) PutVolume(_ context.Context, name string, record *secret.Secret) error {
	if r.frozen != nil {
		return r.frozen
	}
	return r.step("record", func() error {
		r.generation++
		return record.Use(func(b []byte) error { r.sealed[name] = bytes.Clone(b); return nil })
	})
}

func (r *records) RemoveVolume(_ context.Context, name string) error {
	if r.frozen != nil {
		return r.frozen
	}
	return r.step("forget", func() error { delete(r.sealed, name); return nil })
}

// direct is the admin socket without a socket.
type direct struct{ *Disks }

func (d direct) CheckDisk(ctx context.Context, r api.DiskRequest) (*api.DiskChecked, error) {
	out, err := d.Check(ctx, r)
	return &out, err
}
func (d direct) DiskKey(ctx context.Context, r api.DiskRequest) (*api.DiskKey, error) {
	out, err := d.Key(ctx, r)
	return &out, err
}
func (d direct) EnrollDisk(ctx context.Context, r api.DiskEnrollRequest) (*api.Disk, error) {
	out, err := d.Enroll(ctx, r)
	return &out, err
}
func (d direct) ChangeDisk(ctx context.Context, r api.DiskChangeRequest) (*api.Disk, error) {
	out, err := d.Change(ctx, r)
	return &out, err
}
func (d direct) SettleDisk(ctx context.Context, r api.DiskRequest) (*api.Disk, error) {
	out, err := d.Settle(ctx, r)
	return &out, err
}
func (d direct) RemoveDisk(ctx context.Context, name string) error {
	_, err := d.Remove(ctx, name)
	return err
}

// disk is a device that loses at a power cut what was not synced.
type disk struct {
	durable []byte
	pending []write // not synced
	step    func(what string, do func() error) error
}

type write struct {
	offset int64
	b      []byte
}

// now returns what a program reads: everything that was written.
func (d *disk) now() []byte {
	out := bytes.Clone(d.durable)
	for _, w := range d.pending {
		copy(out[w.offset:], w.b)
	}
	return out
}

func (d *disk) ReadAt(b []byte, offset int64) (int, error) {
	if len(d.pending) == 0 {
		return bytes.NewReader(d.durable).ReadAt(b, offset)
	}
	return bytes.NewReader(d.now()).ReadAt(b, offset)
}

func (d *disk) WriteAt(b []byte, offset int64) (int, error) {
	err := d.step("write", func() error { d.pending = append(d.pending, write{offset, bytes.Clone(b)}); return nil })
	return len(b), err
}

func (d *disk) Sync() error {
	return d.step("sync", func() error { d.durable, d.pending = d.now(), nil; return nil })
}

// errCut is a power cut.
var errCut = errors.New("the power is cut")

// bed is a machine with one volume.
type bed struct {
	t       testing.TB
	records *records
	disks   *Disks
	disk    *disk
	volume  *cryptsetup.Volume
	steps   int
	cut     int  // number of the step at which the power is cut; 0: never
	after   bool // after the step took effect
	off     bool
	where   string // for messages
}

// recoveryKey opens the recovery key slot.
var recoveryKey = []byte("a recovery key of the administrator")

// needCryptsetup skips a test if cryptsetup is not installed.
func needCryptsetup(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed: scripts/setup.sh installs it")
	}
}

// formatted returns a device of 17 MiB with an empty volume.
func formatted(t testing.TB) []byte {
	t.Helper()
	needCryptsetup(t)
	path := filepath.Join(t.TempDir(), "volume")
	must(t, os.WriteFile(path, nil, 0o600))
	must(t, os.Truncate(path, 17<<20))
	run(t, recoveryKey, "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-", path)
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func run(t testing.TB, in []byte, args ...string) {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Stdin = bytes.NewReader(in)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

func newBed(t testing.TB, device []byte) *bed {
	b := &bed{t: t}
	b.records = &records{sealed: map[string][]byte{}, step: b.step}
	folder := t.TempDir()
	b.disks = &Disks{
		Records: b.records, Folder: folder, Owners: []uint32{uint32(os.Geteuid())},
		Memory: func(*os.File) (bool, error) { return true, nil }, Log: slog.New(slog.DiscardHandler),
	}
	b.disk = &disk{durable: device, step: b.step}
	b.volume = &cryptsetup.Volume{Agent: direct{b.disks}, Device: b.disk, Name: "data", Folder: folder}
	return b
}

// step runs one durable step, or cuts the power in place of it or after it.
func (b *bed) step(what string, do func() error) error {
	if b.off {
		return errCut
	}
	b.steps++
	if b.steps != b.cut {
		return do()
	}
	b.off = true
	if b.after {
		if err := do(); err != nil {
			return err
		}
	}
	return errCut
}

// boot is a start after a power cut: lost says what becomes of writes that were not synced.
func (b *bed) boot(lost func(w []write) []write) {
	b.disk.pending = lost(b.disk.pending)
	b.disk.durable, b.disk.pending = b.disk.now(), nil
	b.off, b.cut = false, 0
	entries, err := os.ReadDir(b.disks.Folder) // in memory
	must(b.t, err)
	for _, e := range entries {
		must(b.t, os.RemoveAll(filepath.Join(b.disks.Folder, e.Name())))
	}
}

func (b *bed) enroll() {
	b.t.Helper()
	_, err := b.volume.Enroll(b.t.Context(), cryptsetup.Request{Path: "/dev/vdb", Keys: [][]byte{recoveryKey}})
	must(b.t, err)
}

// command is that of systemd-cryptsetup for the volume.
func (b *bed) command() []string {
	return []string{"/lib/systemd/systemd-cryptsetup", "attach", "data", "/dev/disk/by-uuid/x", "/run/agentd/credentials.sock",
		"luks,header=" + crypttab.HeaderFile(b.disks.Folder, "data") + ",headless=true,tries=1,_netdev"}
}

// key does what the unit of the volume does, and returns the key that systemd-cryptsetup gets.
func (b *bed) key() ([]byte, error) {
	if err := b.volume.Prepare(b.t.Context()); err != nil {
		return nil, err
	}
	k, err := b.disks.VolumeKey(b.t.Context(), "data", b.command())
	if err != nil {
		return nil, err
	}
	defer k.Wipe()
	var out []byte
	err = k.Use(func(x []byte) error { out = slices.Clone(x); return nil })
	return out, err
}

// opens has cryptsetup open the volume by the copy of the header, and returns the bytes of the key
// of the volume.
func (b *bed) opens() []byte {
	b.t.Helper()
	key, err := b.key()
	if err != nil {
		b.t.Fatalf("%s: %v", b.where, err)
	}
	return volumeKey(b.t, crypttab.HeaderFile(b.disks.Folder, "data"), key)
}

// volumeKey returns the key of a volume.
func volumeKey(t testing.TB, path string, key []byte) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "vk")
	run(t, key, "cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key", "--volume-key-file", out, "--key-file", "-", path)
	b, err := os.ReadFile(out)
	must(t, err)
	if len(b) != 64 {
		t.Fatalf("a key of %d bytes", len(b))
	}
	return b
}

// onDisk returns the key of the volume that key opens, of the device as it is.
func (b *bed) onDisk(key []byte) []byte {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "device")
	must(b.t, os.WriteFile(path, b.disk.now(), 0o600))
	return volumeKey(b.t, path, key)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ofAdministrator is what an administrator gives to an enrolment.
func ofAdministrator(b *bed, replace bool) cryptsetup.Request {
	r := cryptsetup.Request{Path: "/dev/vdb", Keys: [][]byte{recoveryKey}, Replace: replace}
	if all, err := b.disks.List(b.t.Context()); err == nil && replace && len(all.Disks) == 1 {
		r.Slot = new(int(all.Disks[0].Slot))
	}
	return r
}

// repaired has cryptsetup mend a copy of the header that is torn, as an administrator does before an
// enrolment, and returns the key of the volume.
func repaired(b *bed) []byte {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), "device")
	must(b.t, os.WriteFile(path, b.disk.durable, 0o600))
	run(b.t, nil, "cryptsetup", "repair", "--batch-mode", path)
	vk := volumeKey(b.t, path, recoveryKey)
	mended, err := os.ReadFile(path)
	must(b.t, err)
	b.disk.durable = mended
	return vk
}
