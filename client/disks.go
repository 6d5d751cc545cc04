// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Disks lists the volumes that the agent has the keys of.
func (a *Admin) Disks(ctx context.Context) (*api.Disks, error) {
	return call(ctx, a.socket(), api.CallDisks, api.None{})
}

// CheckDisk compares the header of a volume with the recorded one.
func (a *Admin) CheckDisk(ctx context.Context, r api.DiskRequest) (*api.DiskChecked, error) {
	return call(ctx, a.socket(), api.CallDiskCheck, r)
}

// DiskKey does what CheckDisk does, and returns the key of the agent's key slot, with which root
// adds another one. The caller overwrites it.
func (a *Admin) DiskKey(ctx context.Context, r api.DiskRequest) (*api.DiskKey, error) {
	return call(ctx, a.socket(), api.CallDiskKey, r)
}

// EnrollDisk records the key and the header of a volume.
func (a *Admin) EnrollDisk(ctx context.Context, r api.DiskEnrollRequest) (*api.Disk, error) {
	return call(ctx, a.socket(), api.CallDiskEnroll, r)
}

// ChangeDisk records the header that a volume is to have next.
func (a *Admin) ChangeDisk(ctx context.Context, r api.DiskChangeRequest) (*api.Disk, error) {
	return call(ctx, a.socket(), api.CallDiskChange, r)
}

// SettleDisk ends a change: the volume has its next header.
func (a *Admin) SettleDisk(ctx context.Context, r api.DiskRequest) (*api.Disk, error) {
	return call(ctx, a.socket(), api.CallDiskSettle, r)
}

// RemoveDisk makes the agent forget the key of a volume.
func (a *Admin) RemoveDisk(ctx context.Context, name string) error {
	_, err := call(ctx, a.socket(), api.CallDiskRemove, api.DiskName{Name: name})
	return err
}
