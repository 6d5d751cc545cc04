// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

// accountLabel returns the label of the key of the account at an ACME server. Each directory has a key of
// its own: step-ca takes one key for one account of all its provisioners, and then refuses the orders at
// the others.
func accountLabel(directory string) string { return "acme-account " + directory }

// patience is how long Obtain takes at most.
const patience = 5 * time.Minute

// Server is a server of HTTPS.
type Server struct {
	URL string
	// TLS has the authorities of the server, and a certificate if it asks for one. nil: the
	// authorities of the system.
	TLS *tls.Config
}

// Client gets certificates. It must not be changed while it is used.
type Client struct {
	Agent     *client.Client // nil: the zero value
	Authority Server         // attestation authority; the URL is that before "/v1/", so of agentd-verifier it may name a policy
	Directory Server         // of ACME; the URL is that of the directory

	Label   string // of the app's key in the TPM, which is made if there is none
	Version uint32 // of the app's root; 0: the current one
	Account string // label of the key of the ACME account; empty: "acme-account " and the URL of the directory

	// Identifier is the permanent identifier that the certificate must be for. Empty: the one that
	// the attestation authority gives to this machine.
	Identifier string
	// AcceptTerms says that the terms of service of the ACME server are accepted, if it has any.
	AcceptTerms bool
}

// Obtain gets a certificate, with fresh evidence. It takes five minutes at most. Its PrivateKey signs by
// the agent, so it works while the agent does.
//
// An error is a [*RefusedError] if the evidence is not accepted, and an [UncertifiedError] if accepted
// evidence leads to no certificate of the attestation key. What the ACME server refuses is an error of
// golang.org/x/crypto/acme.
func (c *Client) Obtain(ctx context.Context) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	agent := cmp.Or(c.Agent, new(client.Client))
	key, err := client.NewSigner(ctx, agent, api.SigningKey{Label: c.Label, Algorithm: api.SignTPMP256, Version: c.Version})
	if err != nil {
		return nil, fmt.Errorf("key %q in the TPM: %w", c.Label, err)
	}
	account, err := client.NewSigner(ctx, agent, api.SigningKey{Label: cmp.Or(c.Account, accountLabel(c.Directory.URL)), Algorithm: api.SignP256, Version: c.Version})
	if err != nil {
		return nil, fmt.Errorf("key of the ACME account: %w", err)
	}
	ak, err := c.certifyAK(ctx, agent, key.Key())
	if err != nil {
		return nil, err
	}
	if c.Identifier != "" && ak.PermanentIdentifier != c.Identifier {
		return nil, fmt.Errorf("the attestation authority names this machine %q, want %q", ak.PermanentIdentifier, c.Identifier)
	}
	o := &order{agent: agent, key: key, account: account, ak: ak, terms: c.AcceptTerms}
	chain, err := o.place(ctx, &c.Directory)
	if err != nil {
		return nil, fmt.Errorf("ACME server %s: %w", c.Directory.URL, err)
	}
	leaf, err := check(chain, key.Public(), time.Now())
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", c.Directory.URL, err)
	}
	return &tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// check returns the first certificate of a chain. A certificate of another key would only fail later, and
// in another program.
func check(chain [][]byte, key crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	var leaf, last *x509.Certificate
	for _, der := range chain {
		x, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		if leaf == nil {
			leaf = x
		}
		if last != nil {
			if err := last.CheckSignatureFrom(x); err != nil {
				return nil, fmt.Errorf("its chain is broken: %w", err)
			}
		}
		last = x
	}
	if leaf == nil {
		return nil, errors.New("there is none")
	}
	own, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(own, leaf.RawSubjectPublicKeyInfo) {
		return nil, errors.New("it is for another key than that of the request")
	}
	if !now.Before(leaf.NotAfter) {
		return nil, fmt.Errorf("it ended at %s", leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	return leaf, nil
}

// RenewAt returns when a certificate is to be renewed: after two thirds of its time.
func RenewAt(x *x509.Certificate) time.Time {
	return x.NotBefore.Add(x.NotAfter.Sub(x.NotBefore) / 3 * 2)
}
