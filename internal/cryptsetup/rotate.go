// SPDX-License-Identifier: Apache-2.0

package cryptsetup

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/luks"
)

// state is a volume whose two copies of the header are the recorded one.
type state struct {
	header *luks.Header
	disk   api.Disk
	key    []byte
	ended  bool // a change that was begun before was ended now
}

// settle brings a volume to the state in which only one header is recorded and both copies are it,
// from whatever state a crash left.
func (v *Volume) settle(ctx context.Context) (*state, error) {
	copies, err := v.read()
	if err != nil {
		return nil, err
	}
	k, err := v.Agent.DiskKey(ctx, v.request(copies))
	if err != nil {
		return nil, err
	}
	s := &state{disk: k.Disk, key: k.Key}
	if s.header, err = chosen(copies, &k.DiskChecked); err != nil {
		return nil, err
	}
	// A copy that is not whole goes first: the other one is all there is.
	for i := range copies {
		if copies[i] == nil {
			if err := s.header.WriteCopy(v.Device, i); err != nil {
				return nil, err
			}
		}
	}
	for i := range copies {
		if copies[i] != nil && copies[i].Digest() != s.header.Digest() {
			if err := s.header.WriteCopy(v.Device, i); err != nil {
				return nil, err
			}
		}
	}
	if !k.Disk.Pending || !k.Next {
		return s, nil // a next header that the device never had is replaced by the next change
	}
	disk, err := v.Agent.SettleDisk(ctx, v.request([2]*luks.Header{s.header, s.header}))
	if err != nil {
		return nil, err
	}
	s.disk, s.ended = *disk, true
	return s, nil
}

// change makes one change of the header on a copy, and puts it on the device: f changes the copy and
// returns the agent's key slot in it, and its key if that is new.
func (v *Volume) change(ctx context.Context, s *state, f func(*Work) (slot int, key []byte, err error)) error {
	w, err := NewWork(v.Folder, s.header, v.Device)
	if err != nil {
		return err
	}
	defer w.Close()
	slot, key, err := f(w)
	if err != nil {
		return err
	}
	h, err := w.Header()
	if err != nil {
		return err
	}
	if _, err := v.Agent.ChangeDisk(ctx, api.DiskChangeRequest{Name: v.Name, Header: wire(h), Slot: uint32(slot), Key: slices.Clone(key)}); err != nil {
		return err
	}
	if err := h.Replace(v.Device, s.header, w); err != nil {
		return err
	}
	copies, err := v.read()
	if err != nil {
		return err
	}
	disk, err := v.Agent.SettleDisk(ctx, v.request(copies))
	if err != nil {
		return err
	}
	s.header, s.disk = h, *disk
	if key != nil {
		clear(s.key)
		s.key = key
	}
	return nil
}

// Rotate gives the agent a new key and key slot, and removes the former one. If a rotation was
// interrupted, it ends that one.
func (v *Volume) Rotate(ctx context.Context) (*api.Disk, error) {
	s, err := v.settle(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { clear(s.key) }()
	if !s.ended && len(s.disk.Former) == 0 {
		if err := v.addKey(ctx, s); err != nil {
			return nil, err
		}
	}
	if len(s.disk.Former) > 0 {
		err := v.change(ctx, s, func(w *Work) (int, []byte, error) {
			for _, n := range s.disk.Former {
				if err := w.Remove(ctx, int(n), s.key); err != nil {
					return 0, nil, err
				}
			}
			return int(s.disk.Slot), nil, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return &s.disk, s.header.Wipe(v.Device)
}

// addKey adds a key slot with a new key, which is the agent's from then on.
func (v *Volume) addKey(ctx context.Context, s *state) error {
	return v.change(ctx, s, func(w *Work) (int, []byte, error) {
		key := make([]byte, keySize)
		rand.Read(key) // never fails
		slot, err := w.Add(ctx, s.key, key)
		return slot, key, err
	})
}

// Remove removes the agent's key slots and has the agent forget the volume. The recovery key opens it
// on.
func (v *Volume) Remove(ctx context.Context) error {
	s, err := v.settle(ctx)
	if err != nil {
		return err
	}
	defer func() { clear(s.key) }()
	if len(s.disk.Recovery) == 0 {
		return &luks.Error{Code: api.CodeDiskNoRecovery, Detail: "nothing but the agent opens the volume: without it the data is lost. Add a key slot with cryptsetup first, or make the agent forget the key: --forget"}
	}
	w, err := NewWork(v.Folder, s.header, v.Device)
	if err != nil {
		return err
	}
	defer w.Close()
	for _, n := range slices.Concat(s.disk.Former, []uint32{s.disk.Slot}) {
		if err := w.Forget(ctx, int(n)); err != nil {
			return err
		}
	}
	h, err := w.Header()
	if err != nil {
		return err
	}
	if err := v.write(h, s.header, w); err != nil {
		return fmt.Errorf("%w; if the device has its next header already, `agentctl disk remove --forget` does the rest", err)
	}
	return v.Forget(ctx)
}

// Forget has the agent forget the volume, and leaves the device as it is.
func (v *Volume) Forget(ctx context.Context) error {
	if err := v.Agent.RemoveDisk(ctx, v.Name); err != nil {
		return err
	}
	return os.RemoveAll(crypttab.HeaderFile(v.Folder, v.Name))
}
