// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
)

// Store lists the sealed blobs of the machine, and says how the store stands.
func (a *Admin) Store(ctx context.Context) (*api.Store, error) {
	return decode[api.Store](a.do(ctx, "GET", api.PathStore, nil))
}

// Contract says what the root of an app opens on, or its secret of that name.
func (a *Admin) Contract(ctx context.Context, app, name string) (*api.Contract, error) {
	return decode[api.Contract](a.do(ctx, "GET", api.PathStoreContract+query(api.QueryApp, app, api.QueryName, name), nil))
}

// Rewrap seals every blob to the machine as it is now.
func (a *Admin) Rewrap(ctx context.Context) (*api.Rewritten, error) {
	return decode[api.Rewritten](a.do(ctx, "POST", api.PathRewrap, nil))
}

// Rotate gives an app a new version of its root, and returns its number.
func (a *Admin) Rotate(ctx context.Context, app string) (uint32, error) {
	out, err := decode[api.RootVersion](a.do(ctx, "POST", api.PathRotate, api.RotateRequest{App: app}))
	if err != nil {
		return 0, err
	}
	return out.Version, nil
}

// Retire forgets an older version of an app's root: what was derived from it is lost.
func (a *Admin) Retire(ctx context.Context, app string, version uint32) error {
	_, err := a.do(ctx, "POST", api.PathRetire, api.RetireRequest{App: app, Version: version})
	return err
}

// Recover opens with recovery identities (a file of age-keygen) what this machine cannot
// open, and seals it to this machine. Without, it salvages a store whose manifest is lost.
func (a *Admin) Recover(ctx context.Context, identities []byte) (*api.Rewritten, error) {
	return decode[api.Rewritten](a.do(ctx, "POST", api.PathRecover, api.RecoverRequest{Identities: identities}))
}

// ChangeRecipients seals every blob to other recovery recipients.
func (a *Admin) ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (*api.Rewritten, error) {
	return decode[api.Rewritten](a.do(ctx, "POST", api.PathRecipients, r))
}

// AcceptRollback makes an older state that was put back the current one.
func (a *Admin) AcceptRollback(ctx context.Context) (*api.Store, error) {
	return decode[api.Store](a.do(ctx, "POST", api.PathAccept, nil))
}

// ChangeDigests changes which digests an app must have for its keys.
func (a *Admin) ChangeDigests(ctx context.Context, r api.DigestRequest) (*api.Contract, error) {
	return decode[api.Contract](a.do(ctx, "POST", api.PathDigests, r))
}

// Probe tries out the key derivation of the platform, with a handful of requests to its firmware.
func (a *Admin) Probe(ctx context.Context) (*api.Probed, error) {
	return decode[api.Probed](a.do(ctx, "POST", api.PathProbe, nil))
}
