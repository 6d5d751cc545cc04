// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/deviceattest"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// message is a JSON document that an attacker changes on its way.
type message map[string]any

// change has f change a body, and its length.
func change(t *testing.T, body io.ReadCloser, f func(message)) (io.ReadCloser, int64) {
	t.Helper()
	var m message
	b, err := io.ReadAll(body)
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err == nil {
		f(m)
		b, err = json.Marshal(m)
	}
	if err != nil {
		t.Error(err)
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b))
}

// between returns a proxy to a server that changes requests and answers at a path. Nil changes nothing.
func between(t *testing.T, to string, through http.RoundTripper, path string, request, answer func(message)) http.Handler {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	return &httputil.ReverseProxy{
		Transport: through,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(u)
			if r.In.URL.Path == path && request != nil {
				r.Out.Body, r.Out.ContentLength = change(t, r.In.Body, request)
			}
		},
		ModifyResponse: func(r *http.Response) error {
			if r.Request.URL.Path == path && answer != nil && r.StatusCode == http.StatusOK {
				r.Body, r.ContentLength = change(t, r.Body, answer)
				r.Header.Del("Content-Length")
			}
			return nil
		},
	}
}

// authority has what the attestation authority answers changed.
func (b *bed) authority(c *deviceattest.Client, f func(certificate message)) {
	b.t.Helper()
	through := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(b.web)}}
	s := httptest.NewTLSServer(between(b.t, b.verifier, through, "/v1/appraisals", nil, func(m message) {
		if x, ok := m["akCertificate"].(map[string]any); ok {
			f(x)
		}
	}))
	b.t.Cleanup(func() { s.Close(); through.CloseIdleConnections() })
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	c.Authority = deviceattest.Server{URL: s.URL, TLS: &tls.Config{RootCAs: roots}}
}

// agent has what the agent is asked to certify, and what it answers, changed.
func (b *bed) agent(c *deviceattest.Client, request, answer func(message)) {
	b.t.Helper()
	through := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", b.machine.Socket())
	}}
	path := filepath.Join(b.machine.Dir, strings.ToLower(rand.Text()[:8])+".sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.t.Fatal(err)
	}
	s := &http.Server{Handler: between(b.t, "http://agentd", through, "/v1/keys/certify", request, answer), ReadHeaderTimeout: time.Minute}
	go s.Serve(l)
	b.t.Cleanup(func() { s.Close(); through.CloseIdleConnections() })
	c.Agent = &client.Client{Socket: path}
}

// reissue returns the certificate of an attestation key in a chain anew, with a change, by an authority.
func (b *bed) reissue(chain any, by *signer, key any, change func(*x509.Certificate)) any {
	b.t.Helper()
	var der [][]byte
	encoded, err := json.Marshal(chain)
	if err == nil {
		err = json.Unmarshal(encoded, &der)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	x, err := x509.ParseCertificate(der[0])
	if err != nil {
		b.t.Fatal(err)
	}
	if key == nil {
		key = x.PublicKey
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), NotBefore: x.NotBefore, NotAfter: x.NotAfter, KeyUsage: x.KeyUsage, BasicConstraintsValid: true, UnknownExtKeyUsage: x.UnknownExtKeyUsage,
		ExtraExtensions: slices.DeleteFunc(x.Extensions, func(e pkix.Extension) bool { return e.Id.String() != "2.5.29.17" })}
	change(template)
	leaf, err := x509.CreateCertificate(rand.Reader, template, by.x, key, by.key)
	if err != nil {
		b.t.Fatal(err)
	}
	return [][]byte{leaf, by.x.Raw}
}

// refused: step-ca refuses each attestation that does not fit, for the reason that is expected. Only
// that one thing differs from the attestation that it takes.
func (b *bed) refused(t *testing.T) {
	same := func(*x509.Certificate) {}
	var none *signer
	stranger := none.issue(t, "another root", nil)
	other := evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
	for name, x := range map[string]struct {
		prepare func(*deviceattest.Client)
		want    string
	}{
		"the certificate of the AK has expired": {func(c *deviceattest.Client) {
			b.authority(c, func(m message) {
				m["chain"] = b.reissue(m["chain"], b.vouching, nil, func(x *x509.Certificate) { x.NotAfter = time.Now().Add(-10 * time.Second) })
			})
		}, "expired"},
		"the certificate of the AK is of another root": {func(c *deviceattest.Client) {
			b.authority(c, func(m message) { m["chain"] = b.reissue(m["chain"], stranger, nil, same) })
		}, "unknown authority"},
		"the certificate of the AK is for another use": {func(c *deviceattest.Client) {
			b.authority(c, func(m message) {
				m["chain"] = b.reissue(m["chain"], b.vouching, nil, func(x *x509.Certificate) {
					x.UnknownExtKeyUsage, x.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
				})
			})
		}, "tcg-kp-AIKCertificate"},
		"the certificate is of the AK of another machine": {func(c *deviceattest.Client) {
			b.authority(c, func(m message) { m["chain"] = b.reissue(m["chain"], b.vouching, other.RSA.Public(), same) })
			b.agent(c, nil, func(m message) { m["akPublic"] = other.Public() }) // or the client would notice
		}, "could not verify attestation"},
		"the certification is over another key authorization": {func(c *deviceattest.Client) {
			b.agent(c, func(m message) { m["data"] = bytes.Repeat([]byte{1}, 32) }, nil)
		}, "key authorization invalid"},
		"the certified key is another one than that of the request": {func(c *deviceattest.Client) {
			own, err := b.obtain(b.client("agentd"))
			if err != nil {
				t.Fatal(err)
			}
			b.agent(c, func(m message) { m["label"] = "another" }, func(m message) { m["publicKey"] = own.Leaf.RawSubjectPublicKeyInfo }) // or the client would notice
		}, "csr does not match the attested key"},
		"the identifier is that of another machine": {func(c *deviceattest.Client) {
			b.authority(c, func(m message) { m["permanentIdentifier"] = strings.Repeat("0", 64) })
		}, "permanent identifier does not match"},
	} {
		t.Run(name, func(t *testing.T) {
			c := b.client("agentd")
			x.prepare(c)
			before := len(b.stepCA.Output())
			_, err := b.obtain(c)
			if err == nil || !strings.Contains(err.Error(), "urn:ietf:params:acme:error:") {
				t.Fatalf("%v, want %q", err, x.want)
			}
			// Of a request that does not fit, the client learns that it is refused, and the log why. That
			// is written after the answer was sent.
			said := func() string { return err.Error() + b.stepCA.Output()[before:] }
			for end := time.Now().Add(servers.Patience); !strings.Contains(said(), x.want); time.Sleep(10 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("%s\nwant %q", said(), x.want)
				}
			}
		})
	}
}

// notVouchedFor: without an accepting appraisal, under a policy that may lead to certificates, and without
// parts that fit together, the certification authority does not even get an attestation.
func (b *bed) notVouchedFor(t *testing.T) {
	c := b.client("agentd")
	c.Authority.URL = b.verifier + "/p/strict"
	_, err := b.obtain(c)
	if refused, is := errors.AsType[*deviceattest.RefusedError](err); !is || !strings.Contains(strings.Join(refused.Failed, " "), "policy.launch") {
		t.Errorf("another launch than the policy lists: %v", err)
	}
	for want, prepare := range map[string]func(*deviceattest.Client){
		"of another attestation key than the agent's": func(c *deviceattest.Client) {
			other := evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
			b.authority(c, func(m message) {
				m["chain"] = b.reissue(m["chain"], b.vouching, other.RSA.Public(), func(*x509.Certificate) {})
			})
		},
		"the key in the TPM is another one than before": func(c *deviceattest.Client) {
			b.agent(c, func(m message) { m["label"] = "another" }, nil)
		},
	} {
		c := b.client("agentd")
		prepare(c)
		if _, err := b.obtain(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	c.Authority.URL = b.verifier + "/p/other"
	_, err = b.obtain(c)
	if uncertified, is := errors.AsType[deviceattest.UncertifiedError](err); !is || !strings.Contains(string(uncertified), "under this policy") {
		t.Errorf("a policy that leads to no certificates: %v", err)
	}
}
