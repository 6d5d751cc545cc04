// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/sealing"
)

// Derive returns length bytes (1 to [sealing.MaxDerived]) for label (up to
// [sealing.MaxLabel] bytes) from a version of the app's root, and that version. Version 0
// means the current one. The same app, version, label and length give the same bytes after
// each restart, reboot and re-wrapping. All others give unrelated bytes. The first request
// of an app makes its root. The caller wipes the result.
func (s *Store) Derive(ctx context.Context, c Caller, label []byte, length int, version uint32) (*secret.Secret, uint32, error) {
	if length < 1 || length > sealing.MaxDerived {
		return nil, 0, &sealing.Error{Code: api.CodeInvalidValue, Field: "length", Detail: fmt.Sprintf("%d bytes, want 1 to %d", length, sealing.MaxDerived)}
	}
	if len(label) > sealing.MaxLabel {
		return nil, 0, &sealing.Error{Code: api.CodeInvalidValue, Field: "label", Detail: fmt.Sprintf("label of %d bytes, at most %d", len(label), sealing.MaxLabel)}
	}
	return s.fromRoot(ctx, c, derivedWith(label, length), version)
}

// fromRoot expands a version of the root of the caller's app, 0 for the current one, and makes
// the root if the app has none. It returns the version too.
func (s *Store) fromRoot(ctx context.Context, c Caller, x expansion, version uint32) (*secret.Secret, uint32, error) {
	if err := checkIdentity(c.App); err != nil {
		return nil, 0, err
	}
	if out, version, err, ok := s.opened.expand(c, x, version); ok {
		return out, version, err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return nil, 0, err
	}
	defer s.end()
	a, err := s.permitted(ctx, c)
	if errors.Is(err, api.CodeNotFound) {
		if err = s.change(ctx, func(t *writing) error { return t.putNewApp(ctx, c.App, nil) }); err == nil {
			a, err = s.permitted(ctx, c)
		}
	}
	if err != nil {
		return nil, 0, err
	}
	return a.expand(c, x, version)
}

// expand expands a version of the root for c, 0 for the current one.
func (a *appRoot) expand(c Caller, x expansion, version uint32) (*secret.Secret, uint32, error) {
	if err := permits(&a.header, c); err != nil {
		return nil, 0, err
	}
	if version == 0 {
		version = a.current()
	}
	out, err := x.from(a.payload, a.header.App, version)
	return out, version, err
}

// putNewApp makes the root of an app that has none, with version 1.
func (t *writing) putNewApp(ctx context.Context, a sealing.App, digests []evidence.Digest) error {
	payload, err := addVersion(nil, 1)
	if err != nil {
		return err
	}
	defer payload.Wipe()
	return t.put(ctx, sealing.Header{Kind: sealing.KindAppRoot, App: a, Digests: digests}, payload)
}

// Seal stores data (up to [sealing.MaxSecret] bytes) under a name that the app chooses, and
// replaces what was stored there. Unseal asks for the same associated data (up to
// [sealing.MaxAssociatedData] bytes); the store keeps only its digest. The caller wipes data.
func (s *Store) Seal(ctx context.Context, c Caller, name string, data *secret.Secret, associated []byte) error {
	if err := checkRequest(name, associated); err != nil {
		return err
	}
	if err := checkSize(data); err != nil {
		return err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	_, err = s.permitted(ctx, c)
	fresh := errors.Is(err, api.CodeNotFound)
	if err != nil && !fresh {
		return err
	}
	return s.putSecret(ctx, c.App, fresh, name, data, associated)
}

// checkSize refuses a secret that does not fit into a blob.
func checkSize(data *secret.Secret) error {
	if data.Len() > sealing.MaxSecret {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "payload", Detail: fmt.Sprintf("secret of %d bytes, at most %d", data.Len(), sealing.MaxSecret)}
	}
	return nil
}

// putSecret stores data under the name of a blob, and makes the root of the app first if it is
// fresh. What was stored there stays until the manifest lists the new blob.
func (s *Store) putSecret(ctx context.Context, app sealing.App, fresh bool, name string, data *secret.Secret, associated []byte) error {
	digest, err := sealing.NewAssociatedDigest(associated)
	if err != nil {
		return err
	}
	if err := s.quota(app.Name, name, data.Len()); err != nil {
		return err
	}
	return s.change(ctx, func(t *writing) error {
		if fresh {
			if err := t.putNewApp(ctx, app, nil); err != nil {
				return err
			}
		}
		h := sealing.Header{Kind: sealing.KindSecret, App: app, Name: name, AssociatedData: digest}
		if err := t.put(ctx, h, data); err != nil {
			return err
		}
		t.mark(h.Key(), false)
		return nil
	})
}

// Unseal returns what Seal stored. The caller wipes it.
func (s *Store) Unseal(ctx context.Context, c Caller, name string, associated []byte) (*secret.Secret, error) {
	if err := checkRequest(name, associated); err != nil {
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
	return s.getSecret(ctx, c, name, associated, fmt.Sprintf("app %s stored nothing under %q", c.App.Name, name))
}

// getSecret opens the blob of that name for c, which may have it by the app's digests. Absent says
// what is missing if there is none.
func (s *Store) getSecret(ctx context.Context, c Caller, name string, associated []byte, absent string) (*secret.Secret, error) {
	e := s.manifest.Find(sealing.Key{App: c.App.Name, Kind: sealing.KindSecret, Name: name})
	if e == nil {
		return nil, &sealing.Error{Code: api.CodeNotFound, Detail: absent}
	}
	h, payload, err := s.openEntry(*e, s.roots.opener(ctx))
	if err != nil {
		return nil, err
	}
	// Identity is the secret's own, the digests are those of the app.
	err = permits(h, c)
	if err == nil && !h.AssociatedData.Matches(associated) {
		err = &sealing.Error{Code: api.CodeOtherAssociatedData, Field: "associated-data", Detail: fmt.Sprintf("associated data of %q of app %s does not match that at sealing", name, c.App.Name)}
	}
	if err != nil {
		payload.Wipe()
		return nil, err
	}
	return payload, nil
}

// Delete removes a secret that the app stored. The TPM counts it like every change, so an
// attacker cannot bring the secret back unnoticed.
func (s *Store) Delete(ctx context.Context, c Caller, name string) error {
	if err := checkRequest(name, nil); err != nil {
		return err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.permitted(ctx, c); err != nil {
		return err
	}
	key := sealing.Key{App: c.App.Name, Kind: sealing.KindSecret, Name: name}
	if s.manifest.Find(key) == nil {
		return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %s stored nothing under %q", c.App.Name, name)}
	}
	return s.change(ctx, func(t *writing) error { t.replace(key); return nil })
}

func checkRequest(name string, associated []byte) error {
	if err := text.Check("name", name, 1, sealing.MaxName); err != nil {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "name", Detail: "name of a secret", Err: err}
	}
	if strings.HasPrefix(name, sealing.Provisioned) {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "name", Detail: fmt.Sprintf("names that begin with %q are of secrets that root provisioned: the unit gets them as credentials", sealing.Provisioned)}
	}
	if len(associated) > sealing.MaxAssociatedData {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "associated-data", Detail: fmt.Sprintf("%d bytes, at most %d", len(associated), sealing.MaxAssociatedData)}
	}
	return nil
}

// Quota bounds what one app may store. A zero member stands for its default.
type Quota struct {
	Secrets int   // number of stored secrets; 64 if zero
	Bytes   int64 // size of all stored secrets together; 1 MiB if zero
}

// quota refuses a secret of size bytes if the app would store more than it may. What root
// provisioned for it counts for itself: neither keeps the other from storing.
func (s *Store) quota(app, name string, size int) error {
	q := s.config.Quota
	count, bytes := 1, int64(size)
	byRoot := strings.HasPrefix(name, sealing.Provisioned)
	for _, e := range s.manifest.Entries {
		if e.App == app && e.Kind == sealing.KindSecret && e.Name != name && strings.HasPrefix(e.Name, sealing.Provisioned) == byRoot {
			count++
			bytes += int64(e.Size)
		}
	}
	if count > q.Secrets {
		return &sealing.Error{Code: api.CodeQuotaExceeded, Detail: fmt.Sprintf("app %s may store %d secrets; delete one", app, q.Secrets)}
	}
	if bytes > q.Bytes {
		return &sealing.Error{Code: api.CodeQuotaExceeded, Detail: fmt.Sprintf("app %s would store %d bytes, it may store %d", app, bytes, q.Bytes)}
	}
	return nil
}
