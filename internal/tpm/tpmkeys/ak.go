// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
)

// MaxQualifyingData is the most bytes of qualifying data in a quote: what TPMs of all
// kinds accept.
const MaxQualifyingData = 64

// Errors of the attestation key, told apart with errors.Is.
var (
	// ErrOtherTPM: the stored key was made in another TPM, or before this one was cleared.
	ErrOtherTPM = errors.New("the stored attestation key does not belong to this TPM: it was made in another one, or this one was cleared")
	// ErrDamaged: the TPM does not accept the stored key, although it made it.
	ErrDamaged = errors.New("the stored attestation key is damaged")
)

// AK is the attestation key of one TPM, ready for use: the agent's own, or one that the
// platform made ([Kept]). It stays loaded between calls
// and is loaded again after it was flushed or the connection changed. Methods may be
// called from any goroutine; each needs the TPM for itself while it runs.
type AK struct {
	public      *keys.Public
	certificate []byte // X.509 DER; nil if the platform certified none
	auth        []byte // empty of a key that the platform made
	find        finder
	keep        bool  // the handle is the TPM's own: it is not flushed
	blob        *Blob // nil of a key that the platform made

	mu     sync.Mutex     // guards handle and loaded
	handle tpm2.TPMHandle // written by load
	loaded bool           // whether handle is the key's
}

// Provision loads the stored attestation key, or makes a new one if blob is nil. If this
// TPM does not accept a stored key, the error is [ErrOtherTPM] or [ErrDamaged]. The key is
// never replaced silently: verifiers may have enrolled it. If the owner hierarchy has an
// authorization value that is not in auths, the error is an [*AuthError].
func Provision(t transport.TPM, blob *Blob, auths Auths) (*AK, error) {
	return ProvisionAs(t, AKOwn, blob, auths)
}

// ProvisionAs does what [Provision] does, with a choice of which key is made: [AKOwn] or [AKOwnRSA].
func ProvisionAs(t transport.TPM, choice AKChoice, blob *Blob, auths Auths) (*AK, error) {
	template := akTemplate
	if choice == AKOwnRSA {
		template = akRSATemplate
	}
	if blob != nil && blob.public.Area().Type != template.Type {
		return nil, fmt.Errorf("%w: it is not of the kind that tpm.ak = %q makes", ErrDamaged, choice)
	}
	if blob == nil {
		var err error
		if blob, err = create(t, template, auths); err != nil {
			return nil, fmt.Errorf("make an attestation key: %w", err)
		}
	}
	return open(t, &AK{
		public: blob.public, auth: blob.auth, blob: blob,
		find: func(t transport.TPM) (tpm2.TPMHandle, error) { return blob.load(t, auths) },
	})
}

// A finder loads a key, or finds it loaded, and returns its handle.
type finder func(t transport.TPM) (tpm2.TPMHandle, error)

// open returns a if its key can be found.
func open(t transport.TPM, a *AK) (*AK, error) {
	if err := a.load(t); err != nil {
		return nil, err
	}
	return a, nil
}

// create makes a key of template under the storage root key.
func create(t transport.TPM, template tpm2.TPMTPublic, auths Auths) (blob *Blob, err error) {
	err = WithSRK(t, nil, auths, func(parent *Primary) (err error) {
		blob, err = createUnder(t, parent, template)
		return err
	})
	return blob, err
}

func createUnder(t transport.TPM, parent *Primary, template tpm2.TPMTPublic) (*Blob, error) {
	auth, err := NewAuth(rand.Reader)
	if err != nil {
		return nil, err
	}
	// The authorization value crosses the bus once, now: encrypted to the storage root key.
	rsp, err := tpm2.Create{
		ParentHandle: parent.Auth(parent.Session(tpm2.AESEncryption(128, tpm2.EncryptIn))),
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:     tpm2.New2B(template),
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := madeFrom(rsp.OutPublic.Bytes(), template)
	if err != nil {
		return nil, err
	}
	return &Blob{parent: parent.Public.Name(), public: public, private: rsp.OutPrivate.Buffer, auth: auth}, nil
}

// load loads the key. The caller holds mu or has the only reference.
func (a *AK) load(t transport.TPM) error {
	h, err := a.find(t)
	if err != nil {
		return fmt.Errorf("load the attestation key: %w", err)
	}
	a.handle, a.loaded = h, true
	return nil
}

// load loads the stored key.
func (b *Blob) load(t transport.TPM, auths Auths) (tpm2.TPMHandle, error) {
	var rsp *tpm2.LoadResponse
	err := WithSRK(t, b.parent, auths, func(parent *Primary) (err error) {
		rsp, err = tpm2.Load{
			ParentHandle: parent.Auth(tpm2.PasswordAuth(nil)),
			InPrivate:    tpm2.TPM2BPrivate{Buffer: b.private},
			InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](b.public.Bytes()),
		}.Execute(t)
		if err == nil && !b.Name().Equal(rsp.Name.Buffer) {
			err = errors.Join(errors.New("the TPM loaded another key"), flush(t, rsp.ObjectHandle))
		}
		return err
	})
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil {
		return 0, err
	}
	return rsp.ObjectHandle, nil
}

// use runs f with the loaded key, and the authorization for it. The HMAC of the session covers the
// key's name.
func (a *AK) use(t transport.TPM, f func(tpm2.AuthHandle) error, options ...tpm2.AuthOption) error {
	return a.with(t, func(h tpm2.TPMHandle) error {
		return f(tpm2.AuthHandle{
			Handle: h,
			Name:   tpm2.TPM2BName{Buffer: a.public.Name()},
			Auth:   tpm2.HMAC(tpm2.TPMAlgSHA256, SessionNonce, append(options, tpm2.Auth(a.auth))...),
		})
	})
}

// with runs f with the handle of the loaded key. If the handle is stale, because the device was opened
// again or another program flushed it, with loads the key once more. What f has the TPM do is
// authorized for the key's name, so another object that has the handle by then refuses instead of
// signing.
func (a *AK) with(t transport.TPM, f func(tpm2.TPMHandle) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for fresh := false; ; {
		if !a.loaded {
			fresh = true
			if err := a.load(t); err != nil {
				return err
			}
		}
		err := f(a.handle)
		if stale := Absent(err) || Refused(err); fresh || !stale {
			return err
		}
		a.loaded = false
	}
}

// Quote signs data and the values of the selected PCRs (TPM2_Quote, TPM 2.0 Part 3,
// section 18.4). Data is at most 64 bytes. It returns TPMS_ATTEST as it was signed
// and TPMT_SIGNATURE, both exactly as the TPM produced them.
func (a *AK) Quote(t transport.TPM, data []byte, sel pcr.Selection) (attest, signature []byte, err error) {
	if err := sel.Check(); err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	return a.quote(t, data, sel.TPM())
}

func (a *AK) quote(t transport.TPM, data []byte, sel tpm2.TPMLPCRSelection) (attest, signature []byte, err error) {
	if len(data) > MaxQualifyingData {
		return nil, nil, fmt.Errorf("quote: qualifying data of %d bytes, at most %d", len(data), MaxQualifyingData)
	}
	parameters := appendSized(nil, data)
	parameters = binary.BigEndian.AppendUint16(parameters, uint16(tpm2.TPMAlgNull)) // inScheme: that of the key
	parameters = append(parameters, tpm2.Marshal(sel)...)
	err = a.with(t, func(key tpm2.TPMHandle) error {
		c := authorized{code: tpm2.TPMCCQuote, handle: key, name: a.public.Name(), auth: a.auth, parameters: parameters}
		rsp, err := c.run(t)
		if err != nil {
			return err
		}
		r := &tpmwire.Reader{Order: binary.BigEndian, Rest: rsp}
		attest = r.Take(uint64(r.U16("size of quoted")), "quoted")
		signature = r.Rest
		return r.Err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	if len(attest) > evidence.MaxQuote || len(signature) > evidence.MaxQuote {
		return nil, nil, fmt.Errorf("quote: TPM answered with %d and %d bytes, want at most %d each", len(attest), len(signature), evidence.MaxQuote)
	}
	return attest, signature, nil
}

// Public returns the TPMT_PUBLIC of the key.
func (a *AK) Public() []byte { return a.public.Bytes() }

// Name returns the name of the key.
func (a *AK) Name() keys.Name { return a.public.Name() }

// Blob returns the key in the form to store, nil if the platform keeps it.
func (a *AK) Blob() *Blob { return a.blob }

// Certificate returns the certificate of the key that the platform made, X.509 DER, unverified;
// nil if there is none.
func (a *AK) Certificate() []byte { return a.certificate }

// Flush frees the key's slot in the TPM. The next use loads it again.
func (a *AK) Flush(t transport.TPM) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil
	}
	if a.loaded = false; a.keep {
		return nil
	}
	if err := flush(t, a.handle); err != nil && !Absent(err) {
		return err
	}
	return nil
}

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
