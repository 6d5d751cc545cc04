// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// A Store is the sealed blobs of the machine, for administrators. It returns no secret.
type Store interface {
	Store(ctx context.Context) (api.Store, error)
	// Contract returns the contract of the root of app, or of its secret of that name.
	Contract(ctx context.Context, app, name string) (api.Contract, error)
	Rewrap(ctx context.Context) (api.Rewritten, error)
	Rotate(ctx context.Context, app string) (version uint32, err error)
	Retire(ctx context.Context, app string, version uint32) error
	// Recover overwrites the identities.
	Recover(ctx context.Context, r api.RecoverRequest) (api.Rewritten, error)
	RotateStoreKey(ctx context.Context) (api.Rewritten, error)
	ChangeRecipients(ctx context.Context, r api.RecipientsRequest) (api.Rewritten, error)
	AcceptRollback(ctx context.Context) (api.Store, error)
	ChangeDigests(ctx context.Context, r api.DigestRequest) (api.Contract, error)
	Probe(ctx context.Context) (api.Probed, error)

	// Secrets lists what root provisioned for app, or for all if app is empty.
	Secrets(ctx context.Context, app string) (api.Secrets, error)
	// PutSecret stores a secret for an app, in the place of one of that name exactly if replace.
	PutSecret(ctx context.Context, r api.SecretRequest, replace bool) (api.ProvisionedSecret, error)
	RemoveSecret(ctx context.Context, app, name string) error
}

// wholeStore is the budget of an answer that lists the largest number of blobs.
const wholeStore = 8 << 20

// storeRoutes are the routes for the store of sealed blobs.
var storeRoutes = []route{
	answer(api.CallStore, wholeStore, func(ctx context.Context, s *Server, _ api.None) (api.Store, error) { return s.Store.Store(ctx) }),
	handle(api.CallStoreContract, func(s *Server, c *call, _ api.None) (job, error) {
		return job{bytes: small, run: func(ctx context.Context) (any, error) {
			return s.Store.Contract(ctx, c.query.Get(api.QueryApp), c.query.Get(api.QueryName))
		}}, nil
	}),
	answer(api.CallRewrap, wholeStore, func(ctx context.Context, s *Server, _ api.None) (api.Rewritten, error) { return s.Store.Rewrap(ctx) }),
	answer(api.CallRotate, small, func(ctx context.Context, s *Server, r api.RotateRequest) (api.RootVersion, error) {
		v, err := s.Store.Rotate(ctx, r.App)
		return api.RootVersion{App: r.App, Version: v}, err
	}),
	answer(api.CallRetire, small, func(ctx context.Context, s *Server, r api.RetireRequest) (api.RootVersion, error) {
		return api.RootVersion(r), s.Store.Retire(ctx, r.App, r.Version)
	}),
	handle(api.CallRecover, (*Server).recover),
	answer(api.CallRotateKey, wholeStore, func(ctx context.Context, s *Server, _ api.None) (api.Rewritten, error) {
		return s.Store.RotateStoreKey(ctx)
	}),
	handle(api.CallRecipients, (*Server).recipients),
	answer(api.CallAccept, wholeStore, func(ctx context.Context, s *Server, _ api.None) (api.Store, error) {
		return s.Store.AcceptRollback(ctx)
	}),
	handle(api.CallDigests, (*Server).digests),
	handle(api.CallSecrets, func(s *Server, c *call, _ api.None) (job, error) {
		return job{bytes: wholeStore, run: func(ctx context.Context) (any, error) { return s.Store.Secrets(ctx, c.query.Get(api.QueryApp)) }}, nil
	}),
	answer(api.CallPutSecret, withSecret, func(ctx context.Context, s *Server, r api.SecretRequest) (api.ProvisionedSecret, error) {
		defer clear(r.Data)
		return s.Store.PutSecret(ctx, r, false)
	}),
	answer(api.CallRotateSecret, withSecret, func(ctx context.Context, s *Server, r api.SecretRequest) (api.ProvisionedSecret, error) {
		defer clear(r.Data)
		return s.Store.PutSecret(ctx, r, true)
	}),
	answer(api.CallRemoveSecret, small, func(ctx context.Context, s *Server, r api.RemoveSecretRequest) (api.StoredName, error) {
		return api.StoredName(r), s.Store.RemoveSecret(ctx, r.App, r.Name)
	}),
	answer(api.CallProbe, small, func(ctx context.Context, s *Server, _ api.None) (api.Probed, error) { return s.Store.Probe(ctx) }),
}

// notIdentities refuses texts that are not recipients. Later errors repeat the text. If a
// user gives an identity instead of its recipient, it must not get into the journal.
func notIdentities(recipients []string) error {
	for i, x := range recipients {
		if !strings.HasPrefix(x, "age1") {
			return problem.Invalid(fmt.Sprintf("/recipients/%d", i), "want an age X25519 recipient (age1…): age-keygen -y prints that of an identity")
		}
	}
	return nil
}

func (s *Server) recover(c *call, r api.RecoverRequest) (job, error) {
	if err := notIdentities(r.Recipients); err != nil {
		return job{}, err
	}
	if r.StoreKey != "" {
		if _, err := sealing.ParseStoreKey(r.StoreKey); err != nil {
			return job{}, problem.Invalid("/storeKey", err.Error())
		}
	}
	return job{bytes: wholeStore, run: func(ctx context.Context) (any, error) { return s.Store.Recover(ctx, r) }}, nil
}

func (s *Server) recipients(c *call, r api.RecipientsRequest) (job, error) {
	if err := notIdentities(r.Recipients); err != nil {
		return job{}, err
	}
	return job{bytes: wholeStore, run: func(ctx context.Context) (any, error) { return s.Store.ChangeRecipients(ctx, r) }}, nil
}

func (s *Server) digests(c *call, r api.DigestRequest) (job, error) {
	switch r.Action {
	case api.DigestRequire, api.DigestLift:
	case api.DigestAuthorize, api.DigestWithdraw:
		if r.Digest == nil {
			return job{}, problem.Invalid("/digest", fmt.Sprintf("%s needs a digest", r.Action))
		}
	default:
		return job{}, problem.Invalid("/action", fmt.Sprintf("want %q, %q, %q or %q", api.DigestRequire, api.DigestAuthorize, api.DigestWithdraw, api.DigestLift))
	}
	return job{bytes: small, run: func(ctx context.Context) (any, error) { return s.Store.ChangeDigests(ctx, r) }}, nil
}
