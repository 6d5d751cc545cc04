// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/sealing"
)

// appRoot is the opened root of one app. The store keeps it open, so that deriving from it
// asks neither firmware nor TPM.
type appRoot struct {
	header   sealing.Header // authenticated
	payload  *secret.Secret
	versions []uint32 // ascending, at least one
}

func (a *appRoot) current() uint32 { return a.versions[len(a.versions)-1] }

// beginApp begins an operation on an app that has keys, and opens its root. The caller ends
// its turn with end, unless there is an error.
func (s *Store) beginApp(ctx context.Context, name string) (context.Context, *appRoot, error) {
	ctx, err := s.ready(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, err := s.app(ctx, name)
	if err != nil {
		s.end()
	}
	return ctx, a, err
}

// app opens the root of an app. The code is [api.CodeNotFound] if the app has none yet.
func (s *Store) app(ctx context.Context, name string) (*appRoot, error) {
	if a := s.opened.get(name); a != nil {
		return a, nil
	}
	e := s.manifest.Find(sealing.Key{App: name, Kind: sealing.KindAppRoot})
	if e == nil {
		return nil, &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %q has no keys yet", name)}
	}
	h, payload, err := s.openEntry(*e, s.roots.opener(ctx))
	if err != nil {
		return nil, fmt.Errorf("open the root of app %s: %w", name, err)
	}
	list, err := versions(payload)
	if err != nil {
		payload.Wipe()
		return nil, err
	}
	a := &appRoot{header: *h, payload: payload, versions: list}
	s.opened.put(name, a)
	return a, nil
}

// openEntry opens the blob of e and checks that it is the one the manifest means.
func (s *Store) openEntry(e sealing.Entry, open opener) (*sealing.Header, *secret.Secret, error) {
	b, err := s.readBlob(blobFile(e.ID))
	if err != nil {
		return nil, nil, err
	}
	payload, err := open(b)
	if err != nil {
		return nil, nil, err
	}
	if err := checkEntry(&e, &b.Claimed); err != nil {
		payload.Wipe()
		return nil, nil, err
	}
	return &b.Claimed, payload, nil
}

func (s *Store) readBlob(file string) (*sealing.Blob, error) {
	raw, err := s.config.Files.Read(file, sealing.MaxBlob)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &sealing.Error{Code: api.CodeMissing, Detail: fmt.Sprintf("the manifest lists %s, which is missing; put it back", file)}
	}
	if err != nil {
		return nil, &sealing.Error{Code: api.CodeRootUnavailable, Detail: "read " + file, Err: err}
	}
	return sealing.ParseBlob(raw)
}

// checkEntry refuses an authentic blob in the place of another one.
func checkEntry(e *sealing.Entry, h *sealing.Header) error {
	key := h.Key()
	switch {
	case h.ID == e.ID && key == e.Key && h.Generation == e.Generation:
		return nil
	case h.App.Name != e.App:
		return &sealing.Error{Code: api.CodeOtherApp, Field: "app", Detail: fmt.Sprintf("the file contains a blob of app %q, want one of app %q", h.App.Name, e.App)}
	case key == e.Key && h.Generation < e.Generation:
		return &sealing.Error{Code: api.CodeOldGeneration, Field: "generation", Detail: fmt.Sprintf("the file contains generation %d, the manifest lists %d: an old blob was put back", h.Generation, e.Generation)}
	default:
		return &sealing.Error{Code: api.CodeRenamed, Field: "id", Detail: fmt.Sprintf("the file contains %s %q, want %s %q", h.Kind, h.Name, e.Kind, e.Name)}
	}
}

// permitted opens the root of the caller's app and checks that this caller may use it.
func (s *Store) permitted(ctx context.Context, c Caller) (*appRoot, error) {
	if err := checkIdentity(c.App); err != nil {
		return nil, err
	}
	a, err := s.app(ctx, c.App.Name)
	if err != nil {
		return nil, err
	}
	if err := permits(&a.header, c); err != nil {
		return nil, err
	}
	return a, nil
}

// checkIdentity refuses an identity that is not complete: without a system unit, no keys.
func checkIdentity(a sealing.App) error {
	for _, f := range []struct{ what, text string }{{"app", a.Name}, {"unit", a.Unit}, {"user", a.User}} {
		if err := text.Check(f.what, f.text, 1, sealing.MaxName); err != nil {
			return &sealing.Error{Code: api.CodeInvalidValue, Field: f.what, Detail: "identity of the caller", Err: err}
		}
	}
	return nil
}

// permits reports why the blob is not for c.
func permits(h *sealing.Header, c Caller) error {
	switch {
	case h.App.Name != c.App.Name:
		return &sealing.Error{Code: api.CodeOtherApp, Field: "app", Detail: fmt.Sprintf("sealed for app %q, and app %q asked for it", h.App.Name, c.App.Name)}
	case h.App.Unit != c.App.Unit:
		return &sealing.Error{Code: api.CodeOtherApp, Field: "unit", Detail: fmt.Sprintf("sealed for unit %q, app %q is now unit %q", h.App.Unit, c.App.Name, c.App.Unit)}
	case h.App.User != c.App.User:
		return &sealing.Error{Code: api.CodeOtherUser, Field: "user", Detail: fmt.Sprintf("sealed for user %q, app %q now runs as %q", h.App.User, c.App.Name, c.App.User)}
	case len(h.Digests) == 0 || slices.Contains(h.Digests, c.Digest) && !c.Digest.IsZero():
		return nil
	case c.Digest.IsZero():
		return &sealing.Error{Code: api.CodeDigestNotAuthorised, Field: "digests", Detail: fmt.Sprintf("app %s requires an authorised digest and was not measured; measure it", c.App.Name)}
	default:
		return &sealing.Error{Code: api.CodeDigestNotAuthorised, Field: "digests", Detail: fmt.Sprintf("app %s was measured as %s, which is not among the %d authorised digests; authorise it before an upgrade", c.App.Name, c.Digest, len(h.Digests))}
	}
}

// The payload of an app root: number of versions (2 bytes), then for each, ascending,
// its number (4 bytes) and root (32 random bytes). Integers are big-endian.
const versionSize = 4 + sealing.KeySize

// addVersion returns old, or an empty payload if nil, with a new random version after it.
func addVersion(old *secret.Secret, version uint32) (*secret.Secret, error) {
	root, err := secret.Random(sealing.KeySize)
	if err != nil {
		return nil, err
	}
	defer root.Wipe()
	n := 2
	if old != nil {
		n = old.Len()
	}
	out, err := secret.New(n + versionSize)
	if err != nil {
		return nil, err
	}
	err = out.Use(func(o []byte) error {
		if old != nil {
			if err := old.Use(func(b []byte) error { copy(o, b); return nil }); err != nil {
				return err
			}
		}
		binary.BigEndian.PutUint16(o, binary.BigEndian.Uint16(o)+1)
		binary.BigEndian.PutUint32(o[n:], version)
		return root.Use(func(r []byte) error { copy(o[n+4:], r); return nil })
	})
	return out, err
}

// dropVersion returns old without a version that it contains.
func dropVersion(old *secret.Secret, version uint32) (*secret.Secret, error) {
	out, err := secret.New(old.Len() - versionSize)
	if err != nil {
		return nil, err
	}
	err = old.Use(func(b []byte) error {
		return out.Use(func(o []byte) error {
			binary.BigEndian.PutUint16(o, binary.BigEndian.Uint16(b)-1)
			n := 2
			for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
				if binary.BigEndian.Uint32(rest) != version {
					n += copy(o[n:], rest[:versionSize])
				}
			}
			return nil
		})
	})
	return out, err
}

// versions lists the versions in a payload, ascending, and refuses a payload that
// addVersion and dropVersion never make.
func versions(payload *secret.Secret) (list []uint32, err error) {
	malformed := &sealing.Error{Code: api.CodeMalformedBlob, Field: "payload", Detail: "it is not the root of an app"}
	err = payload.Use(func(b []byte) error {
		if len(b) < 2 || len(b) != 2+int(binary.BigEndian.Uint16(b))*versionSize || len(b) == 2 {
			return malformed
		}
		for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
			v := binary.BigEndian.Uint32(rest)
			if v == 0 || len(list) > 0 && v <= list[len(list)-1] || len(list) == sealing.MaxVersions {
				return malformed
			}
			list = append(list, v)
		}
		return nil
	})
	return list, err
}

// An expansion is what is made of a version of an app's root: length bytes of
// HKDF-Expand-SHA-256(root, info). The root is the app's own, and info is a preimage, which
// prefixes every part with its length. So no two expansions give related secrets.
type expansion struct {
	info   func(app sealing.App, version uint32) []byte
	length int
}

// derivedWith makes a derived secret.
func derivedWith(label []byte, length int) expansion {
	return expansion{length: length, info: func(app sealing.App, version uint32) []byte {
		return evidence.Preimage(sealing.LabelDerive,
			binary.BigEndian.AppendUint32(nil, version),
			[]byte(app.Name), []byte(app.Unit), []byte(app.User),
			label,
			binary.BigEndian.AppendUint32(nil, uint32(length)))
	}}
}

// from expands a version of the root in payload.
func (x expansion) from(payload *secret.Secret, app sealing.App, version uint32) (*secret.Secret, error) {
	var out *secret.Secret
	err := payload.Use(func(b []byte) error {
		for rest := b[2:]; len(rest) > 0; rest = rest[versionSize:] {
			if binary.BigEndian.Uint32(rest) != version {
				continue
			}
			okm, err := hkdf.Expand(sha256.New, rest[4:versionSize], string(x.info(app, version)), x.length)
			if err != nil {
				return err
			}
			out, err = secret.Take(okm)
			return err
		}
		return &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("app %s has no version %d of its root", app.Name, version)}
	})
	return out, err
}
