// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/pcr"
)

// ErrNotOwner is returned for an event if no declaration in force says that its app has this unit
// and this user, or is an image of the engine whose container the event came from.
var ErrNotOwner = errors.New("no declaration in force has the app with this unit and this user, or with the engine of this container")

// Emit records an event of an app. Declarations do not change between the check that the event is
// of a declared app and its record: verifiers refuse a log with an event of one that is not.
func (a *Apps) Emit(ctx context.Context, e *pcr.EmittedEvent) (pcr.Record, error) {
	if err := a.record.Acquire(ctx, 1); err != nil {
		return pcr.Record{}, fmt.Errorf("record an event of app %s: %w", e.App, err)
	}
	defer a.record.Release(1)
	if a.announced == nil {
		return pcr.Record{}, fmt.Errorf("%w: the log does not list the declarations in force", startup.ErrNotUp)
	}
	listed := slices.ContainsFunc(*a.announced, func(d pcr.Declaration) bool { return d.App == e.App })
	if !listed || !a.owns(e) {
		return pcr.Record{}, fmt.Errorf("record an event of app %s: %w", e.App, ErrNotOwner)
	}
	return a.append(ctx, pcr.Event{Type: pcr.EventEmitted, Emitted: e})
}

// owns reports whether the declaration in force of the app of an event has its unit and user. For one
// from a container it is the engine's: of which image that is, its record in the log says.
func (a *Apps) owns(e *pcr.EmittedEvent) bool {
	if e.Container != nil {
		a.mu.Lock()
		defer a.mu.Unlock()
		d := a.containers[e.App]
		return d != nil && d.Engine == e.Container.Engine
	}
	owner, ok := a.ByUnit(e.Unit, e.UID)
	return ok && owner.Name == e.App && owner.UID == e.UID
}

// Declared returns the names of the apps with a declaration in force, or one that was refused.
func (a *Apps) Declared() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]bool, len(a.apps)+len(a.containers))
	for name := range a.apps {
		out[name] = true
	}
	for name := range a.containers {
		out[name] = true
	}
	return out
}
