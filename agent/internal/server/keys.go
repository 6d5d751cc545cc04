// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/pcr"
)

// An Owner is the app whose keys are asked for, by unit and uid of the caller, or by its container.
type Owner struct {
	App       string
	Unit      string // empty if the app is an image
	UID       uint32
	Dynamic   bool                // UID is that of this process, and the app's user will have others
	Container *evidence.Container // nil unless the app is an image
}

// Keys keeps the secrets of apps. Errors are those of package sealing. The caller of a
// method overwrites the secrets that it returns.
type Keys interface {
	// Await waits until the declarations are read. Before that no unit belongs to an app.
	Await(ctx context.Context) error
	// Usable reports whether keys are available, without asking a device.
	Usable() api.Finding

	Derive(ctx context.Context, o Owner, r api.DeriveRequest) (api.Derived, error)
	// Sign signs with a key of o, and PublicKey returns the public half of one. No method
	// returns the private half.
	Sign(ctx context.Context, o Owner, r api.SignRequest) (api.Signed, error)
	PublicKey(ctx context.Context, o Owner, k api.SigningKey) (api.PublicKey, error)
	// Certify has the attestation key certify a key of o that is in the TPM.
	Certify(ctx context.Context, o Owner, r api.CertifyRequest) (api.Certified, error)

	Seal(ctx context.Context, o Owner, r api.SealRequest) error
	Unseal(ctx context.Context, o Owner, r api.UnsealRequest) ([]byte, error)
	Discard(ctx context.Context, o Owner, name string) error
	// Plan returns the contract of what o would seal under that name now.
	Plan(ctx context.Context, o Owner, name string) (api.Contract, error)
}

// withSecret is the budget of a request with a secret of the largest size: in base64,
// decoded, and one copy on the way.
const withSecret = 512 << 10

// owner returns the app that p may act for: the app with the system unit and user of p, or the image
// of which the measured container of p is. Nothing else counts, neither the executable nor uid 0.
// Further users of an app have evidence, and neither keys nor events: they are there because they may
// do less than the app's user. What names what was asked for.
func (s *Server) owner(p *caller.Peer, what string) (Owner, *api.Problem) {
	if c := s.Apps.Container(p); c != nil {
		return ownerIn(c, p, what)
	}
	if s.Apps.Beside(p) {
		return Owner{}, problem.New(api.CodeNoApp, fmt.Sprintf("no %s for process %d: it is in the control group of a measured container and not in the container, so it is not an app", what, p.PID))
	}
	if p.Unit == "" {
		return Owner{}, problem.New(api.CodeNoSystemUnit, fmt.Sprintf("no %s outside a system unit: %s", what, p.UnitReason))
	}
	app, ok := s.Apps.ByUnit(p.Unit, p.UID)
	if !ok {
		return Owner{}, problem.New(api.CodeNoApp, undeclared(p.Unit, p.UID))
	}
	if app.UID != p.UID {
		return Owner{}, problem.New(api.CodeNoApp, fmt.Sprintf("app %s has %s for its user %s alone, and not for uid %d", app.Name, what, app.User, p.UID))
	}
	// Instances of a template have the secrets in common.
	return Owner{App: app.Name, Unit: app.Unit, UID: p.UID, Dynamic: app.Dynamic}, nil
}

// keysOfApp is what most requests for an app ask for.
const keysOfApp = "keys"

// undeclared says that no app has that unit and user, and what to do if none ever can.
func undeclared(unit string, uid uint32) string {
	out := fmt.Sprintf("no app is declared for unit %s and uid %d", unit, uid)
	if why := caller.Passing(unit); why != "" {
		out += ": " + why
	} else if pcr.DynamicUID(uid) {
		out += ": systemd gives this uid to units with DynamicUser=, so declare the app with dynamic_user = true, and as user the name for which systemd has the uid while the unit runs"
	}
	return out
}

// forOwner returns a job for the app that the caller belongs to when the job begins. What names what
// is asked for.
func (s *Server) forOwner(c *call, bytes int64, what string, do func(ctx context.Context, o Owner) (any, error)) job {
	return job{bytes: bytes, run: func(ctx context.Context) (any, error) {
		if err := s.Keys.Await(ctx); err != nil {
			return nil, err
		}
		o, problem := s.owner(c.peer, what)
		if problem != nil {
			return nil, problem
		}
		return do(ctx, o)
	}}
}

// owned returns the row of e if the answer needs only the request and the caller's app.
func owned[Request, Answer any](e api.Endpoint[Request, Answer], bytes int64, run func(context.Context, *Server, Owner, Request) (any, error)) route {
	return handle(e, func(s *Server, c *call, r Request) (job, error) {
		return s.forOwner(c, bytes, keysOfApp, func(ctx context.Context, o Owner) (any, error) { return run(ctx, s, o, r) }), nil
	})
}

// keyRoutes are the routes for an app's own secrets.
var keyRoutes = []route{
	owned(api.CallDerive, small, func(ctx context.Context, s *Server, o Owner, r api.DeriveRequest) (any, error) {
		d, err := s.Keys.Derive(ctx, o, r)
		return sensitive{d, d.Secret}, err
	}).brief(),
	owned(api.CallSign, withSecret, func(ctx context.Context, s *Server, o Owner, r api.SignRequest) (any, error) {
		return s.Keys.Sign(ctx, o, r)
	}).brief(),
	handle(api.CallPublic, (*Server).publicKey).brief(),
	owned(api.CallCertify, small, func(ctx context.Context, s *Server, o Owner, r api.CertifyRequest) (any, error) {
		return s.Keys.Certify(ctx, o, r)
	}).brief(),
	owned(api.CallSeal, withSecret, func(ctx context.Context, s *Server, o Owner, r api.SealRequest) (any, error) {
		defer clear(r.Data)
		return api.Sealed{Name: r.Name, Bytes: len(r.Data)}, s.Keys.Seal(ctx, o, r)
	}).brief(),
	owned(api.CallUnseal, withSecret, func(ctx context.Context, s *Server, o Owner, r api.UnsealRequest) (any, error) {
		b, err := s.Keys.Unseal(ctx, o, r)
		return sensitive{api.Unsealed{Data: b}, b}, err
	}).brief(),
	owned(api.CallDiscard, small, func(ctx context.Context, s *Server, o Owner, r api.DiscardRequest) (any, error) {
		return api.Discarded(r), s.Keys.Discard(ctx, o, r.Name)
	}).brief(),
	handle(api.CallContract, func(s *Server, c *call, _ api.None) (job, error) {
		return s.forOwner(c, small, keysOfApp, func(ctx context.Context, o Owner) (any, error) {
			return s.Keys.Plan(ctx, o, c.query.Get(api.QueryName))
		}), nil
	}).brief(),
}
