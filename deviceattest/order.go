// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/keys"
)

// challengeType is the type of the challenge, and identifierType that of the identifier
// (draft-acme-device-attest).
const (
	challengeType  = "device-attest-01"
	identifierType = "permanent-identifier"
)

// pause is the time between two looks at what the server decides.
const pause = time.Second

// order is one order of ACME.
type order struct {
	agent        *client.Client
	key, account *client.Signer
	ak           *akCertificate
	terms        bool // accepted
	acme         *acme.Client
}

// place orders a certificate, and returns its chain.
func (o *order) place(ctx context.Context, directory *Server) ([][]byte, error) {
	h := newHTTP(directory)
	defer h.CloseIdleConnections()
	o.acme = &acme.Client{Key: o.account, DirectoryURL: directory.URL, HTTPClient: h, UserAgent: "agentd/" + version.Version}
	if err := o.register(ctx); err != nil {
		return nil, fmt.Errorf("account: %w", err)
	}
	placed, err := o.acme.AuthorizeOrder(ctx, []acme.AuthzID{{Type: identifierType, Value: o.ak.PermanentIdentifier}})
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	if len(placed.AuthzURLs) != 1 {
		return nil, fmt.Errorf("order: the server asks for %d authorizations, want one for one identifier", len(placed.AuthzURLs))
	}
	if err := o.authorize(ctx, placed.AuthzURLs[0]); err != nil {
		return nil, fmt.Errorf("authorization: %w", err)
	}
	ready, err := o.acme.WaitOrder(ctx, placed.URI)
	if err != nil {
		return nil, fmt.Errorf("order: %w", err)
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: o.ak.PermanentIdentifier}}, o.key)
	if err != nil {
		return nil, fmt.Errorf("request for a certificate: %w", err)
	}
	chain, _, err := o.acme.CreateOrderCert(ctx, ready.FinalizeURL, csr, true)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return chain, nil
}

// register finds the account of the key, or makes it.
func (o *order) register(ctx context.Context) error {
	d, err := o.acme.Discover(ctx)
	if err != nil {
		return err
	}
	if d.Terms != "" && !o.terms {
		return fmt.Errorf("the server has terms of service, %s: read them, and say that you accept them", text.Line(d.Terms))
	}
	_, err = o.acme.Register(ctx, new(acme.Account), acme.AcceptTOS)
	if errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil
	}
	return err
}

// authorize answers the challenge of an authorization, and waits for what the server says of it.
func (o *order) authorize(ctx context.Context, url string) error {
	z, err := o.acme.GetAuthorization(ctx, url)
	if err != nil {
		return err
	}
	challenge, err := find(z)
	if err != nil || z.Status == acme.StatusValid { // of an earlier order
		return err
	}
	if challenge.Payload, err = o.attest(ctx, challenge.Token); err != nil {
		return err
	}
	answered, err := o.acme.Accept(ctx, challenge)
	if err != nil {
		return err
	}
	return o.decided(ctx, url, z, answered)
}

// decided waits until the server has decided about an authorization, or about its challenge: a server may
// leave the authorization pending although the challenge failed.
func (o *order) decided(ctx context.Context, url string, z *acme.Authorization, answered *acme.Challenge) (err error) {
	for {
		switch {
		case answered.Status == acme.StatusInvalid && answered.Error != nil:
			return answered.Error
		case answered.Status == acme.StatusInvalid || z.Status == acme.StatusInvalid:
			return errors.New("the server refused the attestation, and gave no reason")
		case answered.Status == acme.StatusValid || z.Status == acme.StatusValid:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server did not decide in time: %w", ctx.Err())
		case <-time.After(pause):
		}
		if z, err = o.acme.GetAuthorization(ctx, url); err != nil {
			return err
		}
		if answered, err = find(z); err != nil {
			return err
		}
	}
}

func find(z *acme.Authorization) (*acme.Challenge, error) {
	var found []string
	for _, c := range z.Challenges {
		if c.Type == challengeType {
			return c, nil
		}
		found = append(found, c.Type)
	}
	return nil, fmt.Errorf("the server has the challenges %q, want %s: enable it there", found, challengeType)
}

// attest has the attestation key certify the key of the app over the key authorization of a challenge,
// and returns the payload of the answer.
func (o *order) attest(ctx context.Context, token string) ([]byte, error) {
	authorization, err := o.acme.HTTP01ChallengeResponse(token) // the key authorization of RFC 8555, section 8.1
	if err != nil {
		return nil, err
	}
	data := sha256.Sum256([]byte(authorization))
	k := o.key.Key()
	c, err := o.agent.Certify(ctx, api.CertifyRequest{Label: k.Label, Algorithm: k.Algorithm, Version: k.Version, Data: data[:]})
	if err != nil {
		return nil, fmt.Errorf("certify the key %q: %w", k.Label, err)
	}
	if err := o.compare(c); err != nil {
		return nil, err
	}
	x := object{chain: o.ak.Chain, public: c.Public, certified: c.Attest, signature: c.Signature}
	b, err := x.encode()
	if err != nil {
		return nil, err
	}
	return strictjson.Encode(struct {
		Object string `json:"attObj"`
	}{base64.RawURLEncoding.EncodeToString(b)})
}

// compare reports why what the agent certified does not fit to what was asked before. The server would
// refuse it too, with less to go by.
func (o *order) compare(c *api.Certified) error {
	own, err := x509.MarshalPKIXPublicKey(o.key.Public())
	if err != nil {
		return err
	}
	if !bytes.Equal(own, c.PublicKey) {
		return errors.New("the key in the TPM is another one than before: start again")
	}
	certificate, err := x509.ParseCertificate(o.ak.Chain[0])
	if err != nil {
		return fmt.Errorf("certificate of the attestation key: %w", err)
	}
	ak, err := keys.ParsePublic(c.AKPublic)
	if err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	public, err := ak.Key()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return err
	}
	if !bytes.Equal(der, certificate.RawSubjectPublicKeyInfo) {
		return errors.New("the certificate is of another attestation key than the agent's: it was replaced meanwhile, so start again")
	}
	return nil
}
