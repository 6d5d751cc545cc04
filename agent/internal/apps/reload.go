// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// Change is what a reload found, each list ascending by name.
type Change struct {
	Declarations []pcr.Declaration // in force from now on
	Added        []string
	Changed      []string // other bytes than before, or accepted now
	Removed      []string // absent or masked
	Refused      []string // kept as unmeasured apps that no unit belongs to
	Errors       []error  // why, one for each of Refused
	Inherited    []string // in force, and handed over by the agent before

	readings map[string]*reading // by app
}

// Reload reads the declarations, at the start and when they may have changed, and has every
// app read by them; [Change.Wait] waits for that. Announce is called in between with the
// declarations that come into force, to record them: no app is recorded by a declaration that
// the log does not list. It is not called if the log lists these already: reloads without
// news would fill it. When Reload fails, or a directory cannot be trusted, the old
// declarations stay in force and the error is returned.
//
// A declaration that is wrong takes only its own app out of force. That an app
// could not be measured is not an error here: see [Apps.List].
func (a *Apps) Reload(ctx context.Context, announce func(context.Context, []pcr.Declaration) error) (Change, error) {
	c, err := a.adopt(ctx, announce)
	if err != nil {
		return Change{}, err
	}
	for _, name := range c.Removed {
		a.follow.forget(name)
		a.log.Info("app is no longer declared", "app", name)
	}
	for i, err := range c.Errors {
		a.log.Warn("app declaration is refused", "app", c.Refused[i], "error", err)
	}
	c.readings = a.orderAll()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range c.Declarations {
		if a.inherited.of(d.App) != nil {
			c.Inherited = append(c.Inherited, d.App)
		}
	}
	return c, nil
}

// orderAll has every app read, for an administrator or the start.
func (a *Apps) orderAll() map[string]*reading {
	a.mu.Lock()
	names := slices.Sorted(maps.Keys(a.apps))
	a.mu.Unlock()
	out := make(map[string]*reading)
	for _, name := range names {
		if r, err := a.order(name, want{asked: true, class: turn.Admin}); err == nil {
			out[name] = r
		}
	}
	return out
}

// Wait waits until every app was read, at most until ctx ends. It returns the names of those
// whose reading goes on, in order.
func (c *Change) Wait(ctx context.Context) (late []string) {
	return c.WaitFor(ctx, slices.Sorted(maps.Keys(c.readings)))
}

// WaitFor does what Wait does, for some apps of the change.
func (c *Change) WaitFor(ctx context.Context, names []string) (late []string) {
	for _, name := range names {
		r := c.readings[name]
		if r == nil { // withdrawn meanwhile, or the agent ends
			continue
		}
		if _, err := r.wait(ctx, name); err != nil && ctx.Err() != nil {
			select {
			case <-r.done:
			default:
				late = append(late, name)
			}
		}
	}
	return late
}

// adopt reads the declarations and puts them into force. Nothing is recorded of any
// app meanwhile.
func (a *Apps) adopt(ctx context.Context, announce func(context.Context, []pcr.Declaration) error) (Change, error) {
	if err := a.record.Acquire(ctx, 1); err != nil {
		return Change{}, err
	}
	defer a.record.Release(1)
	source := declaration.Source{Directories: a.config.Directories, Owners: a.config.Owners, LookupUser: a.config.LookupUser}
	s, err := source.Load()
	if err != nil {
		return Change{}, fmt.Errorf("load app declarations: %w", err)
	}
	var c Change
	c.Declarations = declared(s)
	if announce == nil {
		a.announced = nil // the log does not list them
	} else if a.announced == nil || !slices.Equal(*a.announced, c.Declarations) {
		a.announced = nil
		ctx, cancel := recording(ctx)
		defer cancel()
		if err := announce(ctx, c.Declarations); err != nil {
			a.unannounced(err)
			return Change{}, fmt.Errorf("announce app declarations: %w", err)
		}
		a.announced = &c.Declarations
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.change()
	for _, d := range c.Declarations {
		if s.Declarations[d.App] == nil {
			continue
		}
		x, known := a.declare(d.App)
		switch {
		case !known:
			c.Added = append(c.Added, d.App)
		case x.declaration == nil || x.declaration.Digest != d.Digest:
			c.Changed = append(c.Changed, d.App)
			x.cover.interrupt(endedReload, false) // as the log says
		}
		a.replace(x, s.Declarations[d.App])
	}
	for _, name := range slices.Sorted(maps.Keys(s.Refused)) {
		a.refuse(name, s.Refused[name], s.Meant[name])
		c.Refused, c.Errors = append(c.Refused, name), append(c.Errors, s.Refused[name])
	}
	for _, name := range slices.Sorted(maps.Keys(a.apps)) {
		if s.Declarations[name] == nil && s.Refused[name] == nil {
			a.apps[name].interrupt()
			a.apps[name].removed = true
			delete(a.apps, name)
			c.Removed = append(c.Removed, name)
		}
	}
	a.adoptContainers(s.Containers, &c)
	a.gateChange()
	a.prior.apps = nil // what is declared later was not for a while
	return c, nil
}

// unannounced makes the apps follow a record of declarations that the log may have taken or not.
// Those in force stay so, and every app is measured again.
func (a *Apps) unannounced(err error) {
	a.tookNothing(err)
	a.mu.Lock()
	a.doubtAll()
	a.mu.Unlock()
	a.touchAll(0)
}

// notYet is why an app is not measured that was never looked at.
const notYet = "not measured yet"

// declare returns the app of that name, made if there is none.
func (a *Apps) declare(name string) (x *app, known bool) {
	if x, known = a.apps[name]; known {
		return x, true
	}
	x = &app{name: name, throttle: newThrottle(a.config.RateEvery, a.config.RateBurst), budget: newBudget(a.config.UnaskedBytes, time.Now()), whyNot: notYet}
	if before := a.prior.apps[name]; before != nil {
		x.cover = *before
		x.cover.interrupt(a.prior.end(), true)
		delete(a.prior.apps, name)
	}
	a.apps[name] = x
	return x, false
}

// replace puts a declaration into force. What was measured by other bytes no longer counts.
func (a *Apps) replace(x *app, d *declaration.Declaration) {
	before := x.declaration
	x.declaration, x.refused, x.before, x.meant = d, nil, nil, declaration.Meant{}
	if sameDeclaration(before, d) {
		return
	}
	x.interrupt()
	x.looked, x.pinned, x.located = false, nil, false
	if x.unmeasured(notYet); before != nil {
		x.unmeasured("not measured by its new declaration yet")
	}
}

// refuse takes an app out of force, whose declaration is wrong.
func (a *Apps) refuse(name string, err error, meant declaration.Meant) {
	x, _ := a.declare(name)
	x.interrupt()
	x.before = cmp.Or(x.declaration, x.before)
	if x.before != nil {
		meant.Unknown = false // it is meant for the unit of before
	}
	x.declaration, x.meant, x.refused = nil, meant, fmt.Errorf("declaration refused: %w", err)
	if held := meant.String(); held != "" {
		x.refused = fmt.Errorf("%w; %s", x.refused, held)
	}
	x.cover.interrupt(endedReload, false)
	x.unmeasured(x.refused.Error())
}

// sameDeclaration reports whether what was found by one declaration counts for the other.
func sameDeclaration(a, b *declaration.Declaration) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Digest == b.Digest && a.UID == b.UID && slices.Equal(a.Users, b.Users)
}

// interrupt has the reading of x that is under way begin anew, since its declaration changes.
// The caller holds Apps.mu.
func (x *app) interrupt() {
	if x.run != nil && x.run.interrupt != nil {
		x.run.interrupt()
	}
}
