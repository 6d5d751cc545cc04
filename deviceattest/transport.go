// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Limits of what a server sends, and of its time.
const (
	maxAnswer  = 4 << 20          // bytes of a body: an appraisal, or a chain
	maxHeaders = 64 << 10         // bytes
	stepTime   = 90 * time.Second // for one request
)

// newHTTP returns a client for a server. It follows no redirect, and reads no more than the limits.
func newHTTP(s *Server) *http.Client {
	config := &tls.Config{}
	if s.TLS != nil {
		config = s.TLS.Clone()
	}
	config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	return &http.Client{
		Timeout: stepTime,
		Transport: &limited{http.Transport{
			Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, MaxResponseHeaderBytes: maxHeaders, ForceAttemptHTTP2: true,
			DialContext:         (&net.Dialer{Timeout: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: stepTime, IdleConnTimeout: time.Minute,
		}},
		CheckRedirect: func(r *http.Request, _ []*http.Request) error {
			return fmt.Errorf("the server redirects to %s: name that address if it is right", r.URL.Redacted())
		},
	}
}

// limited refuses what is not HTTPS, also at addresses that a server names, and bodies that are too large.
type limited struct{ http.Transport }

// RoundTrip implements http.RoundTripper.
func (l *limited) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("the address %s is not of https", r.URL.Redacted())
	}
	a, err := l.Transport.RoundTrip(r)
	if err == nil {
		a.Body = &body{a.Body, maxAnswer}
	}
	return a, err
}

// body is that of an answer.
type body struct {
	io.ReadCloser
	left int64
}

var errLarge = errors.New("the server sent more than is read of an answer")

// Read implements io.Reader. More than the limit is an error, and not an end: a part of a document must
// not pass for the whole.
func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errLarge
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
