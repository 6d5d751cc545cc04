// SPDX-License-Identifier: Apache-2.0

package cryptsetup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/luks"
)

// keySize is the size of the key of the agent's key slot in bytes.
const keySize = 64

// ReaderAt is what a header is read from.
type ReaderAt = io.ReaderAt

// A Device is the device of a volume.
type Device interface {
	io.ReaderAt
	luks.Target
}

// An Agent records volumes: the admin socket.
type Agent interface {
	CheckDisk(ctx context.Context, r api.DiskRequest) (*api.DiskChecked, error)
	DiskKey(ctx context.Context, r api.DiskRequest) (*api.DiskKey, error)
	EnrollDisk(ctx context.Context, r api.DiskEnrollRequest) (*api.Disk, error)
	ChangeDisk(ctx context.Context, r api.DiskChangeRequest) (*api.Disk, error)
	SettleDisk(ctx context.Context, r api.DiskRequest) (*api.Disk, error)
	RemoveDisk(ctx context.Context, name string) error
}

// A Volume is a volume on this machine.
type Volume struct {
	Agent  Agent
	Device Device
	Name   string
	Folder string // in memory, that of root alone: copies of headers
}

// ErrTorn is returned if no copy of the header has a right checksum.
var ErrTorn = errors.New("no copy of the LUKS2 header is whole")

// read returns the two copies of the header on the device, nil for one without a right checksum. A
// whole copy that breaks a rule is an error.
func (v *Volume) read() (copies [2]*luks.Header, err error) {
	found, err := luks.Read(v.Device)
	if err != nil {
		return copies, err
	}
	for i, c := range found {
		if c.Err != nil && !c.Torn {
			return copies, c.Err
		}
		copies[i] = c.Header
	}
	if copies[0] == nil && copies[1] == nil {
		return copies, fmt.Errorf("%w: %w", ErrTorn, found[0].Err)
	}
	return copies, nil
}

// request returns what the agent is asked about whole copies.
func (v *Volume) request(copies [2]*luks.Header) api.DiskRequest {
	r := api.DiskRequest{Name: v.Name}
	for _, h := range copies {
		if h != nil {
			r.Headers = append(r.Headers, wire(h))
		}
	}
	return r
}

// wire returns h as the agent is told of it.
func wire(h *luks.Header) api.DiskHeader {
	out := api.DiskHeader{Sequence: h.Sequence, Size: uint32(h.Size), Label: h.Label, UUID: h.UUID, Subsystem: h.Subsystem, JSON: h.JSON, Areas: []api.DiskArea{}}
	for _, n := range h.Slots() {
		out.Areas = append(out.Areas, api.DiskArea{Slot: uint32(n), Digest: h.Areas[n]})
	}
	return out
}

// chosen returns the copy that an answer of the agent chose.
func chosen(copies [2]*luks.Header, c *api.DiskChecked) (*luks.Header, error) {
	whole := slices.DeleteFunc(copies[:], func(h *luks.Header) bool { return h == nil })
	if int(c.Copy) >= len(whole) {
		return nil, fmt.Errorf("the agent chose copy %d of %d", c.Copy+1, len(whole))
	}
	return whole[c.Copy], nil
}

// Checked is what was found of the header on the device.
type Checked struct {
	*api.DiskChecked
	Torn bool // one of the two copies has no right checksum; disk rotate repairs that
}

// Check compares the header on the device with the recorded one.
func (v *Volume) Check(ctx context.Context) (*Checked, error) {
	copies, err := v.read()
	if err != nil {
		return nil, err
	}
	c, err := v.Agent.CheckDisk(ctx, v.request(copies))
	if err != nil {
		return nil, err
	}
	return &Checked{c, copies[0] == nil || copies[1] == nil}, nil
}

// Prepare checks the header on the device and leaves a copy of it in memory, from which
// systemd-cryptsetup opens the volume. A copy of before is removed first.
func (v *Volume) Prepare(ctx context.Context) error {
	file := crypttab.HeaderFile(v.Folder, v.Name)
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	copies, err := v.read()
	if err != nil {
		return err
	}
	c, err := v.Agent.CheckDisk(ctx, v.request(copies))
	if err != nil {
		return err
	}
	h, err := chosen(copies, c)
	if err != nil {
		return err
	}
	w, err := NewWork(v.Folder, h, v.Device)
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(w.path, file), w.Close())
}

// Request says how a volume is to be enrolled.
type Request struct {
	Path    string   // of the device
	Keys    [][]byte // keys of the key slots that it has: each must be opened by one of them
	Lose    bool     // remove those key slots, so that only the agent opens the volume
	Replace bool     // replace what is recorded under the name
	Slot    *int     // key slot of the agent in what is recorded, which may go
}

// Enroll adds a key slot for the agent and has it recorded.
func (v *Volume) Enroll(ctx context.Context, r Request) (*api.Disk, error) {
	copies, err := v.read()
	if err != nil {
		return nil, err
	}
	before := copies[0]
	if before == nil || copies[1] == nil || before.Digest() != copies[1].Digest() {
		return nil, errors.New("the two copies of the LUKS2 header differ, or one is damaged: `cryptsetup repair` mends that")
	}
	w, err := NewWork(v.Folder, before, v.Device)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	with, former, err := v.prove(ctx, w, before.Slots(), r)
	if err != nil {
		return nil, err
	}
	key := make([]byte, keySize)
	rand.Read(key) // never fails
	defer clear(key)
	slot, err := w.Add(ctx, with, key)
	if err != nil {
		return nil, err
	}
	// Only now, so that the new key slot gets room that the header on the device does not use.
	if r.Lose {
		former = slices.DeleteFunc(before.Slots(), func(n int) bool { return n == slot })
	}
	for _, n := range former {
		if err := w.Remove(ctx, n, key); err != nil {
			return nil, err
		}
	}
	h, err := w.Header()
	if err != nil {
		return nil, err
	}
	out, err := v.Agent.EnrollDisk(ctx, api.DiskEnrollRequest{
		Name: v.Name, Device: r.Path, Header: wire(h), Slot: uint32(slot), Key: slices.Clone(key), LoseOnHardwareChange: r.Lose, Replace: r.Replace,
	})
	if err != nil {
		return nil, err
	}
	if err := v.write(h, before, w); err != nil {
		return nil, fmt.Errorf("%w; the volume is recorded with a header that the device does not have yet: enroll it again with --replace", err)
	}
	return out, nil
}

// prove checks that each key slot is opened by a key of r, and returns one that opens a key slot. A
// key slot that none opens is foreign: an administrator knows the keys of a volume. Only the
// agent's own of before may go: former.
func (v *Volume) prove(ctx context.Context, w *Work, slots []int, r Request) (with []byte, former []int, err error) {
	for _, n := range slots {
		key, err := opening(ctx, w, n, r.Keys)
		switch {
		case err != nil:
			return nil, nil, err
		case key != nil:
			with = key
		case r.Replace && r.Slot != nil && *r.Slot == n:
			former = append(former, n)
		default:
			return nil, nil, &luks.Error{Code: api.CodeDiskSlot, Detail: fmt.Sprintf("no given key opens key slot %d: give the key of each key slot with --key-file, or remove the key slot with `cryptsetup luksKillSlot`", n)}
		}
	}
	if with == nil {
		return nil, nil, errors.New("no given key opens the volume: --key-file names a file with one that does")
	}
	return with, former, nil
}

// opening returns the key that opens key slot n, nil if none does.
func opening(ctx context.Context, w *Work, n int, keys [][]byte) ([]byte, error) {
	for _, k := range keys {
		if ok, err := w.Opens(ctx, n, k); ok || err != nil {
			return k, err
		}
	}
	return nil, nil
}

// write puts h in the place of before, and overwrites the areas that are free then.
func (v *Volume) write(h, before *luks.Header, from ReaderAt) error {
	if err := h.Replace(v.Device, before, from); err != nil {
		return err
	}
	return h.Wipe(v.Device)
}
