// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// small is the budget of an answer that holds no log and little of the caller's own:
// evidence stays below 15 KB then, and what makes it takes about as much again.
const small = 32 << 10

// withLog is the budget of an answer with the log: its bytes, their base64 in the
// answer, and one copy on the way.
func (s *Server) withLog() int64 { return small + 4*s.Log.Bytes() }

func (s *Server) self(c *call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) {
		id := c.peer.Caller(ctx, s.Apps)
		out := api.Self{
			UID: id.UID, GID: id.GID, Unit: id.Unit, UnitReason: c.peer.UnitReason,
			App: id.App, Method: id.Method, Executable: id.Executable,
		}
		out.Measured = s.measured(id)
		if _, err := s.owner(c.peer); err != nil {
			out.Keys.Reason = err.Detail
		} else {
			out.Keys = s.Keys.Usable()
		}
		return out, nil
	}}, nil
}

// measured says whether the log vouches for the caller's app, and why not.
func (s *Server) measured(id evidence.Caller) api.Finding {
	switch {
	case id.Unit == "":
		return api.Finding{Reason: "the caller runs in no system unit"}
	case id.App == "":
		return api.Finding{Reason: fmt.Sprintf("no app is declared for unit %s and uid %d", id.Unit, id.UID)}
	}
	for _, a := range s.Apps.List() {
		if a.Name != id.App {
			continue
		}
		if a.State == api.AppMeasured {
			return api.Finding{Yes: true, Reason: "the log holds what the files of the app are"}
		}
		if a.Reason != "" {
			return api.Finding{Reason: a.Reason}
		}
		return api.Finding{Reason: "the app is waiting to be measured"}
	}
	return api.Finding{Reason: "the declaration of the app was withdrawn"}
}

func (s *Server) status(*call) (job, error) {
	return job{small, func(context.Context) (any, error) { return s.Status.Status(), nil }}, nil
}

func (s *Server) log(c *call) (job, error) {
	start, err := parseStart(c.query.Get(api.QueryStart))
	if err != nil {
		return job{}, err
	}
	format := api.LogFormat(c.query.Get(api.QueryFormat))
	bytes := s.withLog()
	switch format {
	case "", api.LogTLV:
	case api.LogCELJSON:
		bytes *= 2 // digests in hexadecimal, and records decoded on the way
	default:
		return job{}, parameter(api.QueryFormat, fmt.Sprintf("want %q or %q", api.LogTLV, api.LogCELJSON))
	}
	return job{bytes, func(ctx context.Context) (any, error) {
		l, err := s.Log.Log(ctx, start)
		if err != nil || format != api.LogCELJSON {
			return l, err
		}
		records, err := pcr.DecodeLog(l.Records, l.Start)
		if err != nil {
			return nil, fmt.Errorf("decode the agent's own log: %w", err)
		}
		b, err := pcr.EncodeCELJSON(records)
		return raw(b), err
	}}, nil
}

func parseStart(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, parameter(api.QueryStart, "want a decimal number of a record")
	}
	return n, nil
}

func parameter(name, detail string) *api.Problem {
	p := api.NewProblem(api.CodeInvalidValue, detail)
	p.Where = name
	return p
}

func (s *Server) evidence(c *call) (job, error) {
	r, err := decode[api.EvidenceRequest](c.body)
	if err != nil {
		return job{}, err
	}
	r = r.WithDefaults()
	if err := r.Check(); err != nil {
		return job{}, err
	}
	bytes := int64(small)
	if r.Log != api.LogNone {
		bytes = s.withLog()
	}
	bytes += 4 * int64(len(r.UserData)+len(r.PublicKey)) // in base64 in the statement, which is in base64
	return job{bytes, func(ctx context.Context) (any, error) {
		b, err := s.Attester.Attest(ctx, r, c.peer.Caller(ctx, s.Apps))
		return raw(b), err
	}}, nil
}

func (s *Server) ak(*call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) { return s.Enroller.AK(ctx) }}, nil
}

func (s *Server) apps(*call) (job, error) {
	return job{small, func(context.Context) (any, error) { return api.Apps{Apps: s.Apps.List()}, nil }}, nil
}

func (s *Server) measure(c *call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) { return s.Apps.Measure(ctx, c.segment) }}, nil
}

func (s *Server) reload(*call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) { return s.Apps.Reload(ctx) }}, nil
}

func (s *Server) activate(c *call) (job, error) {
	r, err := decode[api.ActivateRequest](c.body)
	if err != nil {
		return job{}, err
	}
	return job{small, func(ctx context.Context) (any, error) {
		secret, err := s.Enroller.Activate(ctx, r.Credential, r.Secret)
		return api.Activated{Secret: secret}, err
	}}, nil
}

func (s *Server) replaceAK(*call) (job, error) {
	return job{small, func(ctx context.Context) (any, error) { return s.Enroller.ReplaceAK(ctx) }}, nil
}
