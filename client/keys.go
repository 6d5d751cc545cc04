// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"

	"github.com/cvm-agentd/agentd/api"
)

// Derive asks for a secret of the calling app. The caller overwrites it after use.
func (c *Client) Derive(ctx context.Context, r api.DeriveRequest) (*api.Derived, error) {
	b, err := c.do(ctx, "POST", api.PathDerive, r, maxAnswer)
	defer clear(b)
	return decode[api.Derived](b, err)
}

// Seal stores a secret of the calling app. When it returns nil the secret is on disk.
func (c *Client) Seal(ctx context.Context, r api.SealRequest) (*api.Sealed, error) {
	return decode[api.Sealed](c.do(ctx, "POST", api.PathSeal, r, maxAnswer))
}

// Unseal opens what Seal stored. The caller overwrites it after use.
func (c *Client) Unseal(ctx context.Context, r api.UnsealRequest) ([]byte, error) {
	b, err := c.do(ctx, "POST", api.PathUnseal, r, maxAnswer)
	defer clear(b)
	out, err := decode[api.Unsealed](b, err)
	if err != nil {
		return nil, err
	}
	return out.Data, nil
}

// Discard deletes a secret that the calling app stored.
func (c *Client) Discard(ctx context.Context, name string) error {
	_, err := c.do(ctx, "POST", api.PathDiscard, api.DiscardRequest{Name: name}, maxAnswer)
	return err
}

// Contract says what a secret of that name would be sealed to now, and what would lock
// it out; without a name, the root that secrets of the calling app are derived from.
func (c *Client) Contract(ctx context.Context, name string) (*api.Contract, error) {
	return decode[api.Contract](c.do(ctx, "GET", api.PathContract+query(api.QueryName, name), nil, maxAnswer))
}

// query is the parameters that are not empty, by pairs of name and value.
func query(pairs ...string) string {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	if len(v) == 0 {
		return ""
	}
	return "?" + v.Encode()
}
