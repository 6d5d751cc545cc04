// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// ErrRefuses means that the TPM works, and refuses because of a state that only a person
// changes. ErrCrowded means that other programs use what the TPM has little of, and may free
// it. Both are those of a [StateError] or of an error that says the same.
var (
	ErrRefuses = errors.New("the TPM refuses until its state is changed")
	ErrCrowded = errors.New("the TPM has no room now")
)

// StateError says why a TPM that works refuses a command, and what to do.
type StateError struct {
	Kind  error  // ErrRefuses or ErrCrowded
	Cause string // what was found
	Todo  string // what to do, with the command that helps
	Err   error  // answer of the TPM; nil if it was not asked
}

func (e *StateError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("%s: %s", e.Cause, e.Todo)
	}
	return fmt.Sprintf("%s (%v): %s", e.Cause, e.Err, e.Todo)
}

// Is reports whether target is the kind.
func (e *StateError) Is(target error) bool { return target == e.Kind }

// Unwrap returns the answer of the TPM.
func (e *StateError) Unwrap() error { return e.Err }

// What to do about the three kinds of room that a TPM has little of.
const (
	TodoNV       = "`tpm2_getcap handles-nv-index` lists what is there; remove with `tpm2_nvundefine INDEX` an index that no program needs"
	TodoObjects  = "let all programs use /dev/tpmrm0, which swaps them out, or free what no program needs: `tpm2_flushcontext --transient-object`"
	TodoSessions = "`tpm2_getcap handles-saved-session` and `handles-loaded-session` list them; end the program that left them, or free all: `tpm2_flushcontext --saved-session --loaded-session`"
)

// explain returns err, as a [StateError] if the state of the TPM is the reason. It asks the
// TPM what there is, for the text.
func explain(t transport.TPM, err error) error {
	if _, ok := errors.AsType[*StateError](err); ok || err == nil {
		return err
	}
	is := func(codes ...tpm2.TPMRC) bool {
		for _, rc := range codes {
			if errors.Is(err, rc) {
				return true
			}
		}
		return false
	}
	switch {
	case is(tpm2.TPMRCLockout):
		return fmt.Errorf("%w: %w", ErrLockout, err)
	case is(tpm2.TPMRCNVSpace):
		return &StateError{ErrRefuses, fmt.Sprintf("the TPM's NV memory is full: it has %s", count(t, firstIndex, "index", "indices")), TodoNV, err}
	case is(tpm2.TPMRCObjectMemory, tpm2.TPMRCObjectHandles, tpm2.TPMRCMemory):
		return &StateError{ErrCrowded, fmt.Sprintf("the TPM has no free slot for a key: programs keep %s loaded in it", count(t, firstTransient, "object", "objects")), TodoObjects, err}
	case is(tpm2.TPMRCSessionMemory, tpm2.TPMRCSessionHandles, tpm2.TPMRCContextGap):
		return &StateError{ErrCrowded, fmt.Sprintf("the TPM has no room for a session: programs keep %s and %s in it",
			count(t, firstLoaded, "loaded session", "loaded sessions"), count(t, firstSaved, "saved session", "saved sessions")), TodoSessions, err}
	}
	return err
}

// count returns how many handles of a kind there are, in words.
func count(t transport.TPM, first uint32, one, many string) string {
	handles, err := list(t, first)
	switch {
	case err != nil:
		return "too many " + many
	case len(handles) == 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", len(handles), many)
}
