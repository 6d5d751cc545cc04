// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/pem"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// pemOf returns the public half of a key as PEM.
func pemOf(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// signedFile returns an entry of a file with a signature by the key of a letter. Change is added to
// the digest that is signed.
func signedFile(content, path string, letter, change byte) []byte {
	key := letterKey(letter)
	digest := pcr.SHA256.Sum([]byte(content))
	other := append([]byte{digest[0] + change}, digest[1:]...)
	signature, err := key.Sign(nil, other, crypto.SHA256) // the same each time
	if err != nil {
		panic(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	id := sha1.Sum(point)
	field := append([]byte{3, 2, 4}, id[16:]...)
	field = append(field, 0, byte(len(signature)))
	return evidencetest.IMAEntry("ima-sig", evidencetest.IMADigest("sha256", digest), evidencetest.IMAName(path), append(field, signature...))
}
