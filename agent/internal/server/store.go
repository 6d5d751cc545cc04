// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// wholeStore is the budget of an answer that lists every blob there may be.
const wholeStore = 8 << 20

func (s *Server) store(*call) (job, error) {
	return job{wholeStore, func(ctx context.Context) (any, error) { return s.Store.Store(ctx) }}, nil
}

func (s *Server) storeContract(c *call) (job, error) {
	app := c.query.Get(api.QueryApp)
	if app == "" {
		return job{}, parameter(api.QueryApp, "name the app")
	}
	return job{small, func(ctx context.Context) (any, error) {
		return s.Store.Contract(ctx, app, c.query.Get(api.QueryName))
	}}, nil
}

func (s *Server) rewrap(*call) (job, error) {
	return job{wholeStore, func(ctx context.Context) (any, error) { return s.Store.Rewrap(ctx) }}, nil
}

func (s *Server) rotate(c *call) (job, error) {
	r, err := decode[api.RotateRequest](c.body)
	if err != nil {
		return job{}, err
	}
	return job{small, func(ctx context.Context) (any, error) {
		v, err := s.Store.Rotate(ctx, r.App)
		return api.RootVersion{App: r.App, Version: v}, err
	}}, nil
}

func (s *Server) retire(c *call) (job, error) {
	r, err := decode[api.RetireRequest](c.body)
	if err != nil {
		return job{}, err
	}
	return job{small, func(ctx context.Context) (any, error) {
		return api.RootVersion(r), s.Store.Retire(ctx, r.App, r.Version)
	}}, nil
}

func (s *Server) recover(c *call) (job, error) {
	r, err := decode[api.RecoverRequest](c.body)
	if err != nil {
		return job{}, err
	}
	return job{wholeStore, func(ctx context.Context) (any, error) { return s.Store.Recover(ctx, r.Identities) }}, nil
}

func (s *Server) recipients(c *call) (job, error) {
	r, err := decode[api.RecipientsRequest](c.body)
	if err != nil {
		return job{}, err
	}
	for i, x := range r.Recipients {
		// Errors further on repeat the text, and whoever takes an identity for its
		// recipient must not find it in the journal.
		if !strings.HasPrefix(x, "age1") {
			return job{}, parameter(fmt.Sprintf("/recipients/%d", i), "want an age X25519 recipient (age1…): age-keygen -y prints that of an identity")
		}
	}
	return job{wholeStore, func(ctx context.Context) (any, error) { return s.Store.ChangeRecipients(ctx, r) }}, nil
}

func (s *Server) acceptRollback(*call) (job, error) {
	return job{wholeStore, func(ctx context.Context) (any, error) { return s.Store.AcceptRollback(ctx) }}, nil
}

func (s *Server) digests(c *call) (job, error) {
	r, err := decode[api.DigestRequest](c.body)
	if err != nil {
		return job{}, err
	}
	switch r.Action {
	case api.DigestRequire, api.DigestLift:
	case api.DigestAuthorize, api.DigestWithdraw:
		if r.Digest == nil {
			return job{}, parameter("/digest", fmt.Sprintf("%s needs a digest", r.Action))
		}
	default:
		return job{}, parameter("/action", fmt.Sprintf("want %q, %q, %q or %q", api.DigestRequire, api.DigestAuthorize, api.DigestWithdraw, api.DigestLift))
	}
	return job{small, func(ctx context.Context) (any, error) { return s.Store.ChangeDigests(ctx, r) }}, nil
}

func (s *Server) probe(*call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) { return s.Store.Probe(ctx) }}, nil
}
