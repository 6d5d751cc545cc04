// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/sealing"
)

// ofRoot is the associated data of what root provisioned. An earlier version let an app store
// under any name: a blob with other associated data is the app's own, and is not handed out.
var ofRoot = []byte("agentd/provisioned/1")

// Provision stores data for an app under a name that [unitname.CheckCredential] accepts. If
// replace, there must be a secret of that name, which stays until the new one is durable.
// Otherwise there must be none. The app may be without a digest that its keys require: it gets
// the secret only with one. The caller wipes data.
func (s *Store) Provision(ctx context.Context, app sealing.App, name string, data *secret.Secret, replace bool) error {
	if err := checkProvisioned(name); err != nil {
		return err
	}
	if err := checkSize(data); err != nil {
		return err
	}
	if data.Len() == 0 {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "payload", Detail: "an empty secret: systemd could not tell it from none"}
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	fresh, err := s.provisionable(ctx, app)
	if err != nil {
		return err
	}
	there := s.manifest.Find(sealing.Key{App: app.Name, Kind: sealing.KindSecret, Name: sealing.Provisioned + name}) != nil
	switch {
	case there && !replace:
		return &sealing.Error{Code: api.CodeExists, Detail: fmt.Sprintf("app %s has a secret %q already", app.Name, name)}
	case !there && replace:
		return absent(app.Name, name)
	}
	return s.putSecret(ctx, app, fresh, sealing.Provisioned+name, data, ofRoot)
}

// Holders returns those apps of a list for which root provisioned a secret of that name.
func (s *Store) Holders(ctx context.Context, apps []string, name string) (out []string, err error) {
	if _, err := s.ready(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	for _, app := range apps {
		if s.manifest.Find(sealing.Key{App: app, Kind: sealing.KindSecret, Name: sealing.Provisioned + name}) != nil {
			out = append(out, app)
		}
	}
	return out, nil
}

// Provisioned reports whether there is a secret of that name for an app. It refuses an app for which
// Provision would store none, since its root is for another unit or user.
func (s *Store) Provisioned(ctx context.Context, app sealing.App, name string) (bool, error) {
	ctx, err := s.ready(ctx)
	if err != nil {
		return false, err
	}
	defer s.end()
	if _, err := s.provisionable(ctx, app); err != nil {
		return false, err
	}
	return s.manifest.Find(sealing.Key{App: app.Name, Kind: sealing.KindSecret, Name: sealing.Provisioned + name}) != nil, nil
}

// Unprovision deletes a secret that root provisioned. The TPM counts it like every change.
func (s *Store) Unprovision(ctx context.Context, app, name string) error {
	if err := checkProvisioned(name); err != nil {
		return err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	key := sealing.Key{App: app, Kind: sealing.KindSecret, Name: sealing.Provisioned + name}
	if s.manifest.Find(key) == nil {
		return absent(app, name)
	}
	return s.change(ctx, func(t *writing) error { t.replace(key); return nil })
}

// Hand returns what root provisioned for the app of c, if its keys accept the digest that it was
// measured as. The caller wipes it.
func (s *Store) Hand(ctx context.Context, c Caller, name string) (*secret.Secret, error) {
	if err := checkProvisioned(name); err != nil {
		return nil, err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	if _, err := s.permitted(ctx, c); err != nil {
		return nil, err
	}
	return s.getSecret(ctx, c, sealing.Provisioned+name, ofRoot, absent(c.App.Name, name).Detail)
}

// provisionable reports whether the app has no root yet. It refuses an app whose root is for
// another unit or user: what is provisioned could not be handed out.
func (s *Store) provisionable(ctx context.Context, app sealing.App) (fresh bool, err error) {
	if err := checkIdentity(app); err != nil {
		return false, err
	}
	a, err := s.app(ctx, app.Name)
	if errors.Is(err, api.CodeNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	of := a.header
	of.Digests = nil
	return false, permits(&of, Caller{App: app})
}

func checkProvisioned(name string) error {
	if err := unitname.CheckCredential(name); err != nil {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "name", Detail: "name of a provisioned secret", Err: err}
	}
	return nil
}

// absent says that root provisioned no secret of that name.
func absent(app, name string) *sealing.Error {
	return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("no secret %q was provisioned for app %s: `agentctl secret put --app %s %s`", name, app, app, name)}
}
