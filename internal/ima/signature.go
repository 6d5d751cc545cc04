// SPDX-License-Identifier: Apache-2.0

package ima

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/pcr"
)

// MaxKeys is the number of keys that [ParseKeys] reads.
const MaxKeys = 16

// A Key is a public key that signs files.
type Key struct {
	public crypto.PublicKey // *rsa.PublicKey or *ecdsa.PublicKey
	ids    [][]byte         // last 4 bytes of the names of the key: a signature has one of them
}

// ParseKeys reads 1 to [MaxKeys] public keys (SubjectPublicKeyInfo) and certificates as PEM. An
// RSA key has 2048 to 8192 bits; another one is of the curves P-256, P-384 or P-521. The dates of
// a certificate mean nothing: IMA does not look at them.
func ParseKeys(text []byte) ([]Key, error) {
	var out []Key
	for {
		block, rest := pem.Decode(text)
		switch {
		case block == nil && len(bytes.TrimSpace(text)) > 0:
			return nil, fmt.Errorf("key %d: want PEM, and nothing else", len(out))
		case block == nil && len(out) == 0:
			return nil, errors.New("no key: want public keys or certificates as PEM")
		case block == nil:
			return out, nil
		case len(out) == MaxKeys:
			return nil, fmt.Errorf("more than %d keys", MaxKeys)
		}
		k, err := parseKey(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", len(out), err)
		}
		out, text = append(out, *k), rest
	}
}

// parseKey reads one key.
func parseKey(block *pem.Block) (*Key, error) {
	k, info := new(Key), block.Bytes
	switch block.Type {
	case "CERTIFICATE":
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		info = c.RawSubjectPublicKeyInfo
		k.name(c.SubjectKeyId)
	case "PUBLIC KEY":
	default:
		return nil, fmt.Errorf("PEM of type %q, want PUBLIC KEY or CERTIFICATE", block.Type)
	}
	public, err := x509.ParsePKIXPublicKey(info)
	if err != nil {
		return nil, err
	}
	switch p := public.(type) {
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < 2048 || n > 8192 {
			return nil, fmt.Errorf("an RSA key of %d bits, want 2048 to 8192", n)
		}
		pkcs1 := sha1.Sum(x509.MarshalPKCS1PublicKey(p))
		k.name(pkcs1[:])
	case *ecdsa.PublicKey:
		if n := p.Curve.Params().BitSize; n < 256 {
			return nil, fmt.Errorf("a curve of %d bits, want 256 or more", n)
		}
		point, err := p.Bytes()
		if err != nil {
			return nil, err
		}
		sum := sha1.Sum(point)
		k.name(sum[:])
	default:
		return nil, fmt.Errorf("a key of type %T, want RSA or ECDSA", public)
	}
	k.public = public
	return k, nil
}

func (k *Key) name(id []byte) {
	if len(id) >= 4 {
		k.ids = append(k.ids, id[len(id)-4:])
	}
}

// Of the extended attribute security.ima (security/integrity/integrity.h in the source of Linux).
const (
	ofFile   = 3 // EVM_IMA_XATTR_DIGSIG: a signature over the digest of the content
	ofVerity = 6 // IMA_VERITY_DIGSIG: over a hash that names a digest of fs-verity
)

// hashes are the algorithms of signatures by their numbers (enum hash_algo in
// include/uapi/linux/hash_info.h). Collisions of the others can be made.
var hashes = map[byte]pcr.Algorithm{4: pcr.SHA256, 5: pcr.SHA384, 6: pcr.SHA512}

// Signed reports whether one of keys signed the digest of the entry. What was signed is the
// digest itself, or for fs-verity the hash of a type, an algorithm and the digest:
//
//	type       u8: 3 or 6
//	version    u8: 2, or 3 for fs-verity
//	algorithm  u8
//	key        u32, big-endian: end of the key's name
//	size       u16, big-endian, and the signature
func (f *Fields) Signed(keys []Key) bool {
	const head = 9
	s := f.Signature
	if f.IsBuffer || len(s) < head || int(binary.BigEndian.Uint16(s[7:])) != len(s)-head {
		return false
	}
	algorithm, ok := hashes[s[2]]
	if !ok || f.Digest.Algorithm != algorithm.String() || len(f.Digest.Value) != algorithm.Size() {
		return false
	}
	digest := f.Digest.Value
	switch {
	case s[0] == ofFile && s[1] == 2 && !f.Digest.Verity:
	case s[0] == ofVerity && s[1] == 3 && f.Digest.Verity:
		digest = algorithm.Sum([]byte{ofVerity, s[2]}, digest)
	default:
		return false
	}
	for i := range keys {
		if keys[i].named(s[3:7]) && keys[i].verifies(algorithm, digest, s[head:]) {
			return true
		}
	}
	return false
}

// named reports whether a signature names k.
func (k *Key) named(id []byte) bool {
	for _, n := range k.ids {
		if bytes.Equal(n, id) {
			return true
		}
	}
	return false
}

// verifies reports whether k made a signature over a digest.
func (k *Key) verifies(a pcr.Algorithm, digest, signature []byte) bool {
	switch p := k.public.(type) {
	case *rsa.PublicKey:
		h, _ := a.Hash()
		return rsa.VerifyPKCS1v15(p, h, digest, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(p, digest, signature)
	}
	return false
}
