// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/go-tpm/tpm2"
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
	Err       error  // answer of the TPM
}

func (e *AuthError) Error() string {
	if e.Given {
		return fmt.Sprintf("the TPM refuses the %s authorization: the value in the file named by tpm.%s_auth_file is wrong: %v", e.Hierarchy, e.Hierarchy, e.Err)
	}
	return fmt.Sprintf("the TPM's %s authorization is set: put it into a file of mode 0600 and name that file in tpm.%s_auth_file: %v", e.Hierarchy, e.Hierarchy, e.Err)
}

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
	if Refused(err) {
		return &AuthError{Hierarchy: hierarchy, Given: len(given) > 0, Err: err}
	}
	return err
}
