// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// Provision stores a secret for an app, in the place of one of that name exactly if replace. It
// is what every way of provisioning calls. The caller wipes data.
func (v *Vault) Provision(ctx context.Context, app, name string, data *secret.Secret, replace bool) error {
	s, c, err := v.provisionable(ctx, app)
	if err != nil {
		return err
	}
	err = s.Provision(ctx, c.App, name, data, replace)
	v.refresh(ctx)
	if err == nil {
		v.c.Log.Info("a secret was provisioned", "app", app, "name", name, "bytes", data.Len(), "replaced", replace)
	}
	return err
}

// Provisioned reports whether root provisioned a secret of that name for an app. It refuses an app that
// can have none, as Provision would.
func (v *Vault) Provisioned(ctx context.Context, app, name string) (bool, error) {
	s, c, err := v.provisionable(ctx, app)
	if err != nil {
		return false, err
	}
	return s.Provisioned(ctx, c.App, name)
}

// provisionable returns the store and the declared app that it can keep secrets of root for.
func (v *Vault) provisionable(ctx context.Context, app string) (*store.Store, store.Caller, error) {
	s, err := v.opened(ctx)
	if err != nil {
		return nil, store.Caller{}, err
	}
	if _, err := v.c.Apps.Wait(ctx); err != nil {
		return nil, store.Caller{}, err
	}
	if _, ok := v.declaredContainer(app, ""); ok {
		return nil, store.Caller{}, problem.New(api.CodeNotPermitted, fmt.Sprintf("app %s is a container, and systemd hands secrets to units alone: have the container store it itself, over the client socket", app))
	}
	c, ok := v.declared(func(x apps.Status) bool { return x.Name == app })
	if !ok {
		return nil, store.Caller{}, problem.New(api.CodeNoSuchApp, fmt.Sprintf("no declaration of app %q is in force", app))
	}
	return s, c, nil
}

// Secrets lists what root provisioned for an app, or for all if app is empty.
func (a Admin) Secrets(ctx context.Context, app string) (api.Secrets, error) {
	out := api.Secrets{Secrets: []api.ProvisionedSecret{}}
	s, err := a.opened(ctx)
	if err != nil {
		return out, err
	}
	items, err := s.List(ctx)
	for _, i := range items {
		if x, ok := provisionedOf(i); ok && (app == "" || app == x.App) {
			out.Secrets = append(out.Secrets, x)
		}
	}
	return out, err
}

// PutSecret stores a secret that root gives.
func (a Admin) PutSecret(ctx context.Context, r api.SecretRequest, replace bool) (api.ProvisionedSecret, error) {
	if len(r.Data) == 0 || len(r.Data) > sealing.MaxSecret {
		return api.ProvisionedSecret{}, problem.Invalid("/data", fmt.Sprintf("%d bytes, want 1 to %d", len(r.Data), sealing.MaxSecret))
	}
	data, err := secret.Take(r.Data)
	if err != nil {
		return api.ProvisionedSecret{}, err
	}
	defer data.Wipe()
	if err := a.Provision(ctx, r.App, r.Name, data, replace); err != nil {
		return api.ProvisionedSecret{}, err
	}
	all, err := a.Secrets(ctx, r.App)
	for _, x := range all.Secrets {
		if x.Name == r.Name {
			return x, nil
		}
	}
	if err == nil { // another administrator removed it meanwhile
		err = problem.New(api.CodeNotFound, fmt.Sprintf("the secret %q of app %s was stored, and is gone again", r.Name, r.App))
	}
	return api.ProvisionedSecret{}, err
}

// RemoveSecret deletes a provisioned secret, also one of an app that is not declared any more.
func (a Admin) RemoveSecret(ctx context.Context, app, name string) error {
	return a.change(ctx, fmt.Sprintf("remove provisioned secret %s of %s", name, app), func(s *store.Store) error { return s.Unprovision(ctx, app, name) })
}

// provisionedOf returns what an entry says of a provisioned secret, and false for other entries.
func provisionedOf(i store.Item) (api.ProvisionedSecret, bool) {
	name, ok := strings.CutPrefix(i.Name, sealing.Provisioned)
	if !ok || i.Kind != sealing.KindSecret {
		return api.ProvisionedSecret{}, false
	}
	return api.ProvisionedSecret{App: i.App, Name: name, Bytes: int(i.Size), Generation: i.Generation, Slot: i.Slot.String(), Rewrap: i.Rewrap, Unproven: i.Unproven}, true
}
