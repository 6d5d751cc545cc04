// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Disks are the volumes that the agent has the keys of, for administrators.
type Disks interface {
	List(ctx context.Context) (api.Disks, error)
	// Check compares the header of a volume with what is recorded.
	Check(ctx context.Context, r api.DiskRequest) (api.DiskChecked, error)
	// Key does what Check does, and returns the key of the agent's key slot.
	Key(ctx context.Context, r api.DiskRequest) (api.DiskKey, error)
	// Enroll and Change overwrite the key in r.
	Enroll(ctx context.Context, r api.DiskEnrollRequest) (api.Disk, error)
	Change(ctx context.Context, r api.DiskChangeRequest) (api.Disk, error)
	Settle(ctx context.Context, r api.DiskRequest) (api.Disk, error)
	Remove(ctx context.Context, name string) (api.DiskName, error)
}

// withHeaders is the budget of a request with two headers: in base64, decoded, and as a record.
const withHeaders = 256 << 10

// diskRoutes are the routes for volumes. That of the key is the only one of administration that
// hands a key out: root needs it to add a key slot, and can read the volume anyway.
var diskRoutes = []route{
	answer(api.CallDisks, withHeaders, func(ctx context.Context, s *Server, _ api.None) (api.Disks, error) { return s.Disks.List(ctx) }),
	answer(api.CallDiskCheck, withHeaders, func(ctx context.Context, s *Server, r api.DiskRequest) (api.DiskChecked, error) {
		return s.Disks.Check(ctx, r)
	}),
	handle(api.CallDiskKey, func(s *Server, _ *call, r api.DiskRequest) (job, error) {
		return job{bytes: withHeaders, run: func(ctx context.Context) (any, error) {
			k, err := s.Disks.Key(ctx, r)
			return sensitive{k, k.Key}, err
		}}, nil
	}),
	answer(api.CallDiskEnroll, withHeaders, func(ctx context.Context, s *Server, r api.DiskEnrollRequest) (api.Disk, error) {
		return s.Disks.Enroll(ctx, r)
	}),
	answer(api.CallDiskChange, withHeaders, func(ctx context.Context, s *Server, r api.DiskChangeRequest) (api.Disk, error) {
		return s.Disks.Change(ctx, r)
	}),
	answer(api.CallDiskSettle, withHeaders, func(ctx context.Context, s *Server, r api.DiskRequest) (api.Disk, error) {
		return s.Disks.Settle(ctx, r)
	}),
	answer(api.CallDiskRemove, small, func(ctx context.Context, s *Server, r api.DiskName) (api.DiskName, error) {
		return s.Disks.Remove(ctx, r.Name)
	}),
}
