// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// ekKind is a kind of endorsement key, and its places by convention.
type ekKind struct {
	kind     keys.EKKind
	template tpm2.TPMTPublic
	handle   tpm2.TPMHandle // of the persistent key
	index    tpm2.TPMHandle // NV index of its certificate
}

func ekKinds() []ekKind {
	return []ekKind{
		{keys.EKRSA2048, tpm2.RSAEKTemplate, rsaEKHandle, rsaCertIndex},
		{keys.EKECC256, tpm2.ECCEKTemplate, eccEKHandle, eccCertIndex},
	}
}

func lookup(k keys.EKKind) (ekKind, error) {
	for _, e := range ekKinds() {
		if e.kind == k {
			return e, nil
		}
	}
	return ekKind{}, fmt.Errorf("endorsement key kind %q is not known: want %s or %s", string(k), keys.EKRSA2048, keys.EKECC256)
}

// EK is an endorsement key as its TPM shows it: the public key, and its certificate if
// the TPM has one. Neither is verified.
type EK struct {
	Kind        keys.EKKind
	Public      *keys.Public
	Certificate []byte // X.509 DER; nil if the TPM has none
}

// ReadEK reads the endorsement key of a kind and its certificate. If the TPM does not keep
// the key, ReadEK derives it; for RSA that can take seconds. If the endorsement hierarchy
// has an authorization value that is not in auths, the error is an [*AuthError].
func ReadEK(t transport.TPM, kind keys.EKKind, auths Auths) (*EK, error) {
	k, err := lookup(kind)
	if err != nil {
		return nil, err
	}
	loaded, err := loadEK(t, k, auths)
	if err != nil {
		return nil, err
	}
	ek := &EK{Kind: kind, Public: loaded.Public}
	if err := loaded.flush(t); err != nil {
		return nil, err
	}
	ek.Certificate, err = ReadEKCertificate(t, kind)
	if err != nil && !errors.Is(err, ErrNoCertificate) {
		return nil, err
	}
	return ek, nil
}

// loadEK uses the key that is kept at the handle of convention if it is of the template,
// and derives it otherwise.
func loadEK(t transport.TPM, k ekKind, auths Auths) (*Primary, error) {
	p, err := readPublic(t, k.handle)
	switch {
	case err == nil && tpmwire.MadeFrom(p.Area(), k.template):
		return &Primary{Handle: k.handle, Public: p}, nil
	case err == nil, errors.Is(err, errPublic), Absent(err):
	default:
		return nil, fmt.Errorf("find the %s endorsement key: %w", k.kind, err)
	}
	ek, err := createPrimary(t, auths.endorsement(), k.template)
	if err != nil {
		return nil, fmt.Errorf("derive the %s endorsement key: %w", k.kind, auths.endorsementError(err))
	}
	return ek, nil
}

// ekSession returns a session that satisfies the policy of the templates: PolicySecret with
// the endorsement authorization (TCG EK Credential Profile, appendix B.3).
func ekSession(auths Auths) tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, SessionNonce, func(t transport.TPM, h tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{AuthHandle: auths.endorsement(), PolicySession: h, NonceTPM: nonce}.Execute(t)
		if Refused(err) {
			return auths.endorsementError(err)
		}
		return err
	})
}
