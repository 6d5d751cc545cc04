// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/sealing"
)

// Secrets answers apps.
type Secrets struct{ *Vault }

// Await waits until the declarations were read.
func (v Secrets) Await(ctx context.Context) error {
	_, err := v.c.Apps.Wait(ctx)
	return err
}

// Usable reports whether keys are available, without asking a device.
func (v Secrets) Usable() api.Finding {
	st := v.Status()
	if st.State != api.StateOK {
		return api.Finding{Reason: st.Reason}
	}
	return api.Finding{Yes: true, Reason: "keys are for this unit and user; the store is open, its blobs rest on " + st.Slot}
}

// app returns the app of o as its declaration says now, with the digest it was measured as: of a
// container, that of its root file system.
func (v Secrets) app(o server.Owner) (store.Caller, error) {
	c, ok := store.Caller{}, false
	if in := o.Container; in != nil {
		c, ok = v.declaredContainer(o.App, in.Engine)
		c.Digest = in.Root
	} else {
		c, ok = v.declared(func(x apps.Status) bool { return x.Name == o.App && x.Unit == o.Unit && sameUser(x, o) })
	}
	if !ok {
		return c, problem.New(api.CodeNoApp, fmt.Sprintf("the declaration of app %s was withdrawn", o.App))
	}
	return c, nil
}

// sameUser reports whether the user of an app is still the one of its keys. A dynamic user had the
// uid of its process when that was identified.
func sameUser(x apps.Status, o server.Owner) bool {
	return x.Dynamic == o.Dynamic && (x.Dynamic || x.UID == o.UID)
}

// forApp opens the store for the app of o, and returns the context of the app's work: apps
// take turns, also those of one user.
func (v Secrets) forApp(ctx context.Context, o server.Owner) (context.Context, *store.Store, store.Caller, error) {
	ctx = turn.With(ctx, turn.Who{Class: turn.Keys, Party: o.App})
	s, err := v.opened(ctx)
	if err != nil {
		return nil, nil, store.Caller{}, err
	}
	c, err := v.app(o)
	return ctx, s, c, err
}

// mayWrite refuses a write if the app asks for too many: each increments a counter in the
// TPM, whose memory wears out, and keeps other apps waiting.
func (v Secrets) mayWrite(app string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	pen := v.pens[app]
	if pen == nil {
		perMinute := v.c.Keys.WritesPerMinute
		pen = rate.NewLimiter(rate.Every(time.Minute/time.Duration(perMinute)), 2*perMinute)
		v.pens[app] = pen
	}
	r := pen.Reserve()
	if wait := r.Delay(); wait > 0 {
		r.Cancel()
		return problem.After(problem.New(api.CodeThrottled, fmt.Sprintf("app %s may change what it stored %d times a minute (keys.writes_per_minute)", app, v.c.Keys.WritesPerMinute)), wait)
	}
	return nil
}

// Derive derives a secret for the app of o.
func (v Secrets) Derive(ctx context.Context, o server.Owner, r api.DeriveRequest) (api.Derived, error) {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return api.Derived{}, err
	}
	if r.Length > sealing.MaxDerived {
		return api.Derived{}, problem.Invalid("/length", fmt.Sprintf("%d bytes, want 1 to %d", r.Length, sealing.MaxDerived))
	}
	k, version, err := s.Derive(ctx, c, []byte(r.Label), int(r.Length), r.Version)
	v.learn(ctx, err)
	if err != nil {
		return api.Derived{}, err
	}
	b, err := take(k)
	return api.Derived{Secret: b, Version: version}, err
}

// Sign signs with a key of the app of o.
func (v Secrets) Sign(ctx context.Context, o server.Owner, r api.SignRequest) (api.Signed, error) {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return api.Signed{}, err
	}
	sign := s.Sign
	if sealing.InTPM(r.Algorithm) {
		sign = func(ctx context.Context, c store.Caller, r api.SignRequest) (api.Signed, error) {
			return v.signInTPM(ctx, s, c, r)
		}
	}
	out, err := sign(ctx, c, r)
	v.learn(ctx, err)
	return out, err
}

// PublicKey returns the public half of a signing key of the app of o.
func (v Secrets) PublicKey(ctx context.Context, o server.Owner, k api.SigningKey) (api.PublicKey, error) {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return api.PublicKey{}, err
	}
	public := s.PublicKey
	if sealing.InTPM(k.Algorithm) {
		public = func(ctx context.Context, c store.Caller, k api.SigningKey) (api.PublicKey, error) {
			return v.publicInTPM(ctx, s, c, k)
		}
	}
	out, err := public(ctx, c, k)
	v.learn(ctx, err)
	return out, err
}

// Seal stores a secret of the app of o.
func (v Secrets) Seal(ctx context.Context, o server.Owner, r api.SealRequest) error {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return err
	}
	if len(r.Data) == 0 || len(r.Data) > sealing.MaxSecret {
		return problem.Invalid("/data", fmt.Sprintf("%d bytes, want 1 to %d", len(r.Data), sealing.MaxSecret))
	}
	if err := v.mayWrite(o.App); err != nil {
		return err
	}
	data, err := secret.Take(r.Data)
	if err != nil {
		return err
	}
	defer data.Wipe()
	defer v.refresh(ctx)
	if r.RequireDigest {
		if err := requireMeasured(ctx, s, c); err != nil {
			return err
		}
	}
	return s.Seal(ctx, c, r.Name, data, r.AssociatedData)
}

// requireMeasured makes the keys of the app depend on the digest that it has now. If they
// depend on digests already, the app gets no keys unless its own is among them.
func requireMeasured(ctx context.Context, s *store.Store, c store.Caller) error {
	if c.Digest.IsZero() {
		return &sealing.Error{Code: api.CodeDigestNotAuthorised, Field: "digests",
			Detail: fmt.Sprintf("app %s is not measured, so that there is no digest to require: measure it", c.App.Name)}
	}
	root, err := s.Contract(ctx, c.App.Name, "")
	switch {
	case sealing.CodeOf(err) == api.CodeNotFound:
	case err != nil:
		return err
	case root.App != c.App || len(root.Digests) > 0:
		return nil // sealing refuses, or there is nothing to do
	}
	return s.RequireDigest(ctx, c.App, c.Digest)
}

// Unseal opens a secret of the app of o.
func (v Secrets) Unseal(ctx context.Context, o server.Owner, r api.UnsealRequest) ([]byte, error) {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return nil, err
	}
	k, err := s.Unseal(ctx, c, r.Name, r.AssociatedData)
	v.learn(ctx, err)
	if err != nil {
		return nil, err
	}
	return take(k)
}

// Discard deletes a secret of the app of o.
func (v Secrets) Discard(ctx context.Context, o server.Owner, name string) error {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return err
	}
	if err := v.mayWrite(o.App); err != nil {
		return err
	}
	defer v.refresh(ctx)
	return s.Delete(ctx, c, name)
}

// Plan returns what a secret of the app of o would be sealed to now.
func (v Secrets) Plan(ctx context.Context, o server.Owner, name string) (api.Contract, error) {
	ctx, s, c, err := v.forApp(ctx, o)
	if err != nil {
		return api.Contract{}, err
	}
	plan, err := s.Plan(ctx, c.App, name)
	return contractOf(plan, nil), err
}

// take copies the bytes of k for an answer, which is overwritten after it was sent, and
// wipes k.
func take(k *secret.Secret) ([]byte, error) {
	defer k.Wipe()
	var b []byte
	err := k.Use(func(x []byte) error {
		b = slices.Clone(x)
		return nil
	})
	return b, err
}

// contractOf translates c for the API, with the error of opening its blob.
func contractOf(c sealing.Contract, err error) api.Contract {
	out := api.Contract{
		Text: c.Text(), Authenticated: c.Authenticated, Planned: c.Planned,
		App: c.App.Name, Unit: c.App.Unit, User: c.App.User, Name: c.Name, Generation: c.Generation,
		Slots: []string{}, Weakest: c.Weakest.String(), Recipients: slices.Concat([]string{}, c.Recipients),
		Digests: slices.Concat([]evidence.Digest{}, c.Digests), Counted: c.Counted, Unproven: c.Unproven, Limit: c.Limit(),
	}
	if !c.StoreKey.IsZero() {
		out.StoreKey = c.StoreKey.String()
	}
	for _, s := range c.Slots {
		out.Slots = append(out.Slots, s.String())
	}
	for _, o := range c.Openers() {
		out.Openers = append(out.Openers, api.ContractOpener{Who: o.Who, When: o.When})
	}
	for _, change := range sealing.Changes() {
		o := c.WhatIf(change)
		x := api.ContractChange{Change: string(change), Opens: o.Opens, Recovery: o.Recovery, Note: o.Note}
		if !o.Opens {
			x.Code = o.Code
		}
		out.Changes = append(out.Changes, x)
	}
	if _, refused := errors.AsType[*sealing.Error](err); refused {
		out.Code, out.Reason = sealing.CodeOf(err), err.Error()
	}
	return out
}
