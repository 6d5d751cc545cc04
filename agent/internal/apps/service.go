// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/pcr"
)

// ErrConfig is returned by a reload if the configuration file has a mistake.
var ErrConfig = errors.New("the configuration cannot be read")

// A Service answers for the applications. Its methods may be called by many goroutines. All
// fields but Reread and Guarded are required.
type Service struct {
	Apps   *startup.Part[*Apps]
	Ledger *startup.Part[*ledger.Ledger]
	Agent  *identity.Agent
	Staple func()                                // reads the stapled certificates again
	Reread func() (config.Config, []byte, error) // reads the configuration again
	Log    *slog.Logger

	// Guarded waits for a short time until the gate, if it is there, guards an app that asks for it.
	Guarded func(ctx context.Context, app string)

	reload sync.Mutex // held while declarations are adopted, so that one reload does at a time
}

// ByUnit returns the application that is declared for this unit, or for its template, and for this
// user.
func (s *Service) ByUnit(unit string, uid uint32) (caller.App, bool) {
	if a, up := s.Apps.Now(); up {
		return a.ByUnit(unit, uid)
	}
	return caller.App{}, false
}

// Settle makes the log say what the agent was told of the files of app.
func (s *Service) Settle(ctx context.Context, app string) {
	if a, up := s.Apps.Now(); up {
		a.Settle(ctx, app)
	}
}

// Covers reports whether the manifest of app lists exactly this content.
func (s *Service) Covers(app string, digest evidence.Digest) bool {
	a, up := s.Apps.Now()
	return up && a.Covers(app, digest)
}

// Await waits until the declarations are read. The error says why they are not.
func (s *Service) Await(ctx context.Context) error {
	_, err := s.Apps.Wait(ctx)
	return err
}

// List returns every declared application.
func (s *Service) List() []api.App {
	out := []api.App{}
	if a, up := s.Apps.Now(); up {
		for _, x := range a.List() {
			out = append(out, s.vouched(describe(x)))
		}
	}
	return out
}

// Counts returns how many applications are declared and measured.
func (s *Service) Counts() api.AppCounts {
	var c api.AppCounts
	for _, a := range s.List() {
		c.Declared++
		if a.State == api.AppMeasured {
			c.Measured++
			if a.Interpreter != "" {
				c.InterpreterOnly++
			}
		} else {
			c.Unmeasured++
		}
	}
	return c
}

// Measure measures an application now.
func (s *Service) Measure(ctx context.Context, name string) (api.App, error) {
	a, err := s.Apps.Wait(ctx)
	if err != nil {
		return api.App{}, err
	}
	x, err := a.Measure(ctx, name)
	if err == nil {
		err = s.confirm(ctx, name)
	}
	if err != nil {
		return api.App{}, err
	}
	if asks := a.AskGate()[name]; asks && s.Guarded != nil { // a program of it may start next
		s.Guarded(ctx, name)
	}
	return s.vouched(describe(x)), nil
}

// reloadPatience is how long a reload waits until all apps are measured. Its answer names
// those that are read for longer.
const reloadPatience = 30 * time.Second

// Reload reads certificates and declarations again, and has every app measured. It checks the
// configuration too: a mistake is an error that changes nothing, and a change is for the next
// start.
func (s *Service) Reload(ctx context.Context) (api.Reloaded, error) {
	change, err := s.adopt(ctx)
	if err != nil {
		return api.Reloaded{}, err
	}
	patience, cancel := context.WithTimeout(ctx, reloadPatience)
	defer cancel()
	out := api.Reloaded{Measuring: change.Wait(patience)}
	if err := ctx.Err(); err != nil {
		return api.Reloaded{}, fmt.Errorf("measure apps: %w", err)
	}
	out.Apps = s.Counts()
	for i, err := range change.Errors {
		source := change.Refused[i]
		if refused, ok := errors.AsType[*declaration.Error](err); ok {
			source = refused.File
		}
		out.Errors = append(out.Errors, api.ReloadProblem{Source: source, Reason: err.Error()})
	}
	s.Log.Info("declarations were read again", "declared", out.Apps.Declared, "measured", out.Apps.Measured, "refused", len(out.Errors), "measuring", len(out.Measuring))
	return out, nil
}

// adopt puts the declarations of now into force.
func (s *Service) adopt(ctx context.Context) (Change, error) {
	s.reload.Lock()
	defer s.reload.Unlock()
	a, err := s.Apps.Wait(ctx)
	if err != nil {
		return Change{}, err
	}
	l, err := s.Ledger.Wait(ctx)
	if err != nil {
		return Change{}, err
	}
	if s.Reread != nil {
		_, text, err := s.Reread()
		if err != nil {
			return Change{}, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if sha256.Sum256(text) != s.Agent.Configuration {
			s.Log.Warn("the configuration has changed: it takes effect when the daemon is started again")
		}
	}
	s.Staple()
	return a.Reload(ctx, s.Agent.Announce(l, pcr.EventReload))
}

// Watch returns whether changes of the files of apps are noticed as they happen.
func (s *Service) Watch() api.WatchStatus {
	err := errNotStarted
	if a, up := s.Apps.Now(); up {
		err = a.Watching()
	}
	switch {
	case errors.Is(err, errNotStarted):
		return api.WatchStatus{State: api.StateDegraded, Reason: api.ReasonStarting}
	case err != nil:
		return api.WatchStatus{State: api.StateDegraded, Reason: err.Error()}
	}
	return api.WatchStatus{State: api.StateOK}
}

// describe translates the status of an application for the API.
func describe(s Status) api.App {
	a := api.App{
		Name: s.Name, Unit: s.Unit, User: s.User, DynamicUser: s.Dynamic, Source: s.File, Reason: s.WhyNot,
		Users: names(s.Users), Declaration: s.Declaration, Files: uint64(s.Files), Bytes: s.Bytes,
	}
	switch {
	case s.Measured:
		a.State, a.Digest, a.Interpreter, a.Changed = api.AppMeasured, &s.Digest, s.Interpreter, s.Changed
		a.Covered = &api.Covered{Since: s.Since, Record: s.From, Carried: s.Carried, EndsWithAgent: s.Ends}
	case s.HasRecord:
		a.State = api.AppUnmeasured
	default:
		a.State = api.AppPending
	}
	if s.HasRecord {
		a.Record = &s.Record
	}
	if r := s.Reading; r != nil {
		a.Reading = &api.Reading{Since: uint64(max(time.Since(r.Since)/time.Second, 0)), Bytes: r.Bytes, Of: r.Of, Path: strings.ToValidUTF8(r.Path, "?"), Stuck: r.Stuck}
	}
	return a
}

// names returns the names of further users, as declared.
func names(users *pcr.AppUsers) []string {
	if users == nil {
		return nil
	}
	var out []string
	for _, u := range *users {
		out = append(out, u.User)
	}
	return out
}
