// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/secret"
)

// Enroll records a volume: the header that root writes to the device after this, and the key of
// the agent's key slot in it. It overwrites the key in r.
func (d *Disks) Enroll(ctx context.Context, r api.DiskEnrollRequest) (api.Disk, error) {
	defer clear(r.Key)
	if err := crypttab.CheckName(r.Name); err != nil {
		return api.Disk{}, problem.Invalid("/name", err.Error())
	}
	if err := checkDevice(r.Device); err != nil {
		return api.Disk{}, problem.Invalid("/device", err.Error())
	}
	e, err := newEntry(r.Header, r.Slot, r.Key)
	if err != nil {
		return api.Disk{}, err
	}
	defer e.key.Wipe()
	if alone := len(e.header.Slots()) == 1; alone && !r.LoseOnHardwareChange {
		return api.Disk{}, problem.New(api.CodeDiskNoRecovery, "the header has no key slot besides the agent's: another chip would lose the volume; keep a recovery key slot, or acknowledge the loss")
	}
	d.changing.Lock()
	defer d.changing.Unlock()
	if _, err := d.listed(ctx, r.Name); err == nil && !r.Replace {
		return api.Disk{}, problem.New(api.CodeDiskExists, fmt.Sprintf("volume %s is enrolled already", r.Name))
	} else if err != nil && !errors.Is(err, api.CodeNoSuchDisk) {
		return api.Disk{}, err
	}
	rec := &record{device: r.Device, recovery: others(e.header, e.slot), entries: []*entry{e}}
	rec.loss = len(rec.recovery) == 0
	return d.put(ctx, r.Name, rec, "enrolled")
}

// Change records the header that a volume is to have next. From then on both are accepted.
func (d *Disks) Change(ctx context.Context, r api.DiskChangeRequest) (api.Disk, error) {
	defer clear(r.Key)
	d.changing.Lock()
	defer d.changing.Unlock()
	_, rec, err := d.proven(ctx, r.Name)
	if err != nil {
		return api.Disk{}, err
	}
	defer rec.wipe()
	now := rec.entries[0]
	key := []byte(r.Key)
	if len(key) == 0 {
		if err := now.key.Use(func(b []byte) error { key = append([]byte{}, b...); return nil }); err != nil {
			return api.Disk{}, err
		}
	}
	next, err := newEntry(r.Header, r.Slot, key)
	if err != nil {
		return api.Disk{}, err
	}
	defer next.key.Wipe()
	switch h := next.header; {
	case h.UUID != now.header.UUID:
		return api.Disk{}, problem.New(api.CodeDiskOther, fmt.Sprintf("the next header is of volume %s, recorded is %s", h.UUID, now.header.UUID))
	case h.Sequence <= now.header.Sequence:
		return api.Disk{}, problem.New(api.CodeDiskOlder, fmt.Sprintf("the next header has sequence number %d, the present one %d", h.Sequence, now.header.Sequence))
	case slices.ContainsFunc(rec.recovery, func(n int) bool { return !h.SameSlot(now.header, n) }):
		return api.Disk{}, problem.New(api.CodeDiskNoRecovery, fmt.Sprintf("the next header does not have the recovery key slots %v as they are", rec.recovery))
	}
	return d.put(ctx, r.Name, rec.with(now, next), "next header recorded")
}

// Settle ends a change: every copy on the device is the next header. Then only that is accepted.
func (d *Disks) Settle(ctx context.Context, r api.DiskRequest) (api.Disk, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	out, rec, _, err := d.check(ctx, r)
	defer rec.wipe()
	if err != nil {
		return api.Disk{}, err
	}
	if len(rec.entries) == 1 {
		return out.Disk, nil // after a crash that came before the answer
	}
	next := rec.entries[1]
	for _, x := range r.Headers {
		if h, err := headerOf(x); err != nil || h.Digest() != next.header.Digest() {
			return api.Disk{}, problem.New(api.CodeDiskChanged, "a copy on the device is still the header of before")
		}
	}
	if len(r.Headers) != 2 {
		return api.Disk{}, problem.New(api.CodeDiskHeader, "a copy on the device has no right checksum")
	}
	return d.put(ctx, r.Name, rec.with(next), "next header in force")
}

// Remove forgets a volume. What it was opened by besides the agent opens it on.
func (d *Disks) Remove(ctx context.Context, name string) (api.DiskName, error) {
	d.changing.Lock()
	defer d.changing.Unlock()
	if _, err := d.listed(ctx, name); err != nil {
		return api.DiskName{}, err
	}
	if err := d.Records.RemoveVolume(ctx, name); err != nil {
		return api.DiskName{}, err
	}
	d.Log.Info("the key of a volume is forgotten", "volume", name)
	return api.DiskName{Name: name}, nil
}

// put replaces the record of a volume.
func (d *Disks) put(ctx context.Context, name string, r *record, what string) (api.Disk, error) {
	s, err := r.encode()
	if err != nil {
		return api.Disk{}, err
	}
	defer s.Wipe()
	if err := d.Records.PutVolume(ctx, name, s); err != nil {
		return api.Disk{}, err
	}
	d.Log.Info("volume: "+what, "volume", name, "header", r.entries[len(r.entries)-1].header.Digest().String())
	l, err := d.listed(ctx, name)
	if err != nil {
		return api.Disk{}, err
	}
	out, stored, err := d.open(ctx, l)
	stored.wipe()
	return out, err
}

// newEntry checks a header that root made and the key of the agent's key slot in it, which it
// overwrites.
func newEntry(h api.DiskHeader, slot uint32, key []byte) (*entry, error) {
	if len(key) != KeySize {
		clear(key)
		return nil, problem.Invalid("/key", fmt.Sprintf("%d bytes, want %d", len(key), KeySize))
	}
	k, err := secret.Take(key)
	if err != nil {
		return nil, err
	}
	e := &entry{slot: slot, key: k}
	if e.header, err = headerOf(h); err == nil {
		err = checkSlot(e.header, slot)
	}
	if err != nil {
		k.Wipe()
		return nil, refused(err)
	}
	return e, nil
}

// areas returns the digests of the areas by key slot.
func areas(list []api.DiskArea) map[int]evidence.Digest {
	out := make(map[int]evidence.Digest, len(list))
	for _, a := range list {
		out[int(a.Slot)] = a.Digest
	}
	return out
}
