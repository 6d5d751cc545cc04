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
// and this user.
var ErrNotOwner = errors.New("no declaration in force has the app with this unit and this user")

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
	owner, ok := a.ByUnit(e.Unit, e.UID)
	listed := slices.ContainsFunc(*a.announced, func(d pcr.Declaration) bool { return d.App == e.App })
	if !ok || !listed || owner.Name != e.App || owner.UID != e.UID {
		return pcr.Record{}, fmt.Errorf("record an event of app %s: %w", e.App, ErrNotOwner)
	}
	return a.append(ctx, pcr.Event{Type: pcr.EventEmitted, Emitted: e})
}

// Declared returns the names of the apps with a declaration in force, or one that was refused.
func (a *Apps) Declared() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[string]bool, len(a.apps))
	for name := range a.apps {
		out[name] = true
	}
	return out
}
