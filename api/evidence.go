// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// LogMode says how much of the measurement log goes into evidence.
type LogMode string

const (
	LogWhole LogMode = "whole" // from record 0
	LogFrom  LogMode = "from"  // from record LogStart
	LogNone  LogMode = "none"  // none: the verifier has the log from elsewhere
)

// MaxEvidenceRequest is how many bytes of a request body the agent reads. It is
// more than twice what the longest members need in base64.
const MaxEvidenceRequest = 32 << 10

// EvidenceRequest is the body of POST /v1/evidence. There is no member for raw
// report data, qualifying data or the caller's identity: those are the agent's.
type EvidenceRequest struct {
	Nonce     evidence.Bytes     `json:"nonce"`              // 16 to 64 bytes, required
	Audience  string             `json:"audience,omitzero"`  // at most 256 bytes
	UserData  evidence.Bytes     `json:"userData,omitzero"`  // at most 4 KiB
	PublicKey evidence.Bytes     `json:"publicKey,omitzero"` // at most 8 KiB
	Freshness evidence.Freshness `json:"freshness,omitzero"` // default "fresh"
	Log       LogMode            `json:"log,omitzero"`       // default "whole"
	LogStart  uint64             `json:"logStart,omitzero"`  // with log "from": first record wanted

	FirmwareLog bool `json:"firmwareLog,omitzero"` // also the firmware's event log, where the machine has one
}

// A FieldError names the member of a request that cannot be accepted.
type FieldError struct {
	Where string // JSON Pointer (RFC 6901)
	Err   error
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %v", e.Where, e.Err) }

// Unwrap is what is wrong with the member.
func (e *FieldError) Unwrap() error { return e.Err }

// WithDefaults is r with the words filled in that it leaves out.
func (r EvidenceRequest) WithDefaults() EvidenceRequest {
	if r.Freshness == "" {
		r.Freshness = evidence.Fresh
	}
	if r.Log == "" {
		r.Log = LogWhole
	}
	return r
}

// Check reports the first member of a request, defaults filled in, that no
// statement can be made of. The error is a [*FieldError].
func (r *EvidenceRequest) Check() error {
	audience := text.Check("audience", r.Audience, 0, evidence.MaxAudience)
	switch {
	case len(r.Nonce) < evidence.MinNonce || len(r.Nonce) > evidence.MaxNonce:
		return &FieldError{"/nonce", &text.SizeError{Part: "nonce", Got: len(r.Nonce), Min: evidence.MinNonce, Max: evidence.MaxNonce}}
	case audience != nil:
		return &FieldError{"/audience", audience}
	case len(r.UserData) > evidence.MaxUserData:
		return &FieldError{"/userData", &text.SizeError{Part: "userData", Got: len(r.UserData), Max: evidence.MaxUserData}}
	case len(r.PublicKey) > evidence.MaxPublicKey:
		return &FieldError{"/publicKey", &text.SizeError{Part: "publicKey", Got: len(r.PublicKey), Max: evidence.MaxPublicKey}}
	case r.Freshness != evidence.Fresh && r.Freshness != evidence.Anchored:
		return &FieldError{"/freshness", fmt.Errorf("want %q or %q", evidence.Fresh, evidence.Anchored)}
	case r.Log != LogWhole && r.Log != LogFrom && r.Log != LogNone:
		return &FieldError{"/log", fmt.Errorf("want %q, %q or %q", LogWhole, LogFrom, LogNone)}
	case r.Log != LogFrom && r.LogStart != 0:
		return &FieldError{"/logStart", fmt.Errorf("only with log %q", LogFrom)}
	}
	return nil
}
