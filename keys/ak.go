// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/rand"
	"errors"
	"fmt"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// MaxQualifyingData is how many bytes a quote takes: what TPMs of all kinds accept.
const MaxQualifyingData = 64

// sessionNonce is the size in bytes of nonces in sessions, the least that TPMs take.
const sessionNonce = 16

// Errors of the attestation key, told apart with errors.Is.
var (
	// ErrOtherTPM: the stored key was made in another TPM, or before this one was cleared.
	ErrOtherTPM = errors.New("the stored attestation key does not belong to this TPM: it was made in another one, or this one was cleared")
	// ErrDamaged: the TPM does not take the stored key, although it was made here.
	ErrDamaged = errors.New("the stored attestation key is damaged")
)

// AK is the attestation key of one TPM, ready for use. It stays loaded between calls
// and loads itself again after it was flushed or the connection changed. Methods may
// be called from any goroutine; each needs the TPM to itself while it runs.
type AK struct {
	blob  *Blob
	auths Auths

	mu     sync.Mutex
	handle tpm2.TPMHandle
	loaded bool
}

// Provision loads the stored attestation key, or makes a new one where blob is nil.
// A stored key that this TPM does not accept is [ErrOtherTPM] or [ErrDamaged], never
// replaced in silence: verifiers may have enrolled it. An owner authorization that is
// set and not known is an [*AuthError].
func Provision(t transport.TPM, blob *Blob, auths Auths) (*AK, error) {
	if blob == nil {
		var err error
		if blob, err = create(t, auths); err != nil {
			return nil, fmt.Errorf("make an attestation key: %w", err)
		}
	}
	a := &AK{blob: blob, auths: auths}
	if err := a.load(t); err != nil {
		return nil, err
	}
	return a, nil
}

// create makes a key under the storage root key.
func create(t transport.TPM, auths Auths) (*Blob, error) {
	parent, err := findSRK(t, auths)
	if err != nil {
		return nil, err
	}
	blob, err := createUnder(t, parent)
	if refused(err) && !parent.transient {
		// Somebody gave the key at 0x81000001 an authorization value of their own.
		if parent, err = primarySRK(t, auths); err != nil {
			return nil, err
		}
		blob, err = createUnder(t, parent)
	}
	return blob, errors.Join(err, parent.flush(t))
}

func createUnder(t transport.TPM, parent *srk) (*Blob, error) {
	auth, err := newAuth(rand.Reader)
	if err != nil {
		return nil, err
	}
	// The authorization value travels once, now: encrypted to the storage root key.
	session := tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce,
		tpm2.AESEncryption(128, tpm2.EncryptIn), tpm2.Salted(parent.handle, parent.public.area))
	rsp, err := tpm2.Create{
		ParentHandle: parent.auth(session),
		InSensitive:  tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:     tpm2.New2B(akTemplate),
	}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := ParsePublic(rsp.OutPublic.Bytes())
	if err != nil {
		return nil, err
	}
	if !fits(public.area, akTemplate) {
		return nil, errors.New("the TPM made another key than it was asked for")
	}
	return &Blob{parent: parent.public.name, public: public, private: rsp.OutPrivate.Buffer, auth: auth}, nil
}

// load loads the key; the caller holds mu or has the only reference.
func (a *AK) load(t transport.TPM) error {
	parent, err := srkNamed(t, a.blob.parent, a.auths)
	if err != nil {
		return fmt.Errorf("load the attestation key: %w", err)
	}
	rsp, err := a.loadUnder(t, parent)
	if refused(err) && !parent.transient {
		// The key at 0x81000001 has an authorization value of somebody else's. Derived
		// anew it is the same key without one.
		if parent, err = primarySRK(t, a.auths); err != nil {
			return fmt.Errorf("load the attestation key: %w", err)
		}
		rsp, err = a.loadUnder(t, parent)
	}
	if errors.Is(err, tpm2.TPMRCIntegrity) {
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err == nil && !a.blob.public.name.Equal(Name(rsp.Name.Buffer)) {
		err = errors.Join(errors.New("the TPM loaded another key"), flush(t, rsp.ObjectHandle))
	}
	if err = errors.Join(err, parent.flush(t)); err != nil {
		return fmt.Errorf("load the attestation key: %w", err)
	}
	a.handle, a.loaded = rsp.ObjectHandle, true
	return nil
}

func (a *AK) loadUnder(t transport.TPM, parent *srk) (*tpm2.LoadResponse, error) {
	return tpm2.Load{
		ParentHandle: parent.auth(tpm2.PasswordAuth(nil)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: a.blob.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](a.blob.public.bytes),
	}.Execute(t)
}

// use runs f with the loaded key. Where the handle turns out to be stale, because
// the device was opened anew or somebody flushed it, the key is loaded once more.
// The HMAC of the session covers the key's name, so another object that has got the
// handle meanwhile refuses instead of signing.
func (a *AK) use(t transport.TPM, f func(tpm2.AuthHandle) error, options ...tpm2.AuthOption) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for fresh := false; ; {
		if !a.loaded {
			fresh = true
			if err := a.load(t); err != nil {
				return err
			}
		}
		err := f(tpm2.AuthHandle{
			Handle: a.handle,
			Name:   tpm2.TPM2BName{Buffer: a.blob.public.name},
			Auth:   tpm2.HMAC(tpm2.TPMAlgSHA256, sessionNonce, append(options, tpm2.Auth(a.blob.auth))...),
		})
		if fresh || !stale(err) {
			return err
		}
		a.loaded = false
	}
}

// stale reports whether err may come from a handle that is not the key's any more.
func stale(err error) bool { return absent(err) || refused(err) }

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
	err = a.use(t, func(key tpm2.AuthHandle) error {
		rsp, err := tpm2.Quote{
			SignHandle:     key,
			QualifyingData: tpm2.TPM2BData{Buffer: data},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			PCRSelect:      sel,
		}.Execute(t)
		if err != nil {
			return err
		}
		attest, signature = rsp.Quoted.Bytes(), tpm2.Marshal(rsp.Signature)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("quote: %w", err)
	}
	if len(attest) > evidence.MaxQuote || len(signature) > evidence.MaxQuote {
		return nil, nil, fmt.Errorf("quote: TPM answered with %d and %d bytes, at most %d each are taken", len(attest), len(signature), evidence.MaxQuote)
	}
	return attest, signature, nil
}

// Public is the TPMT_PUBLIC of the key.
func (a *AK) Public() []byte { return a.blob.public.Bytes() }

// Name is the name of the key.
func (a *AK) Name() Name { return a.blob.public.Name() }

// Blob is the key in the form to store.
func (a *AK) Blob() *Blob { return a.blob }

// Flush frees the key's slot in the TPM. The next use loads it again.
func (a *AK) Flush(t transport.TPM) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.loaded {
		return nil
	}
	a.loaded = false
	if err := flush(t, a.handle); err != nil && !absent(err) {
		return err
	}
	return nil
}
