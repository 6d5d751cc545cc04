// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
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

func lookup(k keys.EKKind) (ekKind, error) {
	switch k {
	case keys.EKRSA2048:
		return ekKind{k, tpm2.RSAEKTemplate, rsaEKHandle, rsaCertIndex}, nil
	case keys.EKECC256:
		return ekKind{k, tpm2.ECCEKTemplate, eccEKHandle, eccCertIndex}, nil
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
	ek.Certificate, err = ReadEKCertificate(t, kind, auths)
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
		return auths.endorsementError(err)
	})
}

// ErrNoCertificate means that the TPM has no certificate for its endorsement key. Software
// TPMs and many vTPMs have none.
var ErrNoCertificate = errors.New("the TPM has no certificate for this endorsement key")

// nvChunk is how many bytes one TPM2_NV_Read asks for: at most every TPM's
// TPM_PT_NV_BUFFER_MAX, of which 512 is the smallest known.
const nvChunk = 512

// ReadEKCertificate reads the certificate of an endorsement key of that kind from the
// NV index of convention (TCG EK Credential Profile, section 2.2.1.4): DER of at most
// evidence.MaxCertificate bytes, unverified: see [keys.StoredCertificate].
func ReadEKCertificate(t transport.TPM, kind keys.EKKind, auths Auths) ([]byte, error) {
	k, err := lookup(kind)
	if err != nil {
		return nil, err
	}
	b, err := readNV(t, k.index, evidence.MaxCertificate, auths)
	if err != nil {
		return nil, fmt.Errorf("read the %s endorsement certificate at NV index 0x%08x: %w", kind, uint32(k.index), err)
	}
	der, err := keys.StoredCertificate(b)
	if err != nil {
		return nil, fmt.Errorf("read the %s endorsement certificate at NV index 0x%08x: %w", kind, uint32(k.index), err)
	}
	if der == nil {
		return nil, ErrNoCertificate
	}
	return bytes.Clone(der), nil
}

// readNV reads an index that authorizes its own reads with an empty value, or that the owner
// may read.
func readNV(t transport.TPM, index tpm2.TPMHandle, limit int, auths Auths) ([]byte, error) {
	rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(t)
	if Absent(err) {
		return nil, ErrNoCertificate
	}
	if err != nil {
		return nil, err
	}
	public, err := rsp.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	if n := int(public.DataSize); n > limit {
		return nil, fmt.Errorf("index of %d bytes, want at most %d", n, limit)
	}
	if public.NVIndex != index {
		return nil, fmt.Errorf("TPM answers for NV index 0x%08x", uint32(public.NVIndex))
	}
	reader := tpm2.AuthHandle{Handle: index, Name: rsp.NVName, Auth: tpm2.PasswordAuth(nil)}
	if !public.Attributes.AuthRead && public.Attributes.OwnerRead {
		reader = auths.Owned()
	}
	out := make([]byte, 0, public.DataSize)
	for len(out) < int(public.DataSize) {
		part, err := tpm2.NVRead{
			AuthHandle: reader,
			NVIndex:    tpm2.NamedHandle{Handle: index, Name: rsp.NVName},
			Size:       uint16(min(nvChunk, int(public.DataSize)-len(out))),
			Offset:     uint16(len(out)),
		}.Execute(t)
		if errors.Is(err, tpm2.TPMRCNVUninitialized) {
			return nil, ErrNoCertificate
		}
		if err != nil && reader.Handle != index {
			err = auths.OwnerError(err)
		}
		if err != nil {
			return nil, err
		}
		n := len(part.Data.Buffer)
		if n == 0 || len(out)+n > int(public.DataSize) {
			return nil, fmt.Errorf("TPM sends %d bytes at offset %d of %d", n, len(out), public.DataSize)
		}
		out = append(out, part.Data.Buffer...)
	}
	return out, nil
}
