// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// An Attester makes evidence, in parts that follow each other. The request was checked and has
// its defaults filled in.
type Attester interface {
	Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([][]byte, error)
}

// Log is the measurement log.
type Log interface {
	// Log returns the log from record start on. start may be the number of records; a
	// larger one is attest.ErrLogStart.
	Log(ctx context.Context, start uint64) (evidence.Log, error)
	// Bytes returns the size of the whole log, for the budget of answers.
	Bytes() int64
}

// Apps are the declared applications, in the types of the API.
type Apps interface {
	caller.Apps
	// Await waits until the declarations are read. Before that List has none.
	Await(ctx context.Context) error
	List() []api.App
	Measure(ctx context.Context, name string) (api.App, error)
	Reload(ctx context.Context) (api.Reloaded, error)
}

// A StatusSource returns the state of the agent.
type StatusSource interface {
	// Status does not wait for a device.
	Status() api.Status
	// Look finds out, for Status, whether evidence can be made. It asks devices until ctx ends.
	Look(ctx context.Context)
}

// An Enroller returns the AK, and proves that it is in the same TPM as the EK.
type Enroller interface {
	AK(ctx context.Context) (api.AK, error)
	// Activate opens a credential: the contents of TPM2B_ID_OBJECT and of
	// TPM2B_ENCRYPTED_SECRET.
	Activate(ctx context.Context, credential, secret []byte) ([]byte, error)
	// ReplaceAK makes a new AK in place of a stored one that this TPM does not load.
	ReplaceAK(ctx context.Context) (api.Replaced, error)
	// Try tries what the agent needs of the TPM.
	Try(ctx context.Context) (api.Probed, error)
}

// agentRoutes are the routes about the agent itself, and those of administration.
var agentRoutes = []route{
	handle(api.CallSelf, (*Server).self).brief(),
	handle(api.CallStatus, (*Server).status),
	handle(api.CallLog, (*Server).log),
	handle(api.CallEvidence, (*Server).evidence),
	handle(api.CallOpenAPI, func(*Server, *call, api.None) (job, error) {
		document := api.OpenAPI{}.String()
		return job{bytes: small + int64(len(document)), run: func(context.Context) (any, error) { return raw(document), nil }}, nil
	}).brief(),
	answer(api.CallAK, small, func(ctx context.Context, s *Server, _ api.None) (api.AK, error) { return s.Enroller.AK(ctx) }).brief(),
	handle(api.CallMetrics, (*Server).metrics).brief(),
	answer(api.CallApps, small, func(ctx context.Context, s *Server, _ api.None) (api.Apps, error) {
		if err := s.Apps.Await(ctx); err != nil { // otherwise no application would seem to be declared
			return api.Apps{}, err
		}
		return api.Apps{Apps: s.Apps.List()}, nil
	}).brief(),
	handle(api.CallMeasure, func(s *Server, c *call, _ api.None) (job, error) {
		return job{bytes: small, run: func(ctx context.Context) (any, error) { return s.Apps.Measure(ctx, c.segment) }}, nil
	}),
	answer(api.CallReload, small, func(ctx context.Context, s *Server, _ api.None) (api.Reloaded, error) { return s.Apps.Reload(ctx) }),
	answer(api.CallReplace, small, func(ctx context.Context, s *Server, _ api.None) (api.Replaced, error) {
		return s.Enroller.ReplaceAK(ctx)
	}),
	answer(api.CallTryTPM, small, func(ctx context.Context, s *Server, _ api.None) (api.Probed, error) { return s.Enroller.Try(ctx) }),
	answer(api.CallActivate, small, func(ctx context.Context, s *Server, r api.ActivateRequest) (api.Activated, error) {
		secret, err := s.Enroller.Activate(ctx, r.Credential, r.Secret)
		return api.Activated{Secret: secret}, err
	}),
}

// small is the budget of an answer without the log and with little from the caller.
// Evidence is below 15 KB then, and making it takes about as much again.
const small = 32 << 10

// ofMetrics is the budget of an answer with [metrics.MaxSamples], twice on its way. What all users
// may know is small.
const ofMetrics = 2 << 20

// withLog is the budget of an answer with the log: its bytes, their base64 in the
// answer, and one copy on the way.
func (s *Server) withLog() int64 { return small + 4*s.Log.Bytes() }

func (s *Server) self(c *call, _ api.None) (job, error) {
	return job{bytes: small, run: func(ctx context.Context) (any, error) {
		id := c.peer.Caller(ctx, s.Apps)
		out := api.Self{
			UID: id.UID, GID: id.GID, PID: id.PID, Started: id.Started, AgentKey: s.AgentKey, Unit: id.Unit, UnitReason: c.peer.UnitReason,
			App: id.App, Method: id.Method, Container: id.Container, Executable: id.Executable,
		}
		out.Measured, out.Covered = s.measured(id, s.listed(id))
		if _, err := s.owner(c.peer, keysOfApp); err != nil {
			out.Keys.Reason = err.Detail
		} else {
			out.Keys = s.Keys.Usable()
		}
		return out, nil
	}}, nil
}

// listed returns the app of a caller that is in no container, nil if there is none.
func (s *Server) listed(id evidence.Caller) *api.App {
	if id.App == "" || id.Container != nil {
		return nil
	}
	for _, a := range s.Apps.List() {
		if a.Name == id.App {
			return &a
		}
	}
	return nil
}

// measured reports whether the log vouches for the caller's app, which is a if it is listed, with the
// reason, and since when it covers it.
func (s *Server) measured(id evidence.Caller, a *api.App) (api.Finding, *api.Covered) {
	switch {
	case id.Container != nil:
		if id.App == "" {
			return api.Finding{Reason: "the container was measured before its first program ran, and no app is declared for its image"}, nil
		}
		return api.Finding{Yes: true, Reason: "the log has the container as it was before its first program ran"}, nil
	case id.Unit == "":
		return api.Finding{Reason: "the caller does not run in a system unit"}, nil
	case id.App == "":
		return api.Finding{Reason: undeclared(id.Unit, id.UID)}, nil
	case a == nil:
		return api.Finding{Reason: "the declaration of the app was withdrawn"}, nil
	case a.State == api.AppMeasured:
		return api.Finding{Yes: true, Reason: "the log has the files of the app as they are now"}, a.Covered
	case a.Reason != "":
		return api.Finding{Reason: a.Reason}, nil
	}
	return api.Finding{Reason: "the app is waiting to be measured"}, nil
}

func (s *Server) log(c *call, _ api.None) (job, error) {
	start, err := number(c, api.QueryStart)
	if err != nil {
		return job{}, err
	}
	bytes := s.withLog()
	format := api.LogFormat(c.query.Get(api.QueryFormat))
	if format == api.LogCELJSON {
		bytes *= 2 // digests in hexadecimal, and records decoded on the way
	}
	j := job{bytes: bytes, make: encode, run: func(ctx context.Context) (any, error) { return s.Log.Log(ctx, start) }}
	if format == api.LogCELJSON {
		j.make = celJSON
	}
	return j, nil
}

// celJSON returns a log in the format CEL-JSON.
func celJSON(v any) (raw, error) {
	l := v.(evidence.Log)
	records, err := pcr.DecodeLog(l.Records, l.Start)
	if err != nil {
		return nil, fmt.Errorf("decode the agent's own log: %w", err)
	}
	return pcr.EncodeCELJSON(records)
}

// reservedAudiences begin the audiences of evidence that clients do not get: transfer.Audience and
// delivery.Audience.
var reservedAudiences = []string{"agentd/upgrade/", "agentd/delivery/"}

// checkEvidence fills in the defaults of r, and returns the problem of a member that
// cannot go into a statement.
func checkEvidence(r *api.EvidenceRequest) error {
	r.Freshness, r.Log = cmp.Or(r.Freshness, evidence.Fresh), cmp.Or(r.Log, api.LogWhole)
	size := func(part string, got, min, max int) error {
		if got < min || got > max {
			return problem.Invalid("/"+part, (&text.SizeError{Part: part, Got: got, Min: min, Max: max}).Error())
		}
		return nil
	}
	if err := cmp.Or(size("nonce", len(r.Nonce), evidence.MinNonce, evidence.MaxNonce),
		size("userData", len(r.UserData), 0, evidence.MaxUserData),
		size("publicKey", len(r.PublicKey), 0, evidence.MaxPublicKey),
		size("keyProof", len(r.KeyProof), 0, evidence.MaxKeyProof)); err != nil {
		return err
	}
	if err := text.Check("audience", r.Audience, 0, evidence.MaxAudience); err != nil {
		return problem.Invalid("/audience", err.Error())
	}
	// Evidence for these audiences asks for the roots of a store, or for a secret: only the agent
	// itself makes it.
	for _, own := range reservedAudiences {
		if strings.HasPrefix(r.Audience, own) {
			return problem.Invalid("/audience", fmt.Sprintf("audiences that begin with %q are the agent's own", own))
		}
	}
	switch {
	case len(r.KeyProof) > 0 && len(r.PublicKey) == 0:
		return problem.Invalid("/keyProof", "only with publicKey: it proves that the caller has that key")
	case r.Freshness != evidence.Fresh && r.Freshness != evidence.Anchored:
		return problem.Invalid("/freshness", fmt.Sprintf("want %q or %q", evidence.Fresh, evidence.Anchored))
	case r.Log != api.LogWhole && r.Log != api.LogFrom && r.Log != api.LogNone:
		return problem.Invalid("/log", fmt.Sprintf("want %q, %q or %q", api.LogWhole, api.LogFrom, api.LogNone))
	case r.Log != api.LogFrom && r.LogStart != 0:
		return problem.Invalid("/logStart", fmt.Sprintf("only with log %q", api.LogFrom))
	case r.IMAStart != 0 && !r.IMA:
		return problem.Invalid("/imaStart", "only with ima")
	}
	return nil
}

func (s *Server) evidence(c *call, r api.EvidenceRequest) (job, error) {
	if err := cmp.Or(checkEvidence(&r), checkSigningKey(&r, c.socket)); err != nil {
		return job{}, err
	}
	bytes := int64(small)
	if r.Log != api.LogNone {
		bytes = s.withLog()
	}
	if r.IMA { // of which nothing says the size before it is read
		bytes += 4 * evidence.MaxIMA
	}
	bytes += 4 * int64(len(r.UserData)+len(r.PublicKey)+len(r.KeyProof)) // in base64 in the statement, which is in base64
	return job{bytes: bytes, run: func(ctx context.Context) (any, error) {
		id := c.peer.Caller(ctx, s.Apps)
		if r.IMA && id.App == "" && !s.isRoot(c.peer) {
			return nil, problem.New(api.CodeIMANotPermitted, fmt.Sprintf("uid %d is not root outside of measured containers, and the caller is not of a declared application", id.UID))
		}
		attest := func(ctx context.Context) (parts, error) {
			if err := s.proveSigningKey(ctx, c, &r, id); err != nil {
				return nil, err
			}
			return s.Attester.Attest(ctx, r, id)
		}
		if r.SigningKey == nil && len(r.KeyProof) == 0 {
			return attest(ctx)
		}
		// A batch costs the same for many statements as for one. A proof is signed and verified
		// for each, until the statement is in the batch.
		return briefly(ctx, s.shares[c.socket].processors, attest)
	}}, nil
}

// isRoot reports whether a caller is an administrator of the machine, on whichever socket it asks. Root of
// a measured container is not: the kernel shows its list of IMA to root of the machine.
func (s *Server) isRoot(p *caller.Peer) bool {
	return slices.Contains(s.AdminUIDs, p.UID) && s.outside(p) == nil
}

// lookPatience is how long a status waits for devices, if the caller wants them asked.
const lookPatience = 5 * time.Second

func (s *Server) status(c *call, _ api.None) (job, error) {
	look := c.query.Get(api.QueryCheck) == api.CheckNow
	return job{bytes: small, brief: !look, run: func(ctx context.Context) (any, error) {
		if look {
			ctx, cancel := context.WithTimeout(ctx, lookPatience)
			defer cancel()
			s.Status.Look(ctx)
		}
		return s.Status.Status(), nil
	}}, nil
}
