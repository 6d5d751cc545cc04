// SPDX-License-Identifier: Apache-2.0

// Package kds fetches from AMD's key distribution service, and keeps the answers in a folder.
// They are certificates of chip keys, the certificates above them, and revocation lists (VCEK
// Certificate and KDS Interface Specification, publication 57230; VLEK, 58369).
//
// Every request is made once. The service allows one request for a chip's certificate in about
// ten seconds and then answers 429. A client that tries again at once is served later, not
// sooner. The answers are not trusted: the package only checks that they are what was asked
// for, to keep garbage out of the cache. Package verify decides.
package kds

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// DefaultTimeout is the time for one request and its answer.
const DefaultTimeout = 20 * time.Second

// A Client asks the service. The zero value asks that of AMD, over TLS.
type Client struct {
	Base    string        // address; if empty, [Base]
	Timeout time.Duration // time for one request; if 0, DefaultTimeout
	HTTP    *http.Client  // if nil, a client that follows no redirect
}

// A ThrottledError is the answer 429. Wait for RetryAfter before the next request.
type ThrottledError struct {
	URL        string
	RetryAfter time.Duration // 0 if the service did not say
}

func (e *ThrottledError) Error() string {
	if e.RetryAfter == 0 {
		return fmt.Sprintf("fetch %s: too many requests (429)", e.URL)
	}
	return fmt.Sprintf("fetch %s: too many requests (429): ask again in %v", e.URL, e.RetryAfter)
}

// A StatusError is any other answer but 200.
type StatusError struct {
	URL    string
	Status int
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("fetch %s: the service answered %d %s", e.URL, e.Status, http.StatusText(e.Status))
}

// VCEK fetches the certificate of the chip's key for this TCB, in DER. It checks that the
// certificate names that chip and TCB, but verifies no signature.
func (c *Client) VCEK(ctx context.Context, p snp.Product, chip []byte, t snp.TCB) ([]byte, error) {
	path, err := vcekPath(p, chip, t)
	if err != nil {
		return nil, err
	}
	der, err := c.get(ctx, path, snp.MaxCertificate)
	if err != nil {
		return nil, err
	}
	leaf, err := snp.ParseEndorsementKey(der)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	if leaf.Signer != snp.SignerVCEK || leaf.Product != p || leaf.TCB != t || !bytes.Equal(leaf.HWID, chip[:hwidSize(p)]) {
		return nil, fmt.Errorf("fetch %s: got the certificate of a %v of %v, TCB %v, which was not asked for", path, leaf.Signer, leaf.Product, leaf.TCB)
	}
	return der, nil
}

// Chain fetches the intermediate and the root above keys of this kind, in PEM.
func (c *Client) Chain(ctx context.Context, p snp.Product, s snp.Signer) ([]byte, error) {
	k, err := kind(s)
	if err != nil {
		return nil, err
	}
	path := "/" + k + "/v1/" + p.String() + "/cert_chain"
	b, err := c.get(ctx, path, 4*snp.MaxCertificate)
	if err != nil {
		return nil, err
	}
	if ders, err := snp.DecodeCertificates(b); err != nil || len(ders) != 2 {
		return nil, fmt.Errorf("fetch %s: %d certificates (%v), want 2", path, len(ders), err)
	}
	return b, nil
}

// RevocationList fetches the list by the root above keys of this kind, in DER.
func (c *Client) RevocationList(ctx context.Context, p snp.Product, s snp.Signer) ([]byte, error) {
	k, err := kind(s)
	if err != nil {
		return nil, err
	}
	path := "/" + k + "/v1/" + p.String() + "/crl"
	der, err := c.get(ctx, path, snp.MaxRevocationList)
	if err != nil {
		return nil, err
	}
	if _, err := snp.ParseRevocationList(der); err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	return der, nil
}

// plain follows no redirect: the service makes none, and an attacker could make one that
// leads anywhere.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func (c *Client) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	base, timeout, client := c.Base, c.Timeout, c.HTTP
	if base == "" {
		base = Base
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if client == nil {
		client = plain
	}
	address, err := join(base, path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", timeout)
		} else if u, ok := errors.AsType[*url.Error](err); ok {
			err = u.Err // without the address, which follows "fetch" already
		}
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusTooManyRequests:
		return nil, &ThrottledError{URL: address, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	default:
		return nil, &StatusError{URL: address, Status: resp.StatusCode}
	}
	b, err := durable.ReadAll(resp.Body, limit)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the answer did not end within %v", timeout)
		}
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	return b, nil
}

// longest is the longest wait that is believed if a service asks for it.
const longest = 24 * time.Hour

// retryAfter reads the header of that name (RFC 9110, section 10.2.3): seconds, or a date.
func retryAfter(s string, now time.Time) time.Duration {
	wait := time.Duration(0)
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(s); err == nil {
		wait = at.Sub(now).Round(time.Second)
	}
	return min(max(wait, 0), longest)
}
