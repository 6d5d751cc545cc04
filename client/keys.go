// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Derive asks for a secret of the calling app. The caller overwrites it after use.
func (c *Client) Derive(ctx context.Context, r api.DeriveRequest) (*api.Derived, error) {
	return call(ctx, c.socket(), api.CallDerive, r)
}

// Seal stores a secret of the calling app. When it returns nil the secret is on disk.
func (c *Client) Seal(ctx context.Context, r api.SealRequest) (*api.Sealed, error) {
	return call(ctx, c.socket(), api.CallSeal, r)
}

// Unseal opens what Seal stored. The caller overwrites it after use.
func (c *Client) Unseal(ctx context.Context, r api.UnsealRequest) ([]byte, error) {
	out, err := call(ctx, c.socket(), api.CallUnseal, r)
	if err != nil {
		return nil, err
	}
	return out.Data, nil
}

// Discard deletes a secret that the calling app stored.
func (c *Client) Discard(ctx context.Context, name string) error {
	_, err := call(ctx, c.socket(), api.CallDiscard, api.DiscardRequest{Name: name})
	return err
}

// Contract says what a secret of that name would be sealed to now, and what would lock
// it out. Without a name it is about the root that the app's secrets are derived from.
func (c *Client) Contract(ctx context.Context, name string) (*api.Contract, error) {
	return call(ctx, c.socket(), api.CallContract, api.None{}, api.QueryName, name)
}
