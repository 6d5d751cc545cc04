// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// maxFile is the largest file of keys and certificates that is read, in bytes.
const maxFile = 1 << 20

// secret returns the content of a file that other users can neither read nor change: a party that has
// the key of tokens can claim anything.
func secret(path string) ([]byte, error) {
	b, err := durable.ReadTrusted(path, maxFile)
	if err != nil {
		return nil, err
	}
	at, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if at.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("%s has mode %#o, and each user can read the private key: `chmod o= %s`, and make a new key if another user may have read it", path, at.Mode().Perm(), path)
	}
	return b, nil
}

// tokenKeys reads the keys of tokens.
func tokenKeys(paths []string) (all []*ear.Key, err error) {
	for _, path := range paths {
		b, err := secret(path)
		if err != nil {
			return nil, fmt.Errorf("key of tokens: %w", err)
		}
		signer, err := privateKey(b)
		clear(b)
		var key *ear.Key
		if err == nil {
			key, err = ear.NewKey(signer)
		}
		if err != nil {
			return nil, fmt.Errorf("key of tokens: %s: %w: `openssl genpkey -algorithm ed25519 -out FILE` makes one", path, err)
		}
		all = append(all, key)
	}
	return all, nil
}

func privateKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it is not a private key in PEM")
	}
	var key any
	var err error
	if block.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, errors.New("it is not a private key that can be read") // the error may quote it
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T does not sign", key)
	}
	return signer, nil
}

// attestationAuthority reads the authority that certifies attestation keys, nil if there is none.
func attestationAuthority(s *settings.Authority) (*relying.Authority, error) {
	if s.Certificate == "" {
		return nil, nil
	}
	text, err := durable.ReadTrusted(s.Certificate, maxFile)
	if err != nil {
		return nil, fmt.Errorf("certificate of the authority for attestation keys: %w", err)
	}
	a := &relying.Authority{Lifetime: time.Duration(s.LifetimeSeconds) * time.Second}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate of the authority for attestation keys: %s: %w", s.Certificate, err)
		}
		a.Chain = append(a.Chain, c)
	}
	b, err := secret(s.Key)
	if err != nil {
		return nil, fmt.Errorf("key of the authority for attestation keys: %w", err)
	}
	a.Key, err = privateKey(b)
	clear(b)
	if err != nil {
		return nil, fmt.Errorf("key of the authority for attestation keys: %s: %w", s.Key, err)
	}
	return a, nil
}

// authority reads the certificates that those of a party must be issued by. Without a path it returns
// nil, which stands for those of the system.
func authority(path, of string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := durable.ReadTrusted(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("authority of %s: %w", of, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("authority of %s: %s has no certificate in PEM", of, path)
	}
	return roots, nil
}

// tlsConfig reads what a listener shows and asks for. It is nil if that has no TLS.
func tlsConfig(certificate, key, clientCA string) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	chain, err := durable.ReadRegular(certificate, maxFile)
	if err != nil {
		return nil, fmt.Errorf("certificate of TLS: %w", err)
	}
	private, err := secret(key)
	if err != nil {
		return nil, fmt.Errorf("key of TLS: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, private)
	clear(private)
	if err != nil {
		return nil, fmt.Errorf("certificate of TLS: %s: %w", certificate, err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2", "http/1.1"}}
	if clientCA == "" {
		return c, nil
	}
	if c.ClientCAs, err = authority(clientCA, "clients"); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	c.SessionTicketsDisabled = true // a session would outlive a reload that takes the authority away
	return c, nil
}

// counts reports whether the certificate with which the other end of a connection came counts now. The
// connection may be older than a reload that took its authority away, and may outlast the certificate.
func counts(c *tls.ConnectionState, now *tls.Config) bool {
	if c == nil || len(c.PeerCertificates) == 0 || now == nil || now.ClientCAs == nil {
		return false
	}
	between := x509.NewCertPool()
	for _, x := range c.PeerCertificates[1:] {
		between.AddCert(x)
	}
	_, err := c.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: now.ClientCAs, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return err == nil
}

// trust reads what evidence is verified with.
func trust(s *settings.Trust) (c verify.Config, err error) {
	for _, path := range s.Certificates {
		b, err := durable.ReadRegular(path, maxFile)
		if err != nil {
			return c, fmt.Errorf("certificates for evidence: %w", err)
		}
		parsed, err := snp.ParseCertificates(b)
		if err != nil {
			return c, fmt.Errorf("certificates for evidence: %s: %w", path, err)
		}
		for _, x := range parsed {
			c.Certificates = append(c.Certificates, x.Raw)
		}
	}
	for _, path := range s.Revocation {
		b, err := durable.ReadRegular(path, snp.MaxRevocationList)
		if err != nil {
			return c, fmt.Errorf("revocation list: %w", err)
		}
		if p, _ := pem.Decode(b); p != nil {
			b = p.Bytes
		}
		list, err := snp.ParseRevocationList(b)
		if err != nil {
			return c, fmt.Errorf("revocation list: %s: %w", path, err)
		}
		c.Revocation.SNP = append(c.Revocation.SNP, list)
	}
	if s.TestRoot != "" {
		b, err := durable.ReadTrusted(s.TestRoot, maxFile)
		if err != nil {
			return c, fmt.Errorf("test root: %w", err)
		}
		parsed, err := snp.ParseCertificates(b)
		if err != nil {
			return c, fmt.Errorf("test root: %s: %w", s.TestRoot, err)
		}
		c.Roots.SNP = new(snp.Roots)
		for _, x := range parsed {
			if err := c.Roots.SNP.AddTestRootThatVouchesForNoHardware(x); err != nil {
				return c, fmt.Errorf("test root: %s: %w", s.TestRoot, err)
			}
		}
	}
	c.CacheEntries = cacheEntries
	return c, nil
}

// policyKeys reads the keys that sign policies. It returns nil if the settings name none: then a policy
// is what an administrator puts.
func policyKeys(s *settings.Policies) (*verify.PolicyKeys, error) {
	if len(s.Keys) == 0 {
		return nil, nil
	}
	var all []byte
	for _, path := range s.Keys {
		b, err := durable.ReadTrusted(path, maxFile)
		if err != nil {
			return nil, fmt.Errorf("key of policies: %w", err)
		}
		if _, err := verify.ParsePolicyKeys(b); err != nil {
			return nil, fmt.Errorf("key of policies: %s: %w", path, err)
		}
		all = append(append(all, b...), '\n')
	}
	k, err := verify.ParsePolicyKeys(all)
	if err != nil {
		return nil, fmt.Errorf("keys of policies: %w", err)
	}
	k.Threshold, k.Least = s.Threshold, uint64(s.Number)
	return k, nil
}

// cacheEntries is how much each version of a policy remembers, of about 30 KB each.
const cacheEntries = 512

// CheckFiles reads the files that settings name.
func CheckFiles(s *settings.Settings) error {
	w := &Worker{store: new(store.Store)} // which nothing here uses
	_, err := newGeneration(w, s)
	return err
}
