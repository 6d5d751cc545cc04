// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"
)

// Policy is one version of a policy.
type Policy struct {
	Name     string    `json:"name"`              // as paths have it
	Version  uint64    `json:"version"`           // 1 for the first of its name
	Digest   string    `json:"digest,omitzero"`   // SHA-256 of the text, hexadecimal; absent if this version withdraws the policy
	Text     string    `json:"text,omitzero"`     // as docs/policy.md describes it
	Audience string    `json:"audience,omitzero"` // party that tokens are for; absent: no tokens
	By       string    `json:"by"`                // administrator who put it
	Changed  time.Time `json:"changed"`           // when
}

// Errors of changes.
var (
	ErrNone     = errors.New("store: it is not there")
	ErrConflict = errors.New("store: another version is in force")
	ErrExists   = errors.New("store: it is there already")
)

// columns are those of a policy, in the order of scan.
const columns = "name, version, digest, text, audience, changer, changed"

func scan(row interface{ Scan(...any) error }) (*Policy, error) {
	p, text, changed := new(Policy), []byte(nil), int64(0)
	err := row.Scan(&p.Name, &p.Version, &p.Digest, &text, &p.Audience, &p.By, &changed)
	p.Text, p.Changed = string(text), fromMicro(changed)
	return p, err
}

// Policy returns a version of a policy, the newest one if version is 0. The error is ErrNone if it is
// not there, or was withdrawn.
func (s *Store) Policy(ctx context.Context, name string, version uint64) (p *Policy, err error) {
	err = s.read(ctx, "read a policy", func(ctx context.Context, q queries) (err error) {
		if version == 0 {
			p, err = scan(q.row(ctx, "SELECT "+columns+" FROM policies WHERE name = $1 ORDER BY version DESC LIMIT 1", name))
		} else {
			p, err = scan(q.row(ctx, "SELECT "+columns+" FROM policies WHERE name = $1 AND version = $2", name, version))
		}
		if absent(err) || err == nil && p.Digest == "" {
			return fault{ErrNone}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// InForce returns the newest version of a policy without reading its text. The error is ErrNone if it is
// not there, or was withdrawn.
func (s *Store) InForce(ctx context.Context, name string) (version uint64, err error) {
	if version, err = s.forces.ask(ctx, name); err == nil && version == 0 {
		err = ErrNone
	}
	return version, err
}

func (s *Store) inForce(ctx context.Context, all []string) ([]uint64, error) {
	names := slices.Compact(slices.Sorted(slices.Values(all)))
	var args []any
	for _, name := range names {
		args = append(args, name)
	}
	found := map[string]uint64{}
	err := s.read(ctx, "ask which policies are in force", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			var name, digest string
			var version uint64
			if err := rows.Scan(&name, &version, &digest); err != nil {
				return err
			}
			if digest != "" {
				found[name] = version
			}
			return nil
		}, "SELECT name, version, digest FROM policies AS p WHERE name IN ("+marks(0, len(names))+") AND version = (SELECT max(version) FROM policies AS q WHERE q.name = p.name)", args...)
	})
	if err != nil {
		return nil, err
	}
	answers := make([]uint64, len(all))
	for i, name := range all {
		answers[i] = found[name]
	}
	return answers, nil
}

// Policies returns the newest version of each policy, without its text, withdrawn ones included.
func (s *Store) Policies(ctx context.Context) (all []*Policy, err error) {
	err = s.read(ctx, "read policies", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			p, err := scan(rows)
			p.Text = ""
			all = append(all, p)
			return err
		}, "SELECT "+columns+" FROM policies AS p WHERE version = (SELECT max(version) FROM policies AS q WHERE q.name = p.name) ORDER BY name")
	})
	return all, err
}

// PutPolicy puts a version of a policy into force. An empty digest withdraws the policy. If after is not
// nil, that must be the version in force, 0 for none; otherwise the error is ErrConflict.
func (s *Store) PutPolicy(ctx context.Context, p Policy, after *uint64) (*Policy, error) {
	err := s.change(ctx, "put a policy", func(ctx context.Context, tx *transaction) (*Entry, error) {
		var last uint64
		if err := tx.row(ctx, "SELECT coalesce(max(version), 0) FROM policies WHERE name = $1", p.Name).Scan(&last); err != nil {
			return nil, err
		}
		if after != nil && *after != last {
			return nil, fault{ErrConflict}
		}
		action := "put"
		if p.Digest == "" {
			if action = "withdraw"; last == 0 {
				return nil, fault{ErrNone}
			}
		}
		p.Version = last + 1
		_, err := tx.exec(ctx, "INSERT INTO policies ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7)",
			p.Name, p.Version, p.Digest, []byte(p.Text), p.Audience, p.By, micro(p.Changed))
		return &Entry{Time: p.Changed.UTC(), Kind: KindPolicy, Policy: p.Name, Version: p.Version, PolicyDigest: p.Digest, Action: action, By: p.By}, err
	})
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// change makes a change by an administrator, and its record.
func (s *Store) change(ctx context.Context, attempt string, f func(context.Context, *transaction) (*Entry, error)) error {
	return s.write(ctx, attempt, func(ctx context.Context, tx *transaction) error {
		c, err := lockHead(ctx, tx) // first: so that changes come one after the other
		if err != nil {
			return err
		}
		e, err := f(ctx, tx)
		if err != nil {
			return err
		}
		if err := c.append(*e, nil); err != nil {
			return err
		}
		return c.write(ctx, tx)
	})
}
