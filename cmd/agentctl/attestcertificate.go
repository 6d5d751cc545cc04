// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/internal/cmw"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// certificateFlags say which certificate attest makes.
type certificateFlags struct {
	out, key string
	names    []string
	validFor time.Duration
}

// Limits of the certificate that attest makes.
const (
	defaultValidity = 24 * time.Hour
	maxValidity     = 366 * 24 * time.Hour
	maxNames        = 64
)

func (f *certificateFlags) add(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.out, "certificate", "", "")
	flags.StringVar(&f.key, "make-key", "", "")
	flags.StringArrayVar(&f.names, "dns-name", nil, "")
	flags.DurationVar(&f.validFor, "valid-for", defaultValidity, "")
}

// check refuses flags that make no certificate, before anything is asked for or written.
func (f *certificateFlags) check(k *namedKey) error {
	switch {
	case f.out == "" && (f.key != "" || len(f.names) > 0 || f.validFor != defaultValidity):
		return errors.New("--make-key, --dns-name and --valid-for are for --certificate, which is missing")
	case f.out == "":
		return nil
	case f.key == "" && k.prove == "":
		return errors.New("--certificate without --prove-key or --make-key: a certificate signs itself with its private key")
	case f.key != "" && k.prove+k.public+k.signing != "":
		return errors.New("--make-key makes the key that evidence names: leave --prove-key, --public-key and --signing-key out")
	case f.key == "-" || f.key == f.out:
		return errors.New("--make-key: name a file of its own for the private key")
	case f.validFor < time.Minute || f.validFor > maxValidity:
		return fmt.Errorf("--valid-for %v: want %v to %v", f.validFor, time.Minute, maxValidity)
	case len(f.names) > maxNames:
		return fmt.Errorf("--dns-name is given %d times, at most %d", len(f.names), maxNames)
	}
	if f.key == "" {
		return nil
	}
	if _, err := os.Lstat(f.key); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("--make-key %s: the file exists, and may be a key in use: name another file", f.key)
	}
	return nil
}

// makeKey makes the key that evidence is to name. It is written with the certificate.
func (f *certificateFlags) makeKey(k *namedKey) error {
	if f.key == "" {
		return nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return misuse(fmt.Errorf("make a private key: %w", err))
	}
	k.signer = key
	return nil
}

// writeCertificate writes the private key, if it was made, and then the certificate with the evidence.
// A certificate without its key would be of no use, and a key without its certificate does no harm.
func (t *terminal) writeCertificate(f *certificateFlags, signer crypto.Signer, document []byte) error {
	der, err := f.certificate(signer, document, time.Now())
	if err != nil {
		return misuse(fmt.Errorf("make a certificate: %w", err))
	}
	if f.key != "" {
		b, err := x509.MarshalPKCS8PrivateKey(signer)
		if err != nil {
			return misuse(fmt.Errorf("encode the private key: %w", err))
		}
		p := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})
		defer clear(b)
		defer clear(p)
		if err := durable.WriteNew(f.key, p, 0o600); err != nil {
			return misuse(err)
		}
	}
	return t.writeOutput(f.out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// errLargeCertificate says that the evidence is too long for a certificate.
var errLargeCertificate = fmt.Errorf("more than %d bytes: leave the log out (--log none), or the list of IMA", cmw.MaxCertificate)

// certificate returns a certificate that signs itself and contains the evidence, in DER.
func (f *certificateFlags) certificate(signer crypto.Signer, document []byte, now time.Time) ([]byte, error) {
	if len(document) > cmw.MaxCertificate {
		return nil, errLargeCertificate
	}
	extension, err := cmw.NewExtension(cmw.CBOR, document)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40 // positive, and of this length (RFC 5280, section 4.1.2.2)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: "agentd evidence"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(f.validFor), // clocks of others may be behind
		DNSNames: f.names, ExtraExtensions: []pkix.Extension{extension}, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err == nil && len(der) > cmw.MaxCertificate {
		err = errLargeCertificate
	}
	return der, err
}
