// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// maxPrivateKey is how many bytes of a file with a private key are read: RSA of 4,096 bits takes
// 3,300 in PEM.
const maxPrivateKey = 64 << 10

// readPrivateKey reads the private key that a request is signed with, one PEM block: PKCS #8
// ("PRIVATE KEY"), SEC 1 ("EC PRIVATE KEY") or PKCS #1 ("RSA PRIVATE KEY"). No error contains
// anything of it.
func (t *terminal) readPrivateKey(name string) (crypto.Signer, error) {
	b, err := t.readInput(name, maxPrivateKey)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return t.parsePrivateKey(name, b)
}

// readOwnKey is readPrivateKey for a file that only its owner can read.
func (t *terminal) readOwnKey(name string) (crypto.Signer, error) {
	b, err := t.readSecretInput(name, maxPrivateKey)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return t.parsePrivateKey(name, b)
}

// parsePrivateKey parses a private key from the file name.
func (t *terminal) parsePrivateKey(name string, b []byte) (crypto.Signer, error) {
	p, rest := pem.Decode(b)
	if p != nil && p.Type == "EC PARAMETERS" { // as "openssl ecparam -genkey" writes before the key
		p, rest = pem.Decode(rest)
	}
	if p == nil || len(bytes.TrimSpace(rest)) > 0 {
		return nil, misuse(fmt.Errorf("%s: want one private key in PEM", name)).
			withHint("openssl genpkey -algorithm ed25519 makes one")
	}
	defer clear(p.Bytes)
	var key any
	var err error
	switch p.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(p.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(p.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(p.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		return nil, misuse(fmt.Errorf("%s: the private key is encrypted", name)).
			withHint("openssl pkey -in KEY decrypts it: pass the result through a pipe")
	default:
		return nil, misuse(fmt.Errorf("%s: want PEM \"PRIVATE KEY\", \"EC PRIVATE KEY\" or \"RSA PRIVATE KEY\", found %q", name, p.Type))
	}
	signer, ok := key.(crypto.Signer)
	if err != nil || !ok {
		return nil, misuse(errors.New(name + ": not a private key that can sign")).
			withHint("a proof can be made with Ed25519, ECDSA on P-256, P-384 or P-521, and RSA of 2,048 to 4,096 bits")
	}
	return signer, nil
}
