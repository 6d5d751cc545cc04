// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps"
)

// What the server asks of the daemon. Before the parts were brought up for the first
// time, requests wait for that; status does not.

// ready waits until the first attempt is over, and says why not all parts are up.
func (d *Daemon) ready(ctx context.Context) (parts, error) {
	select {
	case <-d.tried:
	case <-ctx.Done():
		return parts{}, fmt.Errorf("wait until the agent is ready: %w", ctx.Err())
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parts, d.trial
}

// Attest makes evidence.
func (d *Daemon) Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
	p, err := d.ready(ctx)
	if p.attester == nil {
		return nil, missing(err)
	}
	b, err := p.attester.Attest(ctx, r, c)
	return b, d.noteAK(err)
}

// Log is the measurement log from record start on.
func (d *Daemon) Log(ctx context.Context, start uint64) (evidence.Log, error) {
	p, err := d.ready(ctx)
	if p.ledger == nil {
		return evidence.Log{}, missing(err)
	}
	v := p.ledger.View()
	if start > v.Head.Count {
		problem := api.NewProblem(api.CodeStartBeyondLog, fmt.Sprintf("record %d was asked for, the log has %d", start, v.Head.Count))
		problem.Where = api.QueryStart
		return evidence.Log{}, problem
	}
	return v.Log(start)
}

// Bytes is how long the whole log is.
func (d *Daemon) Bytes() int64 {
	if l := d.up().ledger; l != nil {
		return l.State().Bytes
	}
	return 0
}

// missing says why a part is not up.
func missing(err error) error {
	if err == nil {
		return errNotUp
	}
	return fmt.Errorf("%w: %w", errNotUp, err)
}

// ByUnit is the application whose unit and user these are.
func (d *Daemon) ByUnit(unit string, uid uint32) (string, bool) {
	if a := d.up().apps; a != nil {
		return a.ByUnit(unit, uid)
	}
	return "", false
}

// Covers reports whether the manifest of app lists exactly this content.
func (d *Daemon) Covers(app string, digest evidence.Digest) bool {
	a := d.up().apps
	return a != nil && a.Covers(app, digest)
}

// List is every declared application.
func (d *Daemon) List() []api.App {
	a := d.up().apps
	if a == nil {
		return []api.App{}
	}
	list := a.List()
	out := make([]api.App, 0, len(list))
	for _, s := range list {
		out = append(out, appOf(s))
	}
	return out
}

// Measure measures an application now.
func (d *Daemon) Measure(ctx context.Context, name string) (api.App, error) {
	p, err := d.ready(ctx)
	if p.apps == nil {
		return api.App{}, missing(err)
	}
	s, err := p.apps.Measure(ctx, name)
	if err != nil {
		return api.App{}, err
	}
	return appOf(s), nil
}

// appOf is the status of an application in the words of the API.
func appOf(s apps.Status) api.App {
	a := api.App{
		Name: s.Name, Unit: s.Unit, User: s.User, Source: s.File, Reason: s.WhyNot,
		Declaration: s.Declaration, Files: uint64(s.Files), Bytes: s.Bytes,
	}
	switch {
	case s.Measured:
		a.State, a.Digest = api.AppMeasured, &s.Digest
	case s.HasRecord:
		a.State = api.AppUnmeasured
	default:
		a.State = api.AppPending
	}
	if s.HasRecord {
		a.Record = &s.Record
	}
	return a
}
