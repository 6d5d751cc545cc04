// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
)

// Auths are the authorization values of the hierarchies that keys are made in. Both
// are empty on a TPM that has no owner. The values are secrets and do not show when an
// Auths is printed.
type Auths struct {
	Owner       []byte `json:"-" toml:"-"` // storage hierarchy, TPM_RH_OWNER
	Endorsement []byte `json:"-" toml:"-"` // endorsement hierarchy, TPM_RH_ENDORSEMENT
}

// Format hides the values under every verb.
func (Auths) Format(f fmt.State, _ rune) { fmt.Fprint(f, "tpmkeys.Auths(hidden)") }

// LogValue hides the values.
func (Auths) LogValue() slog.Value { return slog.StringValue("hidden") }

// AuthError says that a hierarchy has an authorization value that differs from the one
// in the configuration.
type AuthError struct {
	Hierarchy string // "owner" or "endorsement"
	Given     bool   // whether a value was configured, which is wrong then
	Break     bool   // whether that value ends with a line break, which counts
	Err       error  // answer of the TPM
}

func (e *AuthError) Error() string {
	cause, todo := e.Words()
	return cause + ": " + todo
}

// Words returns what was found, and what to do.
func (e *AuthError) Words() (cause, todo string) {
	key := "tpm." + e.Hierarchy + "_auth_file"
	switch {
	case !e.Given:
		return fmt.Sprintf("the TPM's %s authorization is set (%v)", e.Hierarchy, e.Err),
			fmt.Sprintf("put its value into a file of mode 0600, without a line break (`printf %%s VALUE`), and name that file in %s", key)
	case e.Break:
		return fmt.Sprintf("the TPM refuses the %s authorization (%v): the value in the file that %s names ends with a line break, which counts", e.Hierarchy, e.Err, key),
			"`truncate -s -1 FILE` removes it"
	}
	return fmt.Sprintf("the TPM refuses the %s authorization (%v): the value in the file that %s names is not the TPM's", e.Hierarchy, e.Err, key),
		"`tpm2_getcap properties-variable` says whether one is set; correct the file"
}

// Is reports whether target is [tpm.ErrRefuses]: only a person changes what is wrong.
func (e *AuthError) Is(target error) bool { return target == tpm.ErrRefuses }

func (e *AuthError) Unwrap() error { return e.Err }

// Refused reports whether the TPM refused an authorization: wrong HMAC or password,
// counted against dictionary attacks (TPM_RC_AUTH_FAIL) or not (TPM_RC_BAD_AUTH).
func Refused(err error) bool {
	return errors.Is(err, tpm2.TPMRCAuthFail) || errors.Is(err, tpm2.TPMRCBadAuth)
}

// Owned returns the storage hierarchy with its authorization. It is sent as a password:
// the owner of the TPM chose the value, and HMAC sessions of go-tpm fail for values that
// contain a zero byte.
func (a Auths) Owned() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(a.Owner)}
}

func (a Auths) endorsement() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(a.Endorsement)}
}

// OwnerError returns err, as an [*AuthError] if the TPM refused the owner authorization.
func (a Auths) OwnerError(err error) error { return refusal("owner", a.Owner, err) }

func (a Auths) endorsementError(err error) error {
	return refusal("endorsement", a.Endorsement, err)
}

func refusal(hierarchy string, given []byte, err error) error {
	if _, known := errors.AsType[*AuthError](err); !known && Refused(err) {
		return &AuthError{Hierarchy: hierarchy, Given: len(given) > 0, Break: bytes.HasSuffix(given, []byte("\n")), Err: err}
	}
	return err
}

// TryHierarchy checks that the TPM accepts the authorization of a hierarchy: by
// TPM2_PolicySecret in a trial session (TPM 2.0 Part 3, section 23.4), which changes nothing.
func TryHierarchy(t transport.TPM, name string, handle tpm2.AuthHandle, given []byte) error {
	session, end, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, SessionNonce, tpm2.Trial())
	if err != nil {
		return err
	}
	_, err = tpm2.PolicySecret{AuthHandle: handle, PolicySession: session.Handle(), NonceTPM: session.NonceTPM()}.Execute(t)
	return refusal(name, given, errors.Join(err, end()))
}
