// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// tries is how often evidence is appraised if what is known of its log changes meanwhile.
const tries = 4

// visit is when a challenge was given out, and when its evidence came.
type visit struct{ given, now time.Time }

// errMoved says that evidence cannot be told from a log that was turned back: it was asked for before
// later evidence of the same machine was accepted, so it may be the older of the two.
var errMoved = refused(CodeLogMoved, "ask for a new challenge, and for new evidence")

// judge appraises evidence, with what is known of the machine's log, and keeps what is new of that.
func (s *Service) judge(ctx context.Context, v *verify.Verifier, q *Request, at visit) (*verify.Appraisal, error) {
	expect := verify.Expect{Nonce: q.Nonce, PublicKey: q.PublicKey, UserData: q.UserData}
	ak := nameIn(q.Evidence)
	if ak != nil && s.c.Expect != nil {
		if err := s.c.Expect(ctx, ak, q.Evidence, &expect); err != nil {
			return nil, fmt.Errorf("what is expected of evidence: %w", err)
		}
	}
	expect.Nonce = q.Nonce // whatever Expect did: without it, old evidence would pass
	for range tries {
		a, err := s.against(ctx, v, q.Evidence, expect, ak, at)
		if !errors.Is(err, ErrMoved) {
			return a, err
		}
	}
	return nil, errMoved
}

// against appraises evidence against what is known of the log at this moment.
func (s *Service) against(ctx context.Context, v *verify.Verifier, document []byte, expect verify.Expect, ak keys.Name, at visit) (*verify.Appraisal, error) {
	var known *History
	if ak != nil && s.c.Logs != nil {
		var err error
		if known, err = s.c.Logs.Known(ctx, ak); err != nil {
			return nil, fmt.Errorf("known log: %w", err)
		}
		if known != nil {
			if known.State == nil {
				return nil, fmt.Errorf("known log of %v: it has no state", ak)
			}
			expect.LogState = known.State
		}
	}
	a, err := v.Appraise(document, expect, at.now)
	if err != nil { // what is expected makes no sense: a request was checked before
		return nil, fmt.Errorf("appraise: %w", err)
	}
	r := &Record{Time: at.now, Nonce: expect.Nonce, AK: ak, Appraisal: a, Known: known}
	claims, err := a.Claims()
	switch {
	case err == nil:
		return a, s.keep(ctx, r, claims, at)
	case known.changedSince(at.given) && a.Check("log.continuation").Verdict == verify.Fail:
		return nil, errMoved
	}
	return a, s.record(ctx, r)
}

// errTwoMachines is the answer to evidence of a boot that another one followed.
var errTwoMachines = refused(CodeBootEnded, "two machines use one attestation key: find out which of them was cloned")

// keep keeps what accepted evidence says of its log, and its record.
func (s *Service) keep(ctx context.Context, r *Record, claims *verify.Claims, at visit) error {
	// The name was read before the evidence was verified. Under another one, the log of another
	// machine would have been compared, and expectations of another machine.
	if claims.AKName != r.AK.String() {
		return fmt.Errorf("the evidence is of key %s, and was read as that of %q", claims.AKName, r.AK.String())
	}
	if s.c.Logs == nil {
		return nil
	}
	next, err := r.Known.next(claims, at.now)
	switch {
	case errors.Is(err, errBootEnded) && r.Known.changedSince(at.given):
		return errMoved
	case errors.Is(err, errBootEnded):
		r.Code = CodeBootEnded
		if err := s.record(ctx, r); err != nil {
			return err
		}
		return errTwoMachines
	case err != nil:
		return err
	case next != r.Known:
		r.Next = next
	}
	return s.record(ctx, r)
}

// record makes the record of an appraisal, in one step with what is known of the log.
func (s *Service) record(ctx context.Context, r *Record) error {
	switch {
	case s.c.Records != nil:
		if err := s.c.Records.Append(ctx, r); err != nil {
			return fmt.Errorf("keep the record of an appraisal: %w", err)
		}
	case r.Next != nil:
		if err := s.c.Logs.Advance(ctx, r.AK, r.Known, r.Next); err != nil {
			return fmt.Errorf("keep what is known of the log: %w", err)
		}
	}
	return nil
}

// nameIn returns the name of the attestation key in unverified evidence, nil if it cannot be read. The
// appraisal says why not.
func nameIn(document []byte) keys.Name {
	e, err := evidence.Parse(document)
	if err != nil {
		return nil
	}
	p, err := keys.ParsePublic(e.AK)
	if err != nil {
		return nil
	}
	return p.Name()
}
