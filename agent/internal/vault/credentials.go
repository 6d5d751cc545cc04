// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/credentials"
	"github.com/cvm-agentd/agentd/agent/internal/disks"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/sealing"
)

// Credentials answers systemd with what root provisioned for the app of a unit.
type Credentials struct {
	*Vault
	// Measure measures an app now, and returns once the log has it.
	Measure func(ctx context.Context, app string) (api.App, error)
	Disks   *disks.Disks
}

// Credential measures the app of the unit, and returns its secret. systemd asks before it runs
// anything of the unit, so the app may not have been measured since its files changed.
func (v Credentials) Credential(ctx context.Context, a credentials.Asked) ([]byte, error) {
	declared, err := v.c.Apps.Wait(ctx)
	if err != nil {
		return nil, err
	}
	s, err := v.opened(ctx)
	if err != nil {
		return nil, err
	}
	app, err := ofUnit(ctx, s, declared.OfUnit(a.Unit), a)
	if err != nil {
		return nil, err
	}
	ctx = turn.With(ctx, turn.Who{Class: turn.Start, Party: app.Name})
	measured, err := v.Measure(ctx, app.Name)
	if err != nil {
		return nil, err
	}
	c, _ := v.declared(func(x apps.Status) bool { return x.Name == app.Name })
	if err := stillMeasured(app, measured, c); err != nil {
		return nil, err
	}
	k, err := s.Hand(ctx, c, a.Name)
	v.learn(ctx, err)
	if err != nil {
		return nil, err
	}
	return take(k)
}

// stillMeasured refuses an app that was asked for and measured, if that failed, or if the app as it
// is declared now is another one or changed meanwhile. Now is zero if none is declared.
func stillMeasured(app caller.App, measured api.App, now store.Caller) error {
	switch {
	case measured.State != api.AppMeasured:
		return problem.New(api.CodeMeasureFailed, fmt.Sprintf("app %s is not measured: %s", app.Name, measured.Reason))
	case now.App != sealing.App{Name: app.Name, Unit: app.Unit, User: app.User}:
		return problem.New(api.CodeNoApp, fmt.Sprintf("the declaration of app %s was withdrawn or changed", app.Name))
	case now.Digest.IsZero():
		return problem.New(api.CodeMeasureFailed, fmt.Sprintf("app %s changed while it was measured", app.Name))
	}
	return nil
}

// VolumeKey returns the key of a volume, if the process reads the checked copy of its header.
func (v Credentials) VolumeKey(ctx context.Context, a credentials.Asked) ([]byte, error) {
	command, err := peer.Command(a.PID)
	if err != nil {
		return nil, err
	}
	k, err := v.Disks.VolumeKey(turn.With(ctx, turn.Who{Class: turn.Start, Party: a.Name}), a.Name, command)
	if err != nil {
		return nil, err
	}
	return take(k)
}

// ofUnit returns the app of a unit. If a unit has several, of several users, it is the one for
// which root provisioned the secret.
func ofUnit(ctx context.Context, s *store.Store, found []caller.App, a credentials.Asked) (caller.App, error) {
	names := make([]string, 0, len(found))
	for _, x := range found {
		names = append(names, x.Name)
	}
	slices.Sort(names)
	switch len(found) {
	case 0:
		detail := fmt.Sprintf("no app is declared for unit %s", a.Unit)
		if why := caller.Passing(a.Unit); why != "" {
			detail += ": " + why
		}
		return caller.App{}, problem.New(api.CodeNoApp, detail)
	case 1:
		return found[0], nil
	}
	holders, err := s.Holders(ctx, names, a.Name)
	if err != nil {
		return caller.App{}, err
	}
	if len(holders) != 1 {
		return caller.App{}, problem.New(api.CodeNotFound, fmt.Sprintf("unit %s has the apps %s, of which %d have a secret %q: provision it for one of them", a.Unit, strings.Join(names, ", "), len(holders), a.Name))
	}
	return found[slices.IndexFunc(found, func(x caller.App) bool { return x.Name == holders[0] })], nil
}
