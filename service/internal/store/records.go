// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/traces"
	"github.com/cvm-agentd/agentd/verify"
)

// EntryType is the member "type" of an entry, and the label of its hash.
const EntryType = "agentd/record/1"

// Limits of what is read back from a database, which another party may have written.
const (
	maxEntry = 64 << 10
	maxBody  = 64 << 20
	// MaxPage is how many records or enrolments are read at once.
	MaxPage = 100
)

// Kind says what an entry is about.
type Kind string

// Kinds of entries.
const (
	KindAppraisal Kind = "appraisal" // the result of one
	KindPolicy    Kind = "policy"    // a policy was put into force, or withdrawn
	KindEnrolment Kind = "enrolment" // an enrolment was added, approved or removed
)

// Entry is one entry of the chain of records.
type Entry struct {
	Type     string    `json:"type"`     // EntryType
	Sequence uint64    `json:"sequence"` // 1 for the first
	Previous string    `json:"previous"` // hash of the entry before it, hexadecimal; empty for the first
	Time     time.Time `json:"time"`     // by the clock of the worker
	Kind     Kind      `json:"kind"`     // what it is about

	Policy       string         `json:"policy,omitzero"`       // name of the policy
	Version      uint64         `json:"version,omitzero"`      // its version
	PolicyDigest string         `json:"policyDigest,omitzero"` // SHA-256 of its text, hexadecimal; absent if it was withdrawn
	AK           keys.Name      `json:"ak,omitzero"`           // attestation key; of refused evidence as that states it
	Nonce        evidence.Bytes `json:"nonce,omitzero"`        // of the challenge
	Verdict      verify.Verdict `json:"verdict,omitzero"`      // of the appraisal
	Class        verify.Class   `json:"class,omitzero"`        // of the appraisal
	Code         api.Code       `json:"code,omitzero"`         // of the answer in place of the appraisal
	Appraisal    string         `json:"appraisal,omitzero"`    // SHA-256 of the appraisal, hexadecimal
	Certificate  string         `json:"certificate,omitzero"`  // SHA-256 of the certificate that the attestation key got, hexadecimal
	Identifier   string         `json:"identifier,omitzero"`   // permanent identifier in it
	NotAfter     time.Time      `json:"notAfter,omitzero"`     // its end
	Action       string         `json:"action,omitzero"`       // of a change: put, withdraw, add, approve, remove
	By           string         `json:"by,omitzero"`           // administrator who made the change
}

// Recorded is an entry as the chain has it.
type Recorded struct {
	Hash string `json:"hash"` // hexadecimal
	Line []byte `json:"line"` // the entry; its hash is over these bytes

	Entry *Entry `json:"-"`
}

// Hash returns the hash of the line of an entry.
func Hash(line []byte) []byte {
	h := sha256.New()
	h.Write(append([]byte(EntryType), 0))
	h.Write(line)
	return h.Sum(nil)
}

// item is an entry that waits to be appended.
type item struct {
	entry       Entry
	packed      []byte // the appraisal, compressed
	known, next *relying.History
	facts       *facts // of the machine, nil: none
	refused     bool   // by the policy alone
	done        chan error
}

// Records returns where a service keeps the records of appraisals under a version of a policy.
func (s *Store) Records(p *Policy) relying.Records { return &records{s, p} }

type records struct {
	s *Store
	p *Policy
}

// Append implements relying.Records.
func (r *records) Append(ctx context.Context, x *relying.Record) (err error) {
	ctx, part := traces.Begin(ctx, "append a record")
	defer func() { part.End(err) }()
	body, err := strictjson.Encode(x.Appraisal)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(body)
	i := &item{known: x.Known, next: x.Next, done: make(chan error, 1), entry: Entry{Time: x.Time.UTC(), Kind: KindAppraisal,
		Policy: r.p.Name, Version: r.p.Version, PolicyDigest: r.p.Digest, AK: x.AK, Nonce: x.Nonce,
		Verdict: x.Appraisal.Verdict, Class: x.Appraisal.Class, Code: x.Code, Appraisal: hex.EncodeToString(sum[:])}}
	if c := x.Certificate; c != nil {
		sum := sha256.Sum256(c.Chain[0])
		i.entry.Certificate, i.entry.Identifier, i.entry.NotAfter = hex.EncodeToString(sum[:]), c.PermanentIdentifier, c.NotAfter
	}
	i.facts, i.refused = factsOf(x)
	if i.packed, err = pack(body); err != nil {
		return err
	}
	select {
	case r.s.appends <- i:
	case <-ctx.Done():
		return r.s.explain("append a record", ctx.Err())
	case <-r.s.ctx.Done():
		return r.s.explain("append a record", context.Canceled)
	}
	// Once it is handed over it may be committed: to leave before that is known would be an answer
	// of its own.
	return <-i.done
}

// maxAppends is how many records one transaction appends.
const maxAppends = 64

// appendItems appends items in one transaction, and tells each of them what came of it.
func (s *Store) appendItems(all []*item) {
	errs := make([]error, len(all))
	err := s.write(s.ctx, "append records", func(ctx context.Context, tx *transaction) error {
		c, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		for n, i := range all {
			err := s.appendItem(ctx, tx, c, i)
			own, is := errors.AsType[fault](err)
			switch {
			case is: // the others of this transaction do not fail for it
				errs[n] = own.error
			case errors.Is(err, relying.ErrMoved):
				errs[n] = err
			case err != nil:
				return err
			}
		}
		return c.write(ctx, tx)
	})
	for n, i := range all {
		if err != nil {
			errs[n] = err
		}
		i.done <- errs[n]
	}
}

func (s *Store) appendItem(ctx context.Context, tx *transaction, c *chain, i *item) error {
	if i.next != nil {
		if err := s.advance(ctx, tx, i.entry.AK, i.known, i.next); err != nil {
			return err
		}
	}
	if err := c.append(i.entry, i.packed); err != nil {
		return err
	}
	return s.know(ctx, tx, c.sequence, i)
}

// chain is the end of the chain in a transaction that appends.
type chain struct {
	sequence uint64
	hash     []byte

	records, bodies [][]any // rows that write will insert
}

// lockHead returns the end of the chain. No other transaction appends until this one ends.
func lockHead(ctx context.Context, tx *transaction) (*chain, error) {
	c := new(chain)
	return c, tx.row(ctx, "SELECT sequence, hash FROM head WHERE id = 1"+tx.d.lock).Scan(&c.sequence, &c.hash)
}

// append appends an entry, which write will insert.
func (c *chain) append(e Entry, packed []byte) error {
	e.Type, e.Sequence, e.Previous = EntryType, c.sequence+1, hex.EncodeToString(c.hash)
	line, err := strictjson.Encode(&e)
	if err != nil {
		return fault{err}
	}
	c.sequence, c.hash = e.Sequence, Hash(line)
	c.records = append(c.records, []any{c.sequence, c.hash, line})
	if packed != nil {
		c.bodies = append(c.bodies, []any{c.sequence, packed})
	}
	return nil
}

// write inserts what was appended, and the end of the chain.
func (c *chain) write(ctx context.Context, tx *transaction) error {
	if err := tx.insert(ctx, "records (sequence, hash, entry)", c.records); err != nil {
		return err
	}
	if err := tx.insert(ctx, "bodies (sequence, body)", c.bodies); err != nil {
		return err
	}
	_, err := tx.exec(ctx, "UPDATE head SET sequence = $1, hash = $2 WHERE id = 1", c.sequence, c.hash)
	return err
}

// Head is the end of the chain.
type Head struct {
	Sequence uint64 `json:"sequence"` // how many entries there are
	Hash     string `json:"hash"`     // of the last one, hexadecimal; empty if there is none
}

// Head returns the end of the chain.
func (s *Store) Head(ctx context.Context) (h Head, err error) {
	err = s.read(ctx, "read the head of the records", func(ctx context.Context, q queries) error {
		var hash []byte
		err := q.row(ctx, "SELECT sequence, hash FROM head WHERE id = 1").Scan(&h.Sequence, &hash)
		h.Hash = hex.EncodeToString(hash)
		return err
	})
	return h, err
}

// Entries returns up to MaxPage entries after one, in their order.
func (s *Store) Entries(ctx context.Context, after uint64) (all []Recorded, err error) {
	err = s.read(ctx, "read records", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			var hash, line []byte
			if err := rows.Scan(&hash, &line); err != nil {
				return err
			}
			e := new(Entry)
			if err := strictjson.Decode(line, maxEntry, e); err != nil {
				return fault{fmt.Errorf("store: the record after %d: %w", after+uint64(len(all)), err)}
			}
			all = append(all, Recorded{hex.EncodeToString(hash), line, e})
			return nil
		}, "SELECT hash, entry FROM records WHERE sequence > $1 ORDER BY sequence LIMIT $2", after, MaxPage)
	})
	return all, err
}

// Appraisal returns the appraisal of a record, nil if it was deleted or there is none.
func (s *Store) Appraisal(ctx context.Context, sequence uint64) (body []byte, err error) {
	err = s.read(ctx, "read an appraisal", func(ctx context.Context, q queries) error {
		var packed []byte
		err := q.row(ctx, "SELECT body FROM bodies WHERE sequence = $1", sequence).Scan(&packed)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if body, err = unpack(packed); err != nil {
			return fault{fmt.Errorf("store: the appraisal of record %d: %w", sequence, err)}
		}
		return nil
	})
	return body, err
}

// packers are writers that compress. A new one takes more than a megabyte.
var packers = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // the level is none
	}
	return w
}}

func pack(b []byte) ([]byte, error) {
	w := packers.Get().(*gzip.Writer)
	defer packers.Put(w)
	var out bytes.Buffer
	w.Reset(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close() // which writes the rest
	return out.Bytes(), err
}

func unpack(b []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, maxBody+1))
	if err == nil && len(out) > maxBody {
		err = fmt.Errorf("it is larger than %d bytes", maxBody)
	}
	return out, err
}
