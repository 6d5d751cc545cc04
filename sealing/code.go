// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"errors"
	"slices"
	"strings"
)

// A Code says why a blob does not open or an operation is refused. It is stable, and
// an error, so that errors.Is(err, sealing.OtherChip) reads as it should.
type Code string

// Reasons why this machine does not have the key. They are explanations from what
// the report says now and said at sealing; what enforces is the key.
const (
	OtherChip          Code = "other-chip"           // the report names another chip
	OtherMeasurement   Code = "other-measurement"    // the guest was launched from something else
	GuestPolicyChanged Code = "guest-policy-changed" // the guest was launched under another policy
	OtherVMPL          Code = "other-vmpl"           // the guest runs at another VM privilege level
	TCBBelow           Code = "tcb-below"            // firmware older than the one at sealing
	WrongKey           Code = "wrong-key"            // every reading is as it was, and the key is another one
	TPMCleared         Code = "tpm-cleared"          // same TPM, but its owner seed was replaced
	OtherTPM           Code = "other-tpm"            // the secret was sealed in another TPM
	TPMSecretMissing   Code = "tpm-secret-missing"   // the file with the TPM's sealed secret is not there
	TPMSecretDamaged   Code = "tpm-secret-damaged"   // the TPM does not take that file, although it is its own
	NoUsableSlot       Code = "no-usable-slot"       // no slot is meant for what this machine has
	WrongIdentity      Code = "wrong-identity"       // the recovery identity belongs to none of the recipients
	RootUnavailable    Code = "root-unavailable"     // device busy or failing: says nothing about the blob
	BadDerivedKey      Code = "bad-derived-key"      // the firmware answered with an all-zero key or one of a wrong size
)

// Reasons that lie in the file.
const (
	Truncated      Code = "truncated"       // ends too early
	Damaged        Code = "damaged"         // a checksum is wrong; Field says where
	Malformed      Code = "malformed"       // checksums are right, the value is not allowed; Field says where
	UnknownVersion Code = "unknown-version" // written by a later version
	Altered        Code = "altered"         // the key is right and the content was changed or belongs to another blob
	Renamed        Code = "renamed"         // the file of another blob
	Missing        Code = "missing"         // the manifest names a file that is not there
)

// Reasons that lie in who asks.
const (
	OtherApp            Code = "other-app"             // sealed for another app or unit
	OtherUser           Code = "other-user"            // sealed for the app under another user
	DigestNotAuthorised Code = "digest-not-authorised" // the app requires a digest and this one is not listed
	OtherAssociatedData Code = "other-associated-data" // not the associated data of sealing
	NotFound            Code = "not-found"             // no such secret, app or version
	QuotaExceeded       Code = "quota-exceeded"        // more than the app may store
	InvalidRequest      Code = "invalid-request"       // a size or name that is not allowed
)

// Reasons that lie in the life of the store.
const (
	OldGeneration  Code = "old-generation" // this file was replaced by a later one
	RolledBack     Code = "rolled-back"    // the TPM counted further than the manifest: an older state was put back
	CounterBehind  Code = "counter-behind" // the manifest is further than the TPM counter: the TPM's state was put back
	CounterLost    Code = "counter-lost"   // the counter is gone from the TPM or does not take its authorization
	ManifestLost   Code = "manifest-lost"  // blobs without the manifest that lists them
	NoRecovery     Code = "no-recovery"    // no recovery recipient, and nobody acknowledged that
	NothingToAdmit Code = "nothing-to-do"  // there is no rollback to accept
	Interrupted    Code = "interrupted"    // a write failed; what it left is looked at before the next operation
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

func (c Code) Error() string { return string(c) }

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
