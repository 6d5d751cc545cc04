// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// Verdict is what became of the evidence of the other end.
type Verdict struct {
	Claims    *verify.Claims    // nil if the evidence was refused, also if a hook let the connection pass
	Appraisal *verify.Appraisal // every check; nil if none could be made
	Refusal   *Error            // nil if the evidence was accepted
	Document  []byte            // evidence as it came, unverified unless Claims is there; a connection keeps it only with JudgeOpen
	Evidence  evidence.Digest   // SHA-256 of the document
	Time      time.Time         // of the appraisal

	// Continued says that the connection rests on evidence of an earlier one of the same ends, and
	// Age is how long ago that showed it. Log, PCRs and nonce are those of then, and other
	// connections share Claims and Appraisal (VerifierOptions.Continue).
	Continued bool
	Age       time.Duration

	expect verify.Expect
	bound  bound
}

// Hook decides whether a connection is used after the evidence of the other end was judged. An
// error refuses it (code "blocked", or that of the error), and a nil *Error does not. Evidence that
// is forged, or was made for another connection, key or role, is refused whatever the hook says:
// [Verdict.MayPass] reports false. The hook is called for each connection, by many goroutines.
type Hook func(context.Context, *Verdict) error

// Block refuses what the policy refuses. It is what a nil Hook does.
func Block(_ context.Context, v *Verdict) error {
	if v.Refusal != nil {
		return v.Refusal
	}
	return nil
}

// Warn returns a hook that lets connections pass whose evidence is genuine and not acceptable, and
// hands the verdict on each of those to report. It is for the time before a policy is enforced.
func Warn(report func(*Verdict)) Hook {
	return func(ctx context.Context, v *Verdict) error {
		if v.Refusal == nil || !v.MayPass() {
			return Block(ctx, v)
		}
		report(v)
		return nil
	}
}

// MayPass reports whether a hook may let the connection pass: the evidence was accepted, or it is
// genuine, and made for this connection, but not acceptable (codes "collateral", "revoked" and
// "policy"). Evidence is not known to be genuine if a signature, a format or a binding could not be
// checked, such as that of a report whose certificate is missing.
func (v *Verdict) MayPass() bool {
	if v.Refusal == nil {
		return true
	}
	switch v.Refusal.Code {
	case CodeCollateral, CodeRevoked, CodePolicy:
		return v.Appraisal != nil && !slices.ContainsFunc(v.Appraisal.Failed(), func(c verify.Check) bool { return c.Class == verify.ClassBinding })
	}
	return false
}

// decide asks the hook about a verdict.
func (e *end) decide(ctx context.Context, v *Verdict) error {
	hook := e.hook
	if hook == nil || !v.MayPass() {
		hook = Block
	}
	err := hook(ctx, v)
	switch x := err.(type) {
	case nil:
		return nil
	case *Error:
		if x == nil { // as the Refusal of evidence that was accepted
			return nil
		}
		return x
	}
	return &Error{Code: CodeBlocked, Verdict: v, Err: fmt.Errorf("the hook refused: %w", err)}
}

// contextKey is the key of a connection in a context.
type contextKey struct{}

// From returns the connection that a request came over: in a handler of a server of [Server.Serve],
// of the request's context; behind a [Transport], of the context of the response's request. A
// handler that passes its context to a request over another transport finds the connection of its
// own client there. It is nil otherwise.
func From(ctx context.Context) *Conn {
	c, _ := ctx.Value(contextKey{}).(*Conn)
	return c
}

// VerdictFrom returns the verdict on the other end of the connection that a request came over, or
// nil if this end does not verify.
func VerdictFrom(ctx context.Context) *Verdict {
	if c := From(ctx); c != nil {
		return c.Verdict()
	}
	return nil
}
