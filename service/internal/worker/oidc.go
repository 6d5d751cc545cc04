// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/service/internal/settings"
)

const (
	// maxIssued is the most that is read of one answer of an issuer, in bytes.
	maxIssued = 1 << 20
	// maxIDToken is the longest token of an issuer that is read, in bytes.
	maxIDToken = 12 << 10
	// issuerTimeout is how long an issuer may take for one answer.
	issuerTimeout = 5 * time.Second
	// issuerAge is how long keys of an issuer count that it may have withdrawn.
	issuerAge = time.Hour
)

// errIssuer says that the issuer could not be asked: another attempt can succeed.
var errIssuer = errors.New("the issuer of administrators' tokens does not answer")

// algorithms are those that a token may be signed with, whatever the issuer offers: the ones of RFC
// 7518, section 3.1, and RFC 8037, that need a public key.
var algorithms = []string{oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA, oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512}

// issuer verifies the ID tokens of administrators (OpenID Connect Core 1.0, section 3.1.3.7). It asks
// the issuer for its keys when the first token comes, so that the service starts without it.
type issuer struct {
	settings settings.OIDC
	client   *http.Client
	told     rate.Sometimes // anyone can send a token that is refused

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer answered; with mu
	asked    time.Time             // when it was made, with mu
}

// newIssuer returns nil if the settings name none.
func newIssuer(s settings.OIDC) (*issuer, error) {
	if s.Issuer == "" {
		return nil, nil
	}
	roots, err := authority(s.CA, "the issuer")
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute}
	// A token with an unknown key has the keys fetched, and anyone can send one.
	return &issuer{settings: s, told: rate.Sometimes{First: 5, Interval: time.Second / 2}, client: &http.Client{Timeout: issuerTimeout, Transport: &asking{transport, rate.NewLimiter(rate.Every(2*time.Second), 5)}}}, nil
}

// asking limits how often the issuer is asked, and how much it answers. It follows no redirection.
type asking struct {
	http.RoundTripper
	limit *rate.Limiter
}

// RoundTrip implements http.RoundTripper.
func (a *asking) RoundTrip(r *http.Request) (*http.Response, error) {
	if !a.limit.Allow() {
		return nil, fmt.Errorf("%w: it was asked too often just now", errIssuer)
	}
	answer, err := a.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIssuer, err)
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		return nil, fmt.Errorf("%w: %s answers %s", errIssuer, r.URL.Redacted(), answer.Status)
	}
	answer.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(answer.Body, maxIssued), answer.Body}
	return answer, nil
}

// verifierNow returns what verifies tokens, after the issuer was asked where its keys are.
func (i *issuer) verifierNow(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.verifier != nil && time.Since(i.asked) < issuerAge { // it keeps keys for as long as it is there
		return i.verifier, nil
	}
	ctx = oidc.ClientContext(ctx, i.client)
	provider, err := oidc.NewProvider(ctx, i.settings.Issuer)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errIssuer, err)
	}
	var document struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&document); err != nil {
		return nil, fmt.Errorf("%w: its document: %w", errIssuer, err)
	}
	if u, err := url.Parse(document.Keys); err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("%w: its document says that its keys are at %q, which is not https", errIssuer, document.Keys)
	}
	i.asked = time.Now()
	i.verifier = provider.VerifierContext(context.WithoutCancel(ctx), &oidc.Config{ClientID: i.settings.Audience, SupportedSigningAlgs: algorithms})
	return i.verifier, nil
}

// name returns the administrator that a token names, with the prefix by which records tell it from
// the common name of a certificate.
func (i *issuer) name(ctx context.Context, token string) (string, error) {
	if len(token) > maxIDToken {
		return "", fmt.Errorf("the token has %d bytes, at most %d are read", len(token), maxIDToken)
	}
	v, err := i.verifierNow(ctx)
	if err != nil {
		return "", err
	}
	t, err := v.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	name := t.Subject
	switch i.settings.Claim {
	case settings.ClaimEmail:
		var c struct {
			Email    string `json:"email"`
			Verified bool   `json:"email_verified"`
		}
		if err := t.Claims(&c); err != nil {
			return "", fmt.Errorf("the claims email and email_verified: %w", err)
		}
		if !c.Verified {
			return "", errors.New("the issuer has not verified the address: email_verified is not true")
		}
		name = c.Email
	case settings.ClaimSubject:
	}
	if name == "" || !slices.Contains(i.settings.Names, name) {
		return "", fmt.Errorf("its %s is not one of admin.oidc.names", i.settings.Claim)
	}
	return settings.OIDCPrefix + name, nil
}

// tell writes into the log why a token does not count, at most twice a second after the first five
// times. An error can contain what the issuer answered.
func (i *issuer) tell(log *slog.Logger, what string, err error) {
	i.told.Do(func() { log.Warn(what, "error", text.Fit(err.Error(), 400)) })
}

// bearer returns the token of a request (RFC 6750, section 2.1), and whether it has the header.
func bearer(r *http.Request) (token string, has bool) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", false
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") {
		return "", true
	}
	return strings.TrimSpace(token), true
}
