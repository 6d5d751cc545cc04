// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/blake2b"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// ReleaseKey is the public half of the key that signs releases: Ed25519, or ECDSA over P-256
// or P-384. The zero value stands for no key.
type ReleaseKey struct{ public crypto.PublicKey }

const (
	keyPrefix  = "agentd-release-key:"
	maxKeyText = 512
)

// IsZero reports whether there is no key.
func (k ReleaseKey) IsZero() bool { return k.public == nil }

// String returns the key in text: a prefix, and its SubjectPublicKeyInfo in hexadecimal.
func (k ReleaseKey) String() string {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return ""
	}
	return keyPrefix + hex.EncodeToString(der)
}

func badKey(err error) error {
	return &sealing.Error{Code: api.CodeInvalidValue, Field: "release-key", Detail: "want the public half of an Ed25519 key, or of an ECDSA key over P-256 or P-384, as PEM, or the file of a minisign public key", Err: err}
}

// ParseKeyText reads what String returns.
func ParseKeyText(text string) (ReleaseKey, error) {
	digits, ok := strings.CutPrefix(text, keyPrefix)
	der, err := hex.DecodeString(digits)
	if !ok || err != nil || len(text) > maxKeyText {
		return ReleaseKey{}, badKey(errors.New("the text of the release key is not one"))
	}
	return keyOf(der)
}

// keyOf reads a SubjectPublicKeyInfo.
func keyOf(der []byte) (ReleaseKey, error) {
	public, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return ReleaseKey{}, badKey(err)
	}
	switch p := public.(type) {
	case ed25519.PublicKey:
		if err := keys.CheckEd25519(p); err != nil {
			return ReleaseKey{}, badKey(err)
		}
		return ReleaseKey{p}, nil
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() || p.Curve == elliptic.P384() {
			return ReleaseKey{p}, nil
		}
	}
	return ReleaseKey{}, badKey(fmt.Errorf("it is a key of another kind (%T)", public))
}

// ParseReleaseKey reads the file of a public key: PEM, or minisign's.
func ParseReleaseKey(b []byte) (ReleaseKey, error) {
	if len(b) > MaxKeyFile {
		return ReleaseKey{}, badKey(fmt.Errorf("a file of %d bytes", len(b)))
	}
	if block, rest := pem.Decode(b); block != nil {
		if block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 {
			return ReleaseKey{}, badKey(fmt.Errorf("the PEM block is of type %q, or another one follows it", block.Type))
		}
		return keyOf(block.Bytes)
	}
	lines := strings.Split(strings.TrimRight(string(b), "\r\n"), "\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.TrimRight(lines[len(lines)-1], "\r"))
	if err != nil || len(lines) > 2 || len(raw) != 2+8+ed25519.PublicKeySize || string(raw[:2]) != "Ed" {
		return ReleaseKey{}, badKey(errors.New("it is neither PEM nor a minisign public key"))
	}
	public := ed25519.PublicKey(raw[10:])
	if err := keys.CheckEd25519(public); err != nil {
		return ReleaseKey{}, badKey(err)
	}
	return ReleaseKey{public}, nil
}

// Verify checks a signature over the exact bytes of a release statement: that of Ed25519 (64
// bytes), of ECDSA (DER, over SHA-256 with P-256 and SHA-384 with P-384), or a file of minisign.
func (k ReleaseKey) Verify(statement, signature []byte) error {
	ok := false
	switch p := k.public.(type) {
	case ed25519.PublicKey:
		if bytes.HasPrefix(signature, []byte("untrusted comment:")) {
			ok = verifyMinisign(p, statement, signature)
		} else {
			ok = len(signature) == ed25519.SignatureSize && ed25519.Verify(p, statement, signature)
		}
	case *ecdsa.PublicKey:
		digest := sha256.Sum256(statement)
		sum := digest[:]
		if p.Curve == elliptic.P384() {
			long := sha512.Sum384(statement)
			sum = long[:]
		}
		ok = ecdsa.VerifyASN1(p, sum, signature)
	}
	if !ok {
		return &sealing.Error{Code: api.CodeReleaseSignature, Detail: fmt.Sprintf("the release statement is not signed by the release key of this store (%s)", k)}
	}
	return nil
}

// verifyMinisign checks a signature file: an untrusted comment, algorithm (2 bytes, "Ed" over the
// file or "ED" over its BLAKE2b-512), key id (8) and signature (64) in base64, a trusted comment,
// and the signature over signature and trusted comment.
func verifyMinisign(p ed25519.PublicKey, statement, file []byte) bool {
	lines := strings.Split(strings.TrimRight(string(file), "\r\n"), "\n")
	if len(file) > MaxKeyFile || len(lines) != 4 {
		return false
	}
	strict := base64.StdEncoding.Strict()
	raw, err := strict.DecodeString(lines[1])
	trusted, ok := strings.CutPrefix(lines[2], "trusted comment: ")
	global, err2 := strict.DecodeString(lines[3])
	if err != nil || err2 != nil || !ok || len(raw) != 2+8+ed25519.SignatureSize || len(global) != ed25519.SignatureSize {
		return false
	}
	message := statement
	switch string(raw[:2]) {
	case "Ed":
	case "ED":
		sum := blake2b.Sum512(statement)
		message = sum[:]
	default:
		return false
	}
	signature := raw[10:]
	return ed25519.Verify(p, message, signature) && ed25519.Verify(p, append(bytes.Clone(signature), trusted...), global)
}
