// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/keys"
)

// AppKeySize is how many bytes a key of an application is made from.
const AppKeySize = 3 * pointSize

// pointSize is the size of a coordinate on P-256, in bytes.
const pointSize = 32

// maxSaved is the most keys of applications that are remembered. A saved context has about 1 KiB.
const maxSaved = 64

// AppKeys makes signing keys of applications in the TPM, and uses them. A key is a primary key of the
// owner hierarchy. The TPM derives it from its owner seed and the template (TPM 2.0 Part 1, section
// "Primary Key Derivation"), and the template's unique member is secret. So the key is the same each
// time, in this TPM until TPM2_Clear, for who knows that member. Nothing of it is stored.
//
// The unique member crosses the bus in the clear, since only the first parameter of a command can be
// encrypted: see docs/sealing.md for what that means. The authorization value is encrypted, and
// protects the loaded key from other users of the TPM.
//
// To make a key takes hundreds of milliseconds on some TPMs. So its context is saved after the first
// use, in memory. The TPM encrypts contexts, and refuses them after a reset. The zero value is ready
// for use, by many goroutines.
type AppKeys struct {
	mu    sync.Mutex  // guards saved
	saved []*savedKey // most recently used last
}

// savedKey is a key that was made before.
type savedKey struct {
	id      [sha256.Size]byte // SHA-256 of what it is made from
	public  *keys.Public
	context tpm2.TPMSContext
}

// AppKey is a key of an application while it is loaded.
type AppKey struct {
	handle tpm2.TPMHandle
	public *keys.Public
	secret appSecret
}

// appSecret is what a key is made from.
type appSecret struct {
	unique *tpm2.TPMSECCPoint
	auth   []byte
}

// parseAppSecret parses the material of a key: x and y of the unique member, then the authorization
// value. That is spelled without zero bytes, since HMAC sessions of go-tpm fail for values that
// contain one: each byte b of the material becomes (b mod 255) + 1.
func parseAppSecret(material []byte) (s appSecret, err error) {
	if len(material) != AppKeySize {
		return s, fmt.Errorf("key of an application from %d bytes, want %d", len(material), AppKeySize)
	}
	s.unique = &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: slices.Clone(material[:pointSize])},
		Y: tpm2.TPM2BECCParameter{Buffer: slices.Clone(material[pointSize : 2*pointSize])},
	}
	for _, b := range material[2*pointSize:] {
		s.auth = append(s.auth, b%255+1)
	}
	return s, nil
}

// wipe overwrites s.
func (s appSecret) wipe() {
	clear(s.unique.X.Buffer)
	clear(s.unique.Y.Buffer)
	clear(s.auth)
}

// appTemplate is the template of keys of applications, without the unique member: ECDSA over SHA-256
// on P-256, not restricted. It is noDA for the reason of akTemplate.
func appTemplate() tpm2.TPMTPublic {
	t := akTemplate
	t.ObjectAttributes.Restricted = false
	return t
}

// Use makes the key of material, hands it to f, and frees its slot in the TPM. The caller wipes
// material.
func (a *AppKeys) Use(t transport.TPM, material []byte, auths Auths, f func(*AppKey) error) error {
	secret, err := parseAppSecret(material)
	if err != nil {
		return err
	}
	defer secret.wipe()
	k, err := a.load(t, sha256.Sum256(material), secret, auths)
	if err != nil {
		return fmt.Errorf("make the key of an application: %w", err)
	}
	err = f(k)
	if freed := flush(t, k.handle); freed != nil && !Absent(freed) {
		err = errors.Join(err, freed)
	}
	return err
}

// load loads the key from its saved context. If there is none, or the TPM refuses it, load makes the
// key.
func (a *AppKeys) load(t transport.TPM, id [sha256.Size]byte, secret appSecret, auths Auths) (*AppKey, error) {
	if s := a.find(id); s != nil {
		rsp, err := tpm2.ContextLoad{Context: s.context}.Execute(t)
		if err == nil {
			return &AppKey{handle: rsp.LoadedHandle, public: s.public, secret: secret}, nil
		}
		a.forget(id) // the TPM was reset or cleared, or another one is here
	}
	k, err := makeAppKey(t, secret, auths)
	if err != nil {
		return nil, err
	}
	if rsp, err := (tpm2.ContextSave{SaveHandle: k.handle}).Execute(t); err == nil {
		a.keep(&savedKey{id: id, public: k.public, context: rsp.Context})
	}
	return k, nil
}

// find returns the saved key of that id, nil if there is none, and marks it as used.
func (a *AppKeys) find(id [sha256.Size]byte) *savedKey {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := slices.IndexFunc(a.saved, func(s *savedKey) bool { return s.id == id })
	if i < 0 {
		return nil
	}
	s := a.saved[i]
	a.saved = append(slices.Delete(a.saved, i, i+1), s)
	return s
}

// keep remembers s, and forgets the key that was used least recently if there are too many.
func (a *AppKeys) keep(s *savedKey) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.saved) >= maxSaved {
		a.saved = slices.Delete(a.saved, 0, 1+len(a.saved)-maxSaved)
	}
	a.saved = append(a.saved, s)
}

func (a *AppKeys) forget(id [sha256.Size]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saved = slices.DeleteFunc(a.saved, func(s *savedKey) bool { return s.id == id })
}

// makeAppKey derives the key. The authorization value travels encrypted to the storage root key.
func makeAppKey(t transport.TPM, secret appSecret, auths Auths) (k *AppKey, err error) {
	template := appTemplate()
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, secret.unique)
	err = WithSRK(t, nil, auths, func(p *Primary) error {
		rsp, err := tpm2.CreatePrimary{
			PrimaryHandle: auths.Owned(),
			InSensitive:   tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: secret.auth}}},
			InPublic:      tpm2.New2B(template),
		}.Execute(t, p.Session(tpm2.AESEncryption(128, tpm2.EncryptIn)))
		if err != nil {
			return auths.OwnerError(err)
		}
		k = &AppKey{handle: rsp.ObjectHandle, secret: secret}
		k.public, err = madeFrom(rsp.OutPublic.Bytes(), appTemplate())
		return err
	})
	if err != nil && k != nil {
		err = errors.Join(err, flush(t, k.handle))
	}
	if err != nil {
		return nil, withoutECC(t, template, err)
	}
	return k, nil
}

// authorized returns the key with its authorization. The session's HMAC covers its name.
func (k *AppKey) authorized() tpm2.AuthHandle {
	return tpm2.AuthHandle{
		Handle: k.handle, Name: tpm2.TPM2BName{Buffer: k.public.Name()},
		Auth: tpm2.HMAC(tpm2.TPMAlgSHA256, SessionNonce, tpm2.Auth(k.secret.auth)),
	}
}

// Public returns the public area of the key.
func (k *AppKey) Public() *keys.Public { return k.public }

// Sign signs a digest of SHA-256 (TPM2_Sign, TPM 2.0 Part 3, section 20.2). The signature is DER.
func (k *AppKey) Sign(t transport.TPM, digest []byte) ([]byte, error) {
	if len(digest) != sha256.Size {
		return nil, fmt.Errorf("sign in the TPM: digest of %d bytes, want %d", len(digest), sha256.Size)
	}
	rsp, err := tpm2.Sign{
		KeyHandle:  k.authorized(),
		Digest:     tpm2.TPM2BDigest{Buffer: digest},
		InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
	}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("sign in the TPM: %w", err)
	}
	sig, err := rsp.Signature.Signature.ECDSA()
	if err != nil {
		return nil, fmt.Errorf("sign in the TPM: %w", err)
	}
	r, s := new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)
	return asn1.Marshal(struct{ R, S *big.Int }{r, s})
}

// Certify has ak certify the key over data, at most [MaxQualifyingData] bytes (TPM2_Certify, TPM 2.0
// Part 3, section 18.2). A relying party checks the result.
func (k *AppKey) Certify(t transport.TPM, ak *AK, data []byte) (*keys.Certification, error) {
	if len(data) > MaxQualifyingData {
		return nil, fmt.Errorf("certify a key in the TPM: data of %d bytes, at most %d", len(data), MaxQualifyingData)
	}
	c := &keys.Certification{Public: k.public.Bytes()}
	err := ak.use(t, func(signer tpm2.AuthHandle) error {
		rsp, err := tpm2.Certify{
			ObjectHandle:   k.authorized(),
			SignHandle:     signer,
			QualifyingData: tpm2.TPM2BData{Buffer: data},
			InScheme:       tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
		}.Execute(t)
		if err != nil {
			return err
		}
		c.Attest, c.Signature = rsp.CertifyInfo.Bytes(), tpm2.Marshal(rsp.Signature)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("certify a key in the TPM: %w", err)
	}
	return c, nil
}
