// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// Words of an appraisal, which the rooms of this package share.
type (
	// CheckID names a check, as "part.what-it-checks". Ids are stable: one is never
	// reused for something else, and a check that is dropped leaves its id unused.
	CheckID = check.ID
	// Verdict is the outcome of one check, or of the whole: a string.
	Verdict = check.Verdict
	// Class groups checks by what their failure means. The number is the exit code of
	// "agentctl verify".
	Class = check.Class
	// Check is one check of an appraisal. Fields: ID, Class, Verdict, Basis (of a check that
	// passed, if nothing below the policy failed), Required (false only if nothing asked for
	// it), Expected and Found (both for people), Sentence.
	Check = check.Check
	// Definition describes one check. Fields: ID, Class, Ground, Checks (what must be true),
	// Stops (the attack that it stops).
	Definition = check.Definition
	// Basis is the party on whose word a check passed, or a claim rests: a string. It is
	// derived from the evidence and never configured.
	Basis = check.Basis
	// Ground is the kind of fact that a check is about: a string. With what vouches for an
	// evidence, it gives the basis. docs/checks.md has the table.
	Ground = check.Ground
)

// Verdicts and classes of checks.
const (
	Pass        = check.Pass
	Fail        = check.Fail
	NotAsserted = check.NotAsserted // nothing is claimed either way; the sentence says why

	ClassAccepted   = check.Accepted   // nothing failed
	ClassBinding    = check.Binding    // a signature, a format or a binding is broken: treat as forged
	ClassCollateral = check.Collateral // a certificate or CRL is missing or out of date, or a log cannot be read: fetch it, try again
	ClassRevoked    = check.Revoked    // a key was revoked
	ClassPolicy     = check.Policy     // genuine, but not what the policy asks for
)

// Bases.
const (
	ByProcessor = check.ByProcessor // AMD's signature over the report
	ByLaunch    = check.ByLaunch    // software that the launch measurement covers
	ByTPM       = check.ByTPM       // a TPM whose attestation key the verifier knows apart from the guest's word
	ByGuest     = check.ByGuest     // the guest's own software, and so root of the guest
	ByVerifier  = check.ByVerifier  // what the verifier supplies or computes itself: formats, nonce, time, policy
)

// Milliseconds is a duration that is a number of milliseconds in JSON, the unit of a
// TPM's clock.
type Milliseconds time.Duration

// MarshalJSON encodes the whole milliseconds as a JSON number.
func (m Milliseconds) MarshalJSON() ([]byte, error) {
	return strconv.AppendInt(nil, time.Duration(m).Milliseconds(), 10), nil
}

// UnmarshalJSON reads what [Milliseconds.MarshalJSON] writes.
func (m *Milliseconds) UnmarshalJSON(b []byte) error {
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil || n < math.MinInt64/1_000_000 || n > math.MaxInt64/1_000_000 {
		return errors.New("not a number of milliseconds that fits a duration")
	}
	*m = Milliseconds(time.Duration(n) * time.Millisecond)
	return nil
}

// String returns the duration as people write it.
func (m Milliseconds) String() string { return time.Duration(m).String() }

// AppraisalType is the member "type" of the JSON form of this version. Members
// may be added under the same type; none changes its meaning. Byte strings are hexadecimal
// in it; in agentd/appraisal/1, those of the statement and of the log were base64.
const AppraisalType = "agentd/appraisal/2"

// Appraisal is the result for one evidence under one policy at one time. Only
// [Appraisal.Claims] returns what the evidence claims.
type Appraisal struct {
	Type      string       `json:"type"`                           // AppraisalType
	Material  Material     `json:"material"`                       // what was appraised
	Time      time.Time    `json:"time"`                           // of the appraisal
	Policy    string       `json:"policy,omitzero"`                // SHA-256 of the policy text, hexadecimal
	Verdict   Verdict      `json:"verdict"`                        // Pass or Fail, never NotAsserted
	Basis     Basis        `json:"basis,omitzero"`                 // weakest word that a Pass rests on; absent unless Verdict is Pass
	Class     Class        `json:"class"`                          // ClassAccepted, or the gravest class that failed
	Binding   Binding      `json:"binding"`                        // BindingNone if a signature or commitment failed
	AKOrigin  AKOrigin     `json:"akOrigin"`                       // AKNone unless everything below the policy passed
	Freshness Freshness    `json:"freshness,omitzero"`             // absent unless everything below the policy passed
	AnchorAge Milliseconds `json:"anchorAgeMilliseconds,omitzero"` // by the clock of the vTPM; 0 if fresh

	GuestAnchorAge Milliseconds `json:"anchorAgeByGuestMilliseconds,omitzero"` // by the guest's clock, as the agent states it; 0 if fresh

	// SupportedUntil is how long what the verdict rests on stays as it is: the end of the first
	// certificate and of the list of revocations that were used, of max_anchor_age, and of a signed
	// policy that expires. What is made of this appraisal, such as a token, must not be valid for longer.
	// Absent unless Verdict is Pass.
	SupportedUntil time.Time `json:"supportedUntil,omitzero"`

	// Enrolments are those apart from the policy. Absent if the policy does not look at them, or if
	// none were given.
	Enrolments *EnrolmentsUsed `json:"enrolments,omitzero"`

	Sentences []string `json:"sentences"`       // for people: what may be concluded, and what not
	Checks    []Check  `json:"checks"`          // every check of Definitions, in that order
	Accepted  accepted `json:"claims,omitzero"` // absent unless Verdict is Pass; read it with Claims
}

// EnrolmentsUsed names the enrolments apart from the policy that an appraisal looked at, and that of
// the attestation key. Nothing of it is signed.
type EnrolmentsUsed struct {
	Digest string     `json:"digest"`         // of the set, hexadecimal; see [keys.Enrolments.Digest]
	Count  int        `json:"count"`          // of enrolments in the set, pending ones included
	State  keys.State `json:"state,omitzero"` // of the AK's enrolment; absent if the set has none that can be read
	By     string     `json:"by,omitzero"`    // name of the party that approved it
	Since  time.Time  `json:"since,omitzero"` // of that state
}

// Check returns the check with this id. It panics for an id that is not in
// [Definitions], which is a mistake of the caller.
func (a *Appraisal) Check(id CheckID) Check {
	for _, c := range a.Checks {
		if c.ID == id {
			return c
		}
	}
	panic("verify: no check " + string(id))
}

// Failed lists the checks that the evidence was refused for: those that failed
// and, after them, those that were required and could not be asserted.
func (a *Appraisal) Failed() []Check {
	var failed, open []Check
	for _, c := range a.Checks {
		switch {
		case c.Verdict == Fail:
			failed = append(failed, c)
		case c.Verdict == NotAsserted && c.Required:
			open = append(open, c)
		}
	}
	return append(failed, open...)
}

// ExitCode returns the exit code of "agentctl verify": 0 if accepted, otherwise the class.
func (a *Appraisal) ExitCode() int { return int(a.Class) }

// accepted keeps the claims of accepted evidence out of reach of a caller who did not
// ask whether it was accepted. In JSON it is the claims, with byte strings in hexadecimal.
type accepted struct{ claims *Claims }

// IsZero reports whether there are no claims.
func (c accepted) IsZero() bool { return c.claims == nil }

// MarshalJSON encodes the claims.
func (c accepted) MarshalJSON() ([]byte, error) { return strictjson.EncodeHex(c.claims) }

// UnmarshalJSON decodes the claims.
func (c *accepted) UnmarshalJSON(b []byte) error {
	c.claims = new(Claims)
	return strictjson.DecodeHex(b, len(b), c.claims)
}

// Claims returns what the evidence says, or a [*RefusedError] if it was refused.
func (a *Appraisal) Claims() (*Claims, error) {
	if a.Verdict != Pass || a.Accepted.claims == nil {
		return nil, &RefusedError{Appraisal: a}
	}
	return a.Accepted.claims, nil
}

// RefusedError tells why evidence was refused.
type RefusedError struct {
	Appraisal *Appraisal // every check; its Class, Failed and ExitCode tell why
}

// Error names the class and the checks that failed.
func (e *RefusedError) Error() string {
	failed := e.Appraisal.Failed()
	ids := make([]string, 0, len(failed))
	for _, c := range failed {
		if c.Verdict == Fail {
			ids = append(ids, string(c.ID))
		}
	}
	if len(ids) == 0 {
		return "evidence refused: not every required check could be made"
	}
	return fmt.Sprintf("evidence refused (%s): %s", e.Appraisal.Class, strings.Join(ids, ", "))
}
