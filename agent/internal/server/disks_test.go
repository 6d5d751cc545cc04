// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// fakeDisks has one volume.
type fakeDisks struct{}

var aDisk = api.Disk{Name: "data", UUID: "6b1d35f6-1b0e-4b6f-9b39-5d0c3bb9d5d3", Device: "/dev/vdb", Cipher: "aes-xts-plain64", KeyBits: 512, Slot: 1,
	Recovery: []uint32{0}, Former: []uint32{}, Digest: evidence.Digest{1}, Generation: 2, Unit: "systemd-cryptsetup@data.service"}

func (fakeDisks) List(context.Context) (api.Disks, error) {
	return api.Disks{Disks: []api.Disk{aDisk}}, nil
}
func (fakeDisks) Check(context.Context, api.DiskRequest) (api.DiskChecked, error) {
	return api.DiskChecked{Disk: aDisk}, nil
}
func (fakeDisks) Key(context.Context, api.DiskRequest) (api.DiskKey, error) {
	return api.DiskKey{DiskChecked: api.DiskChecked{Disk: aDisk}, Key: evidence.Bytes{1}}, nil
}
func (fakeDisks) Enroll(context.Context, api.DiskEnrollRequest) (api.Disk, error) { return aDisk, nil }
func (fakeDisks) Change(context.Context, api.DiskChangeRequest) (api.Disk, error) { return aDisk, nil }
func (fakeDisks) Settle(context.Context, api.DiskRequest) (api.Disk, error)       { return aDisk, nil }
func (fakeDisks) Remove(_ context.Context, name string) (api.DiskName, error) {
	return api.DiskName{Name: name}, nil
}
