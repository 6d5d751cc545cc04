// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"errors"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

// A Code says why a blob does not open or an operation is refused. It is a code of the
// API, where its meaning is, and an error: errors.Is(err, sealing.OtherChip).
type Code = api.Code

// Reasons why this machine does not have the key. They are explanations from what
// the report says now and said at sealing; what enforces is the key.
const (
	OtherChip          = api.CodeOtherChip
	OtherMeasurement   = api.CodeOtherMeasurement
	GuestPolicyChanged = api.CodeGuestPolicyChanged
	OtherVMPL          = api.CodeOtherVMPL
	TCBBelow           = api.CodeTCBBelow
	WrongKey           = api.CodeWrongKey
	TPMCleared         = api.CodeTPMCleared
	OtherTPM           = api.CodeOtherTPM
	TPMSecretMissing   = api.CodeTPMSecretMissing
	TPMSecretDamaged   = api.CodeTPMSecretDamaged
	NoUsableSlot       = api.CodeNoUsableSlot
	WrongIdentity      = api.CodeWrongIdentity
	RootUnavailable    = api.CodeRootUnavailable
	BadDerivedKey      = api.CodeBadDerivedKey
)

// Reasons that lie in the file.
const (
	Truncated      = api.CodeTruncated
	Damaged        = api.CodeDamaged
	Malformed      = api.CodeMalformedBlob
	UnknownVersion = api.CodeUnknownVersion
	Altered        = api.CodeAltered
	Renamed        = api.CodeRenamed
	Missing        = api.CodeMissing
)

// Reasons that lie in who asks.
const (
	OtherApp            = api.CodeOtherApp
	OtherUser           = api.CodeOtherUser
	DigestNotAuthorised = api.CodeDigestNotAuthorised
	OtherAssociatedData = api.CodeOtherAssociatedData
	NotFound            = api.CodeNotFound
	QuotaExceeded       = api.CodeQuotaExceeded
	InvalidRequest      = api.CodeInvalidValue
)

// Reasons that lie in the life of the store.
const (
	OldGeneration  = api.CodeOldGeneration
	RolledBack     = api.CodeRolledBack
	CounterBehind  = api.CodeCounterBehind
	CounterLost    = api.CodeCounterLost
	ManifestLost   = api.CodeManifestLost
	NoRecovery     = api.CodeNoRecovery
	NothingToAdmit = api.CodeNothingToDo
	Interrupted    = api.CodeInterrupted
)

// Error is a refusal. Its text never holds secret bytes.
type Error struct {
	Code   Code
	Field  string // field of the blob at fault, in the words of the specification; else ""
	Detail string // what was attempted, what was found, what to do
	Err    error  // cause, or nil
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Field != "" {
		b.WriteString(" (" + e.Field + ")")
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// Is compares with a [Code].
func (e *Error) Is(target error) bool { return target == e.Code }

// CodeOf is the code of err, "" where it has none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// locksOut reports whether err says that this machine does not have the key, as
// against a fault of the file or of the moment.
func locksOut(err error) bool {
	return slices.Contains([]Code{OtherChip, OtherMeasurement, GuestPolicyChanged, OtherVMPL, TCBBelow, WrongKey,
		TPMCleared, OtherTPM, TPMSecretMissing, TPMSecretDamaged, NoUsableSlot}, CodeOf(err))
}
