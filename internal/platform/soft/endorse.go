// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// Endorsement is what a VCEK or VLEK certificate says.
type Endorsement struct {
	Signer      snp.Signer
	Product     snp.Product // whose intermediate issues, and whose levels are written
	ProductName string      // as written; "" for the usual one
	TCB         snp.TCB
	HWID        []byte // VCEK
	CSPID       string // VLEK
	NotBefore   time.Time
	NotAfter    time.Time

	// Alter, if set, changes the certificate before it is signed: for tests of
	// what a verifier must refuse.
	Alter func(*x509.Certificate)
}

// levelOIDs are the last numbers of the patch level extensions, by the byte of the
// TCB that they carry (KDS, table "VCEK certificate extensions").
var levelOIDs = map[snp.Product][8]int{
	snp.Milan: {1, 2, 4, 5, 6, 7, 3, 8},
	snp.Genoa: {1, 2, 4, 5, 6, 7, 3, 8},
	snp.Turin: {9, 1, 2, 3, 5, 6, 7, 8},
}

// Endorse issues a certificate over an ECDSA P-384 key, DER.
func (a *Authority) Endorse(e Endorsement, key crypto.PublicKey) ([]byte, error) {
	issuer, err := a.Intermediate(e.Product, e.Signer)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	r := ask
	if e.Signer == snp.SignerVLEK {
		r = asvk
	}
	issuerKey, err := a.key(r)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		SerialNumber:       new(big.Int), // 0 in all of AMD's, too
		Subject:            amdName("SEV-" + e.Signer.String()),
		NotBefore:          e.NotBefore,
		NotAfter:           e.NotAfter,
		ExtraExtensions:    e.Extensions(),
	}
	if e.Alter != nil {
		e.Alter(template)
	}
	parent := *issuer
	parent.SubjectKeyId = nil // AMD's leaves carry no authority key identifier
	der, err := x509.CreateCertificate(rand.Reader, template, &parent, key, issuerKey)
	if err != nil {
		return nil, fmt.Errorf("make %v certificate under the test root: %w", e.Signer, err)
	}
	return der, nil
}

// Extensions returns what the certificate says, as AMD writes it.
func (e Endorsement) Extensions() []pkix.Extension {
	name := e.ProductName
	if name == "" {
		name = e.Product.String()
		if e.Signer == snp.SignerVCEK && e.Product != snp.Turin {
			name += "-B1"
		}
	}
	structVersion := 0
	if e.Product == snp.Turin {
		structVersion = 1
	}
	x := []pkix.Extension{extension(encode(structVersion, ""), 1), extension(encode(name, "ia5"), 2)}
	levels := e.TCB.Bytes()
	for i, oid := range levelOIDs[e.Product] {
		x = append(x, extension(encode(int(levels[i]), ""), 3, oid))
	}
	if e.Signer == snp.SignerVLEK {
		return append(x, extension(encode(e.CSPID, "ia5"), 5))
	}
	return append(x, extension(e.HWID, 4)) // bare bytes
}

func extension(value []byte, oid ...int) pkix.Extension {
	return pkix.Extension{Id: append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, oid...), Value: value}
}

func encode(value any, parameters string) []byte {
	der, err := asn1.MarshalWithParams(value, parameters)
	if err != nil {
		panic(fmt.Sprintf("soft: encode %q: %v", value, err)) // numbers and ASCII are encoded
	}
	return der
}
