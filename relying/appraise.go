// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/verify"
)

// Appraise does for a program what POST /v1/appraisals does for a client: it appraises evidence against
// what is known of the machine's log, and keeps what is new. It is for a server that has challenges of
// its own. The caller guarantees that the nonce has [NonceSize] random bytes, was given out at that time
// and not before, and is used once: Config.Challenges is not asked.
//
// Refused evidence has an appraisal too: read the verdict. The error is an [*api.Problem] with
// [CodeLogMoved], [CodeBootEnded], [api.CodeNoSuchPath], [api.CodeTooLarge] or [api.CodeBusy] if it is not
// the service that has a fault.
func (s *Service) Appraise(ctx context.Context, nonce []byte, given time.Time, document []byte) (*verify.Appraisal, error) {
	if len(nonce) != NonceSize {
		return nil, fmt.Errorf("relying: a nonce of %d bytes, want %d", len(nonce), NonceSize)
	}
	if len(document) > s.c.Body {
		return nil, &api.Problem{Code: api.CodeTooLarge, Detail: fmt.Sprintf("%d bytes of evidence, at most %d", len(document), s.c.Body)}
	}
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return nil, &api.Problem{Code: api.CodeBusy, Detail: "too many appraisals at once: ask again soon", RetryAfter: 1}
	}
	now := s.c.Now() // before the policy is asked for, which may expire
	verifier, _, err := s.inForce(ctx)
	var found *Record
	if err == nil {
		found, err = s.judge(ctx, verifier, &Request{Nonce: nonce, Evidence: document}, visit{given: given, now: now})
	}
	if r, ok := errors.AsType[*refusal](err); ok {
		return nil, &r.problem
	}
	if err != nil {
		return nil, err
	}
	return found.Appraisal, nil
}
