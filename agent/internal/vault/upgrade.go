// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/transfer"
)

// Opened waits until opening the store was tried once, and returns it, open or locked. After each
// attempt to change it the caller calls Changed.
func (v *Vault) Opened(ctx context.Context) (*store.Store, error) { return v.opened(ctx) }

// Changed learns the state of the store anew.
func (v *Vault) Changed(ctx context.Context) { v.refresh(ctx) }

// releaseKey reads the release key that the configuration names, for a store that is made. A store
// that exists keeps its own.
func (v *Vault) releaseKey() (transfer.ReleaseKey, error) {
	path := v.c.Keys.ReleaseKey
	if path == "" {
		return transfer.ReleaseKey{}, nil
	}
	b, err := durable.ReadFile(path, transfer.MaxKeyFile)
	if err != nil {
		return transfer.ReleaseKey{}, fmt.Errorf("read the release key %s, to pin it in a new store: %w", path, err)
	}
	return transfer.ParseReleaseKey(b)
}
