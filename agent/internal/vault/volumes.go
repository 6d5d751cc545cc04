// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"strings"

	"github.com/cvm-agentd/agentd/agent/internal/disks"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// volumeSecret is the name of the record.
const volumeSecret = "record"

// Volumes keeps the records of volumes in the store, each as the secret of an app of its own whose
// unit is the service of the volume. So recovery, re-wrapping and the counter treat them as they
// treat all secrets.
type Volumes struct{ *Vault }

// ofVolume returns the owner of the record of a volume.
func ofVolume(name string) store.Caller {
	return store.Caller{App: sealing.App{Name: sealing.VolumeApp + name, Unit: crypttab.Unit(name), User: "root"}}
}

// Volumes lists the volumes that have a record.
func (v Volumes) Volumes(ctx context.Context) ([]disks.Listed, error) {
	s, err := v.opened(ctx)
	if err != nil {
		return nil, err
	}
	items, err := s.List(ctx)
	v.learn(ctx, err)
	if err != nil {
		return nil, err
	}
	var out []disks.Listed
	for _, i := range items {
		if name, ok := strings.CutPrefix(i.App, sealing.VolumeApp); ok && i.Kind == sealing.KindSecret && i.Name == volumeSecret {
			out = append(out, disks.Listed{Name: name, Generation: i.Generation, Unproven: i.Unproven})
		}
	}
	return out, nil
}

// Volume opens the record of a volume.
func (v Volumes) Volume(ctx context.Context, name string) (*secret.Secret, error) {
	s, err := v.opened(ctx)
	if err != nil {
		return nil, err
	}
	out, err := s.Unseal(ctx, ofVolume(name), volumeSecret, nil)
	v.learn(ctx, err)
	return out, err
}

// Changeable returns why no record would be changed now: the store was handed over to a successor.
func (v Volumes) Changeable(ctx context.Context) error {
	s, err := v.opened(ctx)
	if err != nil {
		return err
	}
	return s.Changeable(ctx)
}

// PutVolume replaces the record of a volume.
func (v Volumes) PutVolume(ctx context.Context, name string, record *secret.Secret) error {
	s, err := v.opened(ctx)
	if err != nil {
		return err
	}
	defer v.refresh(ctx)
	return s.Seal(ctx, ofVolume(name), volumeSecret, record, nil)
}

// RemoveVolume forgets a volume.
func (v Volumes) RemoveVolume(ctx context.Context, name string) error {
	s, err := v.opened(ctx)
	if err != nil {
		return err
	}
	defer v.refresh(ctx)
	return s.Forget(ctx, sealing.VolumeApp+name)
}
