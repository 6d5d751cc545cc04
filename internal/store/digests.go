// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/sealing"
)

// RequireDigest makes the keys of an app depend on its measured digest: only while
// the app was last measured as one of digests are they handed out. No digests lifts
// the requirement. The agent enforces it; the derived key does not depend
// on the digest, or no upgrade could be prepared.
func (s *Store) RequireDigest(ctx context.Context, app sealing.App, digests ...evidence.Digest) error {
	if err := checkIdentity(app); err != nil {
		return err
	}
	if err := checkDigests(digests); err != nil {
		return err
	}
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	a, err := s.app(ctx, app.Name)
	if errors.Is(err, api.CodeNotFound) {
		return s.change(ctx, func(t *writing) error { return t.putNewApp(ctx, app, sorted(digests)) })
	}
	if err != nil {
		return err
	}
	return s.putDigests(ctx, a, digests)
}

// AuthorizeDigest adds a digest to those that an app requires, before an upgrade.
func (s *Store) AuthorizeDigest(ctx context.Context, app string, d evidence.Digest) error {
	if err := checkDigests([]evidence.Digest{d}); err != nil {
		return err
	}
	ctx, a, err := s.beginApp(ctx, app)
	if err != nil {
		return err
	}
	defer s.end()
	if len(a.header.Digests) == 0 {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "digests", Detail: fmt.Sprintf("app %s requires no digest, so no other can be authorised: first run `agentctl key require-digest --app %s`", app, app)}
	}
	return s.putDigests(ctx, a, append(slices.Clone(a.header.Digests), d))
}

// WithdrawDigest takes an authorised digest back, after an upgrade. The last one stays.
func (s *Store) WithdrawDigest(ctx context.Context, app string, d evidence.Digest) error {
	ctx, a, err := s.beginApp(ctx, app)
	if err != nil {
		return err
	}
	defer s.end()
	left := slices.DeleteFunc(slices.Clone(a.header.Digests), func(x evidence.Digest) bool { return x == d })
	switch {
	case len(left) == len(a.header.Digests):
		return &sealing.Error{Code: api.CodeNotFound, Field: "digests", Detail: fmt.Sprintf("digest %s is not authorised for app %s", d, app)}
	case len(left) == 0:
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "digests", Detail: fmt.Sprintf("%s is the only digest of app %s: first authorise another, or lift the requirement with `agentctl key lift-digest --app %s`", d, app, app)}
	}
	return s.putDigests(ctx, a, left)
}

func (s *Store) putDigests(ctx context.Context, a *appRoot, digests []evidence.Digest) error {
	h := a.header
	h.Digests = sorted(digests)
	if err := checkDigests(h.Digests); err != nil {
		return err
	}
	if slices.Equal(h.Digests, a.header.Digests) {
		return nil
	}
	return s.change(ctx, func(t *writing) error { return t.put(ctx, h, a.payload) })
}

func checkDigests(digests []evidence.Digest) error {
	if len(digests) > sealing.MaxDigests {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "digests", Detail: fmt.Sprintf("%d digests, at most %d", len(digests), sealing.MaxDigests)}
	}
	if slices.ContainsFunc(digests, evidence.Digest.IsZero) {
		return &sealing.Error{Code: api.CodeInvalidValue, Field: "digests", Detail: "the all-zero digest stands for an app that was not measured"}
	}
	return nil
}

func sorted(digests []evidence.Digest) []evidence.Digest {
	out := slices.Clone(digests)
	slices.SortFunc(out, func(a, b evidence.Digest) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(out)
}
