// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// EKKind is the template of an endorsement key (TCG EK Credential Profile, appendix
// B: default EK templates).
type EKKind string

const (
	EKRSA2048 EKKind = "rsa2048" // template L-1
	EKECC256  EKKind = "p256"    // template L-2, NIST P-256
)

// ekKind holds what belongs to a template.
type ekKind struct {
	kind     EKKind
	template tpm2.TPMTPublic
	handle   tpm2.TPMHandle // where it is kept by convention
	index    tpm2.TPMHandle // NV index of its certificate
}

func ekKinds() []ekKind {
	return []ekKind{
		{EKRSA2048, tpm2.RSAEKTemplate, rsaEKHandle, rsaCertIndex},
		{EKECC256, tpm2.ECCEKTemplate, eccEKHandle, eccCertIndex},
	}
}

func (k EKKind) lookup() (ekKind, error) {
	for _, e := range ekKinds() {
		if e.kind == k {
			return e, nil
		}
	}
	return ekKind{}, fmt.Errorf("endorsement key kind %q is not known: want %s or %s", string(k), EKRSA2048, EKECC256)
}

// EKKindOf tells from which template p was made, or why it cannot be an endorsement
// key: a secret encrypted to anything else may be read outside of a TPM.
func EKKindOf(p *Public) (EKKind, error) {
	for _, e := range ekKinds() {
		if fits(p.area, e.template) {
			if _, err := p.Key(); err != nil {
				return "", err
			}
			return e.kind, nil
		}
	}
	return "", fmt.Errorf("public area %s is not that of an endorsement key of template L-1 (RSA 2048) or L-2 (P-256)", p.name)
}

// EK is an endorsement key as its TPM shows it: public, and its certificate where
// there is one. Neither is verified.
type EK struct {
	Kind        EKKind
	Public      *Public
	Certificate []byte // X.509 DER, nil where the TPM holds none
}

// ReadEK reads the endorsement key of a kind and its certificate. It is derived
// where the TPM does not keep it; for RSA that can take seconds. An endorsement
// authorization that is set and not known is an [*AuthError].
func ReadEK(t transport.TPM, kind EKKind, auths Auths) (*EK, error) {
	k, err := kind.lookup()
	if err != nil {
		return nil, err
	}
	loaded, err := loadEK(t, k, auths)
	if err != nil {
		return nil, err
	}
	ek := &EK{Kind: kind, Public: loaded.public}
	if err := loaded.flush(t); err != nil {
		return nil, err
	}
	ek.Certificate, err = ReadEKCertificate(t, kind)
	if err != nil && !errors.Is(err, ErrNoCertificate) {
		return nil, err
	}
	return ek, nil
}

// loadedEK is an endorsement key while it is in use.
type loadedEK struct {
	handle    tpm2.TPMHandle
	public    *Public
	transient bool
}

func (e *loadedEK) flush(t transport.TPM) error {
	if !e.transient {
		return nil
	}
	return flush(t, e.handle)
}

// loadEK takes the key that is kept at the handle of convention, if it is of the
// template, and derives it otherwise.
func loadEK(t transport.TPM, k ekKind, auths Auths) (*loadedEK, error) {
	p, err := readPublic(t, k.handle)
	switch {
	case err == nil && fits(p.area, k.template):
		return &loadedEK{handle: k.handle, public: p}, nil
	case err == nil, errors.Is(err, errPublic), absent(err):
	default:
		return nil, fmt.Errorf("find the %s endorsement key: %w", k.kind, err)
	}
	h, p, err := createPrimary(t, auths.endorsement(), k.template)
	if err != nil {
		return nil, fmt.Errorf("derive the %s endorsement key: %w", k.kind, auths.endorsementError(err))
	}
	return &loadedEK{handle: h, public: p, transient: true}, nil
}

// session satisfies the policy of the templates: PolicySecret with the endorsement
// authorization (TCG EK Credential Profile, appendix B.3).
func (e *loadedEK) session(auths Auths) tpm2.Session {
	return tpm2.Policy(tpm2.TPMAlgSHA256, sessionNonce, func(t transport.TPM, h tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{AuthHandle: auths.endorsement(), PolicySession: h, NonceTPM: nonce}.Execute(t)
		if refused(err) {
			return auths.endorsementError(err)
		}
		return err
	})
}
