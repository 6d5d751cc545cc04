// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/sealing"
)

// What who administrates may ask of the store of sealed blobs. No answer holds a secret.

// storeAdmin answers for the store; [Daemon] itself has methods of the same names for
// other things.
type storeAdmin struct{ *Daemon }

// Store lists every blob, also what is known of a store that does not open.
func (a storeAdmin) Store(ctx context.Context) (api.Store, error) {
	s, err := a.openedStore(ctx)
	if err != nil {
		return api.Store{}, err
	}
	a.refreshStore(ctx)
	out := api.Store{Status: a.keyStatus(), Recipients: []string{}, Blobs: []api.SealedBlob{}}
	if out.Status.State != api.StateOK {
		return out, nil
	}
	a.vault.mu.Lock()
	out.Recipients, out.Differ = append(out.Recipients, a.vault.state.Recipients...), a.vault.state.Differ
	a.vault.mu.Unlock()
	items, err := s.List(ctx)
	if err != nil {
		return api.Store{}, err
	}
	for _, i := range items {
		b := api.SealedBlob{App: i.App, Kind: i.Kind.String(), Name: i.Name, Generation: i.Generation, Bytes: i.Size, Slot: i.Slot.String(), Rewrap: i.Rewrap}
		if i.TCB != (sealing.TCB{}) {
			b.TCB = i.TCB.String()
		}
		out.Blobs = append(out.Blobs, b)
	}
	return out, nil
}

// Contract is what a blob opens on. One that does not open is told from its file.
func (a storeAdmin) Contract(ctx context.Context, app, name string) (api.Contract, error) {
	s, err := a.openedStore(ctx)
	if err != nil {
		return api.Contract{}, err
	}
	c, err := s.Contract(ctx, app, name)
	if err != nil && c.App.Name == "" {
		return api.Contract{}, err
	}
	return contractOf(c, err), nil
}

// whole runs an operation over the whole store.
func (a storeAdmin) whole(ctx context.Context, what string, do func(*sealing.Store) (sealing.Report, error)) (api.Rewritten, error) {
	s, err := a.openedStore(ctx)
	if err != nil {
		return api.Rewritten{}, err
	}
	r, err := do(s)
	a.refreshStore(ctx)
	if err != nil {
		a.log.Error("administration of sealed blobs failed", "operation", what, "error", err)
		return api.Rewritten{}, err
	}
	a.log.Info("administration of sealed blobs", "operation", what, "written", r.Written, "kept", len(r.Kept))
	out := api.Rewritten{Written: r.Written, Kept: []api.KeptBlob{}}
	for _, k := range r.Kept {
		out.Kept = append(out.Kept, api.KeptBlob{App: k.App, Kind: k.Kind.String(), Name: k.Name, Code: sealing.CodeOf(k.Err), Reason: k.Err.Error()})
	}
	return out, nil
}

// Rewrap seals every blob to the machine as it is now.
func (a storeAdmin) Rewrap(ctx context.Context) (api.Rewritten, error) {
	return a.whole(ctx, "rewrap", func(s *sealing.Store) (sealing.Report, error) { return s.Rewrap(ctx) })
}

// Recover opens with recovery identities what this machine cannot open itself.
func (a storeAdmin) Recover(ctx context.Context, identities []byte) (api.Rewritten, error) {
	defer clear(identities)
	var ids *sealing.Identities
	if len(identities) > 0 {
		var err error
		if ids, err = sealing.ParseIdentities(identities); err != nil {
			return api.Rewritten{}, err
		}
	}
	return a.whole(ctx, "recover", func(s *sealing.Store) (sealing.Report, error) { return s.Recover(ctx, ids) })
}

// ChangeRecipients seals every blob to other recovery recipients.
func (a storeAdmin) ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (api.Rewritten, error) {
	return a.whole(ctx, "change recipients", func(s *sealing.Store) (sealing.Report, error) {
		return s.ChangeRecipients(ctx, r.Recipients, r.LoseOnHardwareChange)
	})
}

// change runs an operation that changes one thing.
func (a storeAdmin) change(ctx context.Context, what string, do func(*sealing.Store) error) error {
	s, err := a.openedStore(ctx)
	if err != nil {
		return err
	}
	err = do(s)
	a.refreshStore(ctx)
	if err != nil {
		return err
	}
	a.log.Info("administration of sealed blobs", "operation", what)
	return nil
}

// Rotate gives an app a new version of its root.
func (a storeAdmin) Rotate(ctx context.Context, app string) (version uint32, err error) {
	err = a.change(ctx, "rotate "+app, func(s *sealing.Store) (err error) {
		version, err = s.Rotate(ctx, app)
		return err
	})
	return version, err
}

// Retire forgets an older version of an app's root.
func (a storeAdmin) Retire(ctx context.Context, app string, version uint32) error {
	return a.change(ctx, fmt.Sprintf("retire version %d of %s", version, app), func(s *sealing.Store) error { return s.Retire(ctx, app, version) })
}

// AcceptRollback makes an older state the current one.
func (a storeAdmin) AcceptRollback(ctx context.Context) (api.Store, error) {
	if err := a.change(ctx, "accept rollback", func(s *sealing.Store) error { return s.AcceptRollback(ctx) }); err != nil {
		return api.Store{}, err
	}
	return a.Store(ctx)
}

// ChangeDigests changes which digests an app must have for its keys.
func (a storeAdmin) ChangeDigests(ctx context.Context, r api.DigestRequest) (api.Contract, error) {
	err := a.change(ctx, fmt.Sprintf("%s a digest of %s", r.Action, r.App), func(s *sealing.Store) error {
		switch r.Action {
		case api.DigestAuthorize:
			return s.AuthorizeDigest(ctx, r.App, *r.Digest)
		case api.DigestWithdraw:
			return s.WithdrawDigest(ctx, r.App, *r.Digest)
		}
		app, measured, err := a.declared(r.App)
		if err != nil {
			return err
		}
		if r.Action == api.DigestLift {
			return s.RequireDigest(ctx, app)
		}
		if r.Digest != nil {
			measured = *r.Digest
		}
		if measured.IsZero() {
			return &sealing.Error{Code: sealing.DigestNotAuthorised, Field: "digests",
				Detail: fmt.Sprintf("app %s is not measured, so that there is no digest to require; measure it, or name one", r.App)}
		}
		return s.RequireDigest(ctx, app, measured)
	})
	if err != nil {
		return api.Contract{}, err
	}
	return a.Contract(ctx, r.App, "")
}

// declared is the app of that name, and its digest where it is measured.
func (a storeAdmin) declared(name string) (sealing.App, evidence.Digest, error) {
	if list := a.up().apps; list != nil {
		for _, s := range list.List() {
			if s.Name != name || s.Unit == "" {
				continue
			}
			app := sealing.App{Name: s.Name, Unit: s.Unit, User: s.User}
			if !s.Measured {
				return app, evidence.Digest{}, nil
			}
			return app, s.Digest, nil
		}
	}
	return sealing.App{}, evidence.Digest{}, api.NewProblem(api.CodeNoSuchApp, fmt.Sprintf("no declaration of app %q is in force", name))
}

// Probe tries out the key derivation of the platform.
func (a storeAdmin) Probe(ctx context.Context) (api.Probed, error) {
	if _, err := a.ready(ctx); err != nil {
		return api.Probed{}, missing(err)
	}
	p, err := a.rootPlatform()
	if err != nil {
		return api.Probed{}, err
	}
	if p == nil {
		return api.Probed{Findings: []api.ProbeFinding{{Name: "derives", Text: "the firmware of this machine derives no keys; sealed blobs rest on the TPM alone, as configured"}}}, nil
	}
	found, err := sealing.Probe(ctx, p)
	if err != nil {
		return api.Probed{}, err
	}
	out := api.Probed{Findings: []api.ProbeFinding{}}
	for _, f := range found {
		out.Findings = append(out.Findings, api.ProbeFinding{Name: f.Name, OK: f.OK, Text: f.Text})
	}
	return out, nil
}
