// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// Contract returns the contract of the root of an app, or of its secret of that name. It
// opens the blob to authenticate it, and returns nothing of the payload. If the blob does
// not open, it returns the file's claim together with the error.
func (s *Store) Contract(ctx context.Context, app, name string) (sealing.Contract, error) {
	if err := s.begin(ctx); err != nil {
		return sealing.Contract{}, err
	}
	defer s.end()
	key := sealing.Key{App: app, Kind: sealing.KindAppRoot, Name: name}
	if name != "" {
		key.Kind = sealing.KindSecret
	}
	if s.locked != nil {
		c, err := s.claim(key)
		return c, errors.Join(s.locked, err)
	}
	e := s.manifest.Find(key)
	if e == nil {
		return sealing.Contract{}, &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("there is no %s %q of app %q", key.Kind, name, app)}
	}
	b, err := s.readBlob(e.ID)
	if err != nil {
		return sealing.Contract{}, err
	}
	c := b.Claimed.Contract()
	c.Counted = len(s.manifest.Counter) > 0
	_, payload, err := s.openEntry(ctx, *e)
	if err != nil {
		return c, err
	}
	payload.Wipe()
	c.Authenticated = true
	return c, nil
}

// claim returns what a file claims, in a store whose manifest does not open.
func (s *Store) claim(key sealing.Key) (sealing.Contract, error) {
	names, err := s.config.Files.List()
	if err != nil {
		return sealing.Contract{}, err
	}
	var best *sealing.Blob
	for _, n := range names {
		if !isBlobFile(n) {
			continue
		}
		raw, err := s.config.Files.Read(n, sealing.MaxBlob)
		if err != nil {
			continue
		}
		b, err := sealing.ParseBlob(raw)
		if err != nil || b.Claimed.Key() != key {
			continue
		}
		if best == nil || b.Claimed.Generation > best.Claimed.Generation {
			best = b
		}
	}
	if best == nil {
		return sealing.Contract{}, &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("no file claims to be the %s %q of app %q", key.Kind, key.Name, key.App)}
	}
	return best.Claimed.Contract(), nil
}

// Plan returns the contract of what the app would seal under that name now.
func (s *Store) Plan(ctx context.Context, app sealing.App, name string) (sealing.Contract, error) {
	if err := s.ready(ctx); err != nil {
		return sealing.Contract{}, err
	}
	defer s.end()
	c := s.header.Contract()
	c.Planned, c.Kind, c.App, c.Name, c.Generation = true, sealing.KindSecret, app, name, s.manifest.Number+1
	c.Counted = len(s.manifest.Counter) > 0
	if name == "" {
		c.Kind = sealing.KindAppRoot
	}
	if kind := s.roots.kind(); kind.SNP() {
		now := *s.roots.reading
		c.Machine = &now
	}
	return c, nil
}
