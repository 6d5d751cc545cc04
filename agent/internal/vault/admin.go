// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// Admin answers administrators. No answer contains a secret.
type Admin struct{ *Vault }

// Store lists every blob, and returns what is known of a store that does not open.
func (a Admin) Store(ctx context.Context) (api.Store, error) {
	s, err := a.opened(ctx)
	if err != nil {
		return api.Store{}, err
	}
	a.refresh(ctx)
	out := api.Store{Status: a.Status(), Recipients: []string{}, Blobs: []api.SealedBlob{}}
	if out.Status.State != api.StateOK {
		return out, nil
	}
	_, state := a.now()
	out.Recipients, out.Differ = append(out.Recipients, state.Recipients...), state.Differ
	items, err := s.List(ctx)
	if err != nil {
		return api.Store{}, err
	}
	for _, i := range items {
		b := api.SealedBlob{App: i.App, Kind: i.Kind.String(), Name: i.Name, Generation: i.Generation, Bytes: int(i.Size), Slot: i.Slot.String(), Rewrap: i.Rewrap, Unproven: i.Unproven}
		if i.TCB != (sealing.TCB{}) {
			b.TCB = i.TCB.String()
		}
		out.Blobs = append(out.Blobs, b)
	}
	return out, nil
}

// Contract returns what a blob opens on, from its file if it does not open. Of a volume it is the
// record: a volume derives nothing, so it has no root.
func (a Admin) Contract(ctx context.Context, app, name string) (api.Contract, error) {
	s, err := a.opened(ctx)
	if err != nil {
		return api.Contract{}, err
	}
	if name == "" && strings.HasPrefix(app, sealing.VolumeApp) {
		name = volumeSecret
	}
	c, err := s.Contract(ctx, app, name)
	if err != nil && c.App.Name == "" {
		return api.Contract{}, err
	}
	return contractOf(c, err), nil
}

// whole runs an operation over the whole store.
func (a Admin) whole(ctx context.Context, what string, do func(*store.Store) (store.Report, error)) (api.Rewritten, error) {
	s, err := a.opened(ctx)
	if err != nil {
		return api.Rewritten{}, err
	}
	r, err := do(s)
	a.refresh(ctx)
	if err != nil {
		a.c.Log.Error("administration of sealed blobs failed", "operation", what, "error", err)
		return api.Rewritten{}, err
	}
	a.c.Log.Info("administration of sealed blobs", "operation", what, "written", r.Written, "kept", len(r.Kept))
	out := api.Rewritten{Written: r.Written, Kept: []api.KeptBlob{}, StoreKey: r.StoreKey.String(), NewStoreKey: r.NewKey}
	if r.NewKey {
		a.c.Log.Warn("the store of sealed blobs has a new store key: keep it with the recovery identity", "store_key", out.StoreKey)
	}
	for _, k := range r.Kept {
		out.Kept = append(out.Kept, api.KeptBlob{App: k.App, Kind: k.Kind.String(), Name: k.Name, Code: sealing.CodeOf(k.Err), Reason: k.Err.Error()})
	}
	return out, nil
}

// Rewrap seals every blob to the machine as it is now.
func (a Admin) Rewrap(ctx context.Context) (api.Rewritten, error) {
	return a.whole(ctx, "rewrap", func(s *store.Store) (store.Report, error) { return s.Rewrap(ctx) })
}

// RotateStoreKey gives the store a new key.
func (a Admin) RotateStoreKey(ctx context.Context) (api.Rewritten, error) {
	return a.whole(ctx, "rotate store key", func(s *store.Store) (store.Report, error) { return s.RotateStoreKey(ctx) })
}

// ChangeRecipients seals every blob to other recovery recipients.
func (a Admin) ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (api.Rewritten, error) {
	return a.whole(ctx, "change recipients", func(s *store.Store) (store.Report, error) {
		return s.ChangeRecipients(ctx, r.Recipients, r.LoseOnHardwareChange)
	})
}

// change runs an operation that changes one thing.
func (a Admin) change(ctx context.Context, what string, do func(*store.Store) error) error {
	s, err := a.opened(ctx)
	if err != nil {
		return err
	}
	err = do(s)
	a.refresh(ctx)
	if err != nil {
		return err
	}
	a.c.Log.Info("administration of sealed blobs", "operation", what)
	return nil
}

// Rotate gives an app a new version of its root.
func (a Admin) Rotate(ctx context.Context, app string) (version uint32, err error) {
	err = a.change(ctx, "rotate "+app, func(s *store.Store) (err error) {
		version, err = s.Rotate(ctx, app)
		return err
	})
	return version, err
}

// Retire forgets an older version of an app's root.
func (a Admin) Retire(ctx context.Context, app string, version uint32) error {
	return a.change(ctx, fmt.Sprintf("retire version %d of %s", version, app), func(s *store.Store) error { return s.Retire(ctx, app, version) })
}

// AcceptRollback makes an older state the current one.
func (a Admin) AcceptRollback(ctx context.Context) (api.Store, error) {
	if err := a.change(ctx, "accept rollback", func(s *store.Store) error { return s.AcceptRollback(ctx) }); err != nil {
		return api.Store{}, err
	}
	return a.Store(ctx)
}

// ChangeDigests changes which digests an app must have for its keys.
func (a Admin) ChangeDigests(ctx context.Context, r api.DigestRequest) (api.Contract, error) {
	err := a.change(ctx, fmt.Sprintf("%s a digest of %s", r.Action, r.App), func(s *store.Store) error {
		switch r.Action {
		case api.DigestAuthorize:
			return s.AuthorizeDigest(ctx, r.App, *r.Digest)
		case api.DigestWithdraw:
			return s.WithdrawDigest(ctx, r.App, *r.Digest)
		}
		c, ok := a.declaredContainer(r.App, "")
		if !ok {
			c, ok = a.declared(func(x apps.Status) bool { return x.Name == r.App })
		}
		if !ok {
			return problem.New(api.CodeNoSuchApp, fmt.Sprintf("no declaration of app %q is in force", r.App))
		}
		if r.Action == api.DigestLift {
			return s.RequireDigest(ctx, c.App)
		}
		if r.Digest != nil {
			c.Digest = *r.Digest
		}
		if c.Digest.IsZero() {
			return &sealing.Error{Code: api.CodeDigestNotAuthorised, Field: "digests",
				Detail: fmt.Sprintf("app %s is not measured, so that there is no digest to require: measure it, or name one", r.App)}
		}
		return s.RequireDigest(ctx, c.App, c.Digest)
	})
	if err != nil {
		return api.Contract{}, err
	}
	return a.Contract(ctx, r.App, "")
}

// Probe tries what the keys of the platform depend on.
func (a Admin) Probe(ctx context.Context) (api.Probed, error) {
	if err := a.c.Supervisor.Ready(ctx); err != nil {
		return api.Probed{}, err
	}
	keys, err := a.keys(ctx)
	if err != nil {
		return api.Probed{}, err
	}
	if keys == nil {
		return api.Probed{Findings: []api.ProbeFinding{{Name: "derives", OK: true, Text: "the platform of this machine derives no keys: sealed blobs rest on the TPM alone, on no chip and no launch measurement, as keys.without_derived_keys accepts"}}}, nil
	}
	found, err := platform.Probe(ctx, keys)
	if err != nil {
		return api.Probed{}, err
	}
	out := api.Probed{Findings: []api.ProbeFinding{}}
	for _, f := range found {
		out.Findings = append(out.Findings, api.ProbeFinding{Name: f.Name, OK: f.OK, Text: f.Text})
	}
	return out, nil
}
