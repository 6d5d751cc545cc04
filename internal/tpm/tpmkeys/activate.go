// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/keys"
)

// maxCredential caps each part of a challenge; an encrypted secret under RSA 2048 is
// 256 bytes.
const maxCredential = 1 << 10

// Activate answers a challenge (TPM2_ActivateCredential, TPM 2.0 Part 3, section
// 12.5) with the endorsement key of that kind. The answer is encrypted between TPM
// and caller. If the challenge is for another TPM or another key, the error is
// [keys.ErrCredential].
func (a *AK) Activate(t transport.TPM, kind keys.EKKind, c *keys.Challenge, auths Auths) ([]byte, error) {
	k, err := lookup(kind)
	if err != nil {
		return nil, err
	}
	if len(c.Credential) == 0 || len(c.Credential) > maxCredential || len(c.Secret) == 0 || len(c.Secret) > maxCredential {
		return nil, fmt.Errorf("answer a challenge: parts of %d and %d bytes, want 1 to %d each", len(c.Credential), len(c.Secret), maxCredential)
	}
	ek, err := loadEK(t, k, auths)
	if err != nil {
		return nil, fmt.Errorf("answer a challenge: %w", err)
	}
	var secret []byte
	err = a.use(t, func(key tpm2.AuthHandle) error {
		rsp, err := tpm2.ActivateCredential{
			ActivateHandle: key,
			KeyHandle:      ek.Auth(ekSession(auths)),
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Credential},
			Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
		}.Execute(t)
		if err != nil {
			return err
		}
		secret = rsp.CertInfo.Buffer
		return nil
	}, tpm2.AESEncryption(128, tpm2.EncryptOut))
	if mismatch(t, err) {
		err = fmt.Errorf("%w: %w", keys.ErrCredential, err)
	}
	if err = errors.Join(err, ek.flush(t)); err != nil {
		return nil, fmt.Errorf("answer a challenge: %w", err)
	}
	return secret, nil
}

// mismatch reports whether the TPM could not open a challenge: the HMAC is wrong
// (TPM_RC_INTEGRITY), the secret was encrypted to another key (TPM_RC_VALUE), or a
// part is malformed (TPM_RC_SIZE, TPM_RC_INSUFFICIENT, TPM_RC_ECC_POINT). If RSA
// decryption fails, libtpms says TPM_RC_FAILURE and goes on working, which a TPM that
// has really failed does not.
func mismatch(t transport.TPM, err error) bool {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCECCPoint} {
		if errors.Is(err, rc) {
			return true
		}
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		return false
	}
	_, failed := tpm2.GetRandom{BytesRequested: 1}.Execute(t)
	return failed == nil
}
