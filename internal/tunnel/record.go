// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"errors"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/evidence"
)

// Result is what became of a connection.
type Result string

// Results.
const (
	Closed      Result = "closed"      // both directions ended in order
	Broken      Result = "broken"      // one side broke it off, and so the other was
	Idle        Result = "idle"        // no byte passed for the idle timeout
	Stopped     Result = "stopped"     // the tunnel was stopped
	Withdrawn   Result = "withdrawn"   // it was open, and a new policy refuses it
	Refused     Result = "refused"     // an end refused: Code says why
	Unreachable Result = "unreachable" // the address to connect to could not be connected to
	Web         Result = "web"         // it was not of this protocol, and asked for evidence
	Limited     Result = "limited"     // there were too many
)

// Verdicts on the other end, in records.
const (
	verdictAccepted = "accepted"
	verdictWarned   = "warned"
)

// A Record is what became of one connection.
type Record struct {
	Time    time.Time        `json:"time"`             // when it ended
	ID      string           `json:"id"`               // of the connection, random
	Role    Role             `json:"role"`             // of this end
	Peer    string           `json:"peer"`             // that was accepted
	To      string           `json:"to"`               // that was connected to
	Result  Result           `json:"result"`           // what became of it
	Verdict string           `json:"verdict,omitzero"` // accepted or warned, if this end verified
	Code    attestedtls.Code `json:"code,omitzero"`    // of a refusal, or of what was warned of
	Other   bool             `json:"other,omitzero"`   // the other end refused
	Error   string           `json:"error,omitzero"`   // what was found

	Continued bool            `json:"continued,omitzero"` // the evidence is of an earlier connection
	Evidence  evidence.Digest `json:"evidence,omitzero"`  // SHA-256 of the other end's evidence
	Unit      string          `json:"unit,omitzero"`      // of the caller in it, if it was accepted
	Container string          `json:"container,omitzero"` // the same
	Policy    string          `json:"policy,omitzero"`    // SHA-256 of the policy that judged it

	Up       uint64 `json:"up"`       // bytes from the peer to the other side
	Down     uint64 `json:"down"`     // bytes to the peer
	Duration int64  `json:"duration"` // from accept to end, in milliseconds
}

// maxError is how much of an error a record has. A peer can have a part in it.
const maxError = 500

// ended notes how it ended.
func (r *Record) ended(result Result, err error) {
	r.Result = result
	if err == nil {
		return
	}
	r.Error = strings.ToValidUTF8(err.Error(), "?") // other text is not encoded, and the line would be lost
	if len(r.Error) > maxError {
		r.Error = strings.ToValidUTF8(r.Error[:maxError], "") + "..."
	}
	e, is := errors.AsType[*attestedtls.Error](err)
	if !is || result == Broken && r.Verdict == verdictWarned { // the code of what was warned of stays
		return
	}
	r.Code, r.Other = e.Code, e.Remote
	if e.Verdict != nil {
		r.Evidence = e.Verdict.Evidence
	}
}

// judged notes the verdict on the other end, nil if this end does not verify.
func (r *Record) judged(v *attestedtls.Verdict) {
	if v == nil {
		return
	}
	r.Evidence, r.Verdict, r.Continued = v.Evidence, verdictAccepted, v.Continued
	if v.Appraisal != nil {
		r.Policy = v.Appraisal.Policy
	}
	if v.Refusal != nil {
		r.Verdict, r.Code = verdictWarned, v.Refusal.Code
		return
	}
	if v.Claims == nil {
		return
	}
	c := v.Claims.Statement.Caller
	if r.Unit = c.Unit; c.Container != nil {
		r.Container = c.Container.ID
	}
}
