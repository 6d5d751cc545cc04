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
func (s *Service) judge(ctx context.Context, v *verify.Verifier, q *Request, at visit) (*Record, error) {
	expect := verify.Expect{Nonce: q.Nonce, PublicKey: q.PublicKey, UserData: q.UserData}
	ak := keyIn(q.Evidence)
	if ak != nil && s.c.Expect != nil {
		if err := s.c.Expect(ctx, ak.Name(), q.Evidence, &expect); err != nil {
			return nil, fmt.Errorf("what is expected of evidence: %w", err)
		}
	}
	expect.Nonce = q.Nonce // whatever Expect did: without it, old evidence would pass
	for range tries {
		r, err := s.against(ctx, v, q, expect, ak, at)
		if !errors.Is(err, ErrMoved) {
			return r, err
		}
	}
	return nil, errMoved
}

// against appraises evidence against what is known of the log at this moment.
func (s *Service) against(ctx context.Context, v *verify.Verifier, q *Request, expect verify.Expect, ak *keys.Public, at visit) (*Record, error) {
	r := &Record{Time: at.now, Nonce: expect.Nonce, ak: ak, wanted: q.CertifyAK}
	if ak != nil {
		r.AK = ak.Name()
	}
	if ak != nil && s.c.Logs != nil {
		var err error
		if r.Known, err = s.c.Logs.Known(ctx, r.AK); err != nil {
			return nil, fmt.Errorf("known log: %w", err)
		}
		if r.Known != nil {
			if r.Known.State == nil {
				return nil, fmt.Errorf("known log of %v: it has no state", r.AK)
			}
			expect.LogState = r.Known.State
		}
	}
	var err error
	if r.Appraisal, err = v.Appraise(q.Evidence, expect, at.now); err != nil { // what is expected makes no sense: a request was checked before
		return nil, fmt.Errorf("appraise: %w", err)
	}
	claims, err := r.Appraisal.Claims()
	switch {
	case err == nil:
		return r, s.keep(ctx, r, claims, at)
	case r.Known.changedSince(at.given) && r.Appraisal.Check("log.continuation").Verdict == verify.Fail:
		return nil, errMoved
	}
	return r, s.record(ctx, r)
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
		return s.certify(ctx, r, at)
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
	if err := s.certify(ctx, r, at); err != nil {
		return err
	}
	return s.record(ctx, r)
}

// certify makes the certificate of the attestation key of accepted evidence, if the client asked for one.
func (s *Service) certify(ctx context.Context, r *Record, at visit) (err error) {
	if !r.wanted {
		return nil
	}
	if s.c.Authority == nil {
		r.uncertified = "this service certifies no attestation keys under this policy"
		return nil
	}
	r.Certificate, err = s.c.Authority.certify(ctx, r.ak, r.Appraisal, at.now)
	if x, ok := errors.AsType[errNotCertified](err); ok {
		r.uncertified = x.Error()
		return nil
	}
	return err
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

// keyIn returns the attestation key in unverified evidence, nil if it cannot be read. The appraisal says
// why not.
func keyIn(document []byte) *keys.Public {
	e, err := evidence.Parse(document)
	if err != nil {
		return nil
	}
	p, err := keys.ParsePublic(e.AK)
	if err != nil {
		return nil
	}
	return p
}
