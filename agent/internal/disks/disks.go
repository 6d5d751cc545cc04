// SPDX-License-Identifier: Apache-2.0

// Package disks keeps the keys of LUKS2 volumes, each with what is recorded of the volume's
// header, and hands a key out only for that header. docs/disks.md has the design.
//
// # Who calls whom
//
// Root's agentctl reads devices, runs cryptsetup and writes headers; the routes of
// administration tell this package what the header of a volume is, and what it is to be next.
// systemd-cryptsetup asks over the credentials socket for the key: [Disks.VolumeKey] then reads
// the copy of the header in memory that this very process uses.
//
// # Who owns which state
//
// The record of a volume is in the store of sealed blobs, as one blob. It has one header, or two
// while a change is under way: the present one and the next. Each step of a change is one write
// of the record, which the store makes durable as a whole. Nothing else is kept.
package disks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/luks"
	"github.com/cvm-agentd/agentd/internal/secret"
)

// Records are the records of volumes in the store of sealed blobs.
type Records interface {
	// Volumes lists the volumes that have a record, by name, without opening one.
	Volumes(ctx context.Context) ([]Listed, error)
	// Volume opens the record of a volume. The code is [api.CodeNotFound] if it has none. The
	// caller wipes it.
	Volume(ctx context.Context, name string) (*secret.Secret, error)
	// Changeable returns why no record would be changed now, nil if one would.
	Changeable(ctx context.Context) error
	// PutVolume replaces the record of a volume. When it returns nil, the new one is durable.
	// After an error either is there. The caller wipes the record.
	PutVolume(ctx context.Context, name string, record *secret.Secret) error
	// RemoveVolume forgets a volume.
	RemoveVolume(ctx context.Context, name string) error
}

// Listed is what the store knows of a record without opening it.
type Listed struct {
	Name       string
	Generation uint64
	Unproven   bool // recovered although nothing told who wrote it
}

// Disks are the volumes that the agent has the keys of.
type Disks struct {
	Records Records
	Folder  string                       // of the checked copies of headers
	Owners  []uint32                     // who may own a copy: root
	Memory  func(*os.File) (bool, error) // whether a file is in memory, so that no host can change it; nil asks the kernel
	Log     *slog.Logger

	changing sync.Mutex // held from reading a record to its replacement
}

// List returns every volume.
func (d *Disks) List(ctx context.Context) (api.Disks, error) {
	out := api.Disks{Disks: []api.Disk{}}
	all, err := d.Records.Volumes(ctx)
	if err != nil {
		return out, err
	}
	for _, l := range all {
		x, r, err := d.open(ctx, l)
		if err != nil {
			x.Code, x.Reason = codeOf(err), err.Error()
		}
		r.wipe()
		out.Disks = append(out.Disks, x)
	}
	return out, nil
}

// listed returns what the store lists of a volume.
func (d *Disks) listed(ctx context.Context, name string) (Listed, error) {
	if err := crypttab.CheckName(name); err != nil {
		return Listed{}, problem.Invalid("/name", err.Error())
	}
	all, err := d.Records.Volumes(ctx)
	if err != nil {
		return Listed{}, err
	}
	i := slices.IndexFunc(all, func(l Listed) bool { return l.Name == name })
	if i < 0 {
		return Listed{}, problem.New(api.CodeNoSuchDisk, fmt.Sprintf("volume %s is not enrolled", name))
	}
	return all[i], nil
}

// open opens the record of a volume. The Disk says what is known even after an error. The caller
// wipes the record.
func (d *Disks) open(ctx context.Context, l Listed) (api.Disk, *record, error) {
	out := api.Disk{Name: l.Name, Generation: l.Generation, Unproven: l.Unproven, Recovery: []uint32{}, Former: []uint32{}, Unit: crypttab.Unit(l.Name)}
	s, err := d.Records.Volume(ctx, l.Name)
	if err != nil {
		return out, nil, err
	}
	defer s.Wipe()
	r, err := parseRecord(s)
	if err != nil {
		return out, nil, err
	}
	now := r.entries[0]
	out.UUID, out.Device, out.Slot, out.LossAck, out.Pending = now.header.UUID, r.device, now.slot, r.loss, len(r.entries) > 1
	out.Cipher, out.KeyBits = now.header.Cipher()
	out.KeyBits *= 8
	out.Digest = now.header.Digest()
	for _, n := range others(now.header, now.slot) {
		if slices.Contains(r.recovery, n) {
			out.Recovery = append(out.Recovery, uint32(n))
		} else {
			out.Former = append(out.Former, uint32(n))
		}
	}
	return out, r, nil
}

// proven opens the record of a volume, and refuses one of which nothing tells who wrote it: a
// party that knows the key could have chosen it.
func (d *Disks) proven(ctx context.Context, name string) (api.Disk, *record, error) {
	l, err := d.listed(ctx, name)
	if err != nil {
		return api.Disk{}, nil, err
	}
	if l.Unproven {
		return api.Disk{}, nil, problem.New(api.CodeDiskUnproven, fmt.Sprintf("the record of volume %s was recovered although nothing told who wrote it", name))
	}
	return d.open(ctx, l)
}

// Check compares the header that root read with the record.
func (d *Disks) Check(ctx context.Context, r api.DiskRequest) (api.DiskChecked, error) {
	out, rec, _, err := d.check(ctx, r)
	rec.wipe()
	return out, err
}

// Key returns the key of the agent's key slot in the header that root read, if that is recorded.
// Root needs it to change the header: so it is refused if the record would not follow. The caller
// overwrites it.
func (d *Disks) Key(ctx context.Context, r api.DiskRequest) (api.DiskKey, error) {
	if err := d.Records.Changeable(ctx); err != nil {
		return api.DiskKey{}, err
	}
	out, rec, e, err := d.check(ctx, r)
	defer rec.wipe()
	if err != nil {
		return api.DiskKey{}, err
	}
	d.Log.Info("root got the key of a volume, to change its header", "volume", r.Name)
	k := api.DiskKey{DiskChecked: out}
	err = e.key.Use(func(b []byte) error { k.Key = slices.Clone(b); return nil })
	return k, err
}

// check compares the copies of a header with the record, and returns the entry of the one to use.
func (d *Disks) check(ctx context.Context, r api.DiskRequest) (out api.DiskChecked, rec *record, e *entry, err error) {
	var copies []*luks.Header
	if len(r.Headers) < 1 || len(r.Headers) > 2 {
		return out, nil, nil, problem.Invalid("/headers", fmt.Sprintf("the number of copies is %d, want 1 or 2: a header without a right checksum does not count", len(r.Headers)))
	}
	if out.Disk, rec, err = d.proven(ctx, r.Name); err != nil {
		return out, rec, nil, err
	}
	for _, h := range r.Headers {
		x, err := headerOf(h)
		if err != nil {
			return out, rec, nil, refused(err)
		}
		copies = append(copies, x)
	}
	use, e, err := rec.match(copies)
	if err != nil {
		return out, rec, nil, refused(err)
	}
	out.Copy, out.Next = uint32(use), e != rec.entries[0]
	return out, rec, e, nil
}

// refused returns the problem of a header that is refused.
func refused(err error) error {
	if c := luks.CodeOf(err); c != "" {
		return problem.New(c, err.Error())
	}
	return err
}

// codeOf returns the code of an error, "" if it has none.
func codeOf(err error) api.Code {
	for _, c := range api.Codes() {
		if errors.Is(err, c.Code) {
			return c.Code
		}
	}
	return ""
}

// headerOf checks a header that root read.
func headerOf(h api.DiskHeader) (*luks.Header, error) {
	x := luks.Header{Sequence: h.Sequence, Size: int64(h.Size), Label: h.Label, UUID: strings.ToLower(h.UUID), Subsystem: h.Subsystem, JSON: h.JSON}
	if len(h.Areas) > luks.MaxSlots {
		return nil, problem.Invalid("/headers/areas", fmt.Sprintf("%d areas, at most %d", len(h.Areas), luks.MaxSlots))
	}
	x.Areas = areas(h.Areas)
	return luks.New(x)
}
