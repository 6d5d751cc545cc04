// SPDX-License-Identifier: Apache-2.0

// Package collateral fetches from AMD's key distribution service what a verifier needs besides
// evidence: certificates of chip keys, the certificates above them, and revocation lists (VCEK
// Certificate and KDS Interface Specification, publication 57230; VLEK, 58369). Package verify
// never uses the network.
//
//	folder, err := collateral.OpenFolder("/var/lib/verifier/collateral")
//	...
//	fetcher := collateral.New(folder, collateral.Client{})
//	_, err = fetcher.Fetch(ctx, report, snp.ProductUnknown, now) // one request for each file that is missing
//	...
//	found, err := fetcher.For(ctx, report) // asks no service
//	...
//	expect.Certificates = found.Certificates
//
// Every request is made once. The service allows one request for a chip's certificate in about
// ten seconds and then answers 429 ([ThrottledError]). A client that tries again at once is served
// later, not sooner. The answers are not trusted: the package only checks that they are what was
// asked for, to keep garbage out of the store. Package verify decides.
package collateral

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// DefaultTimeout is the time for one request and its answer.
const DefaultTimeout = 20 * time.Second

// A Client asks the service. The zero value asks that of AMD, over TLS, through the proxy that the
// environment names (HTTPS_PROXY). Many goroutines may use one.
type Client struct {
	Base    string        // address; if empty, [Base]
	Timeout time.Duration // time for one request; if 0, DefaultTimeout
	HTTP    *http.Client  // for another proxy or other roots; unless it says otherwise, it follows no redirect

	header http.Header // of each request
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
	URL      string
	Status   int
	Location string // address that it sends to, which is not followed; may be empty
}

func (e *StatusError) Error() string {
	said := fmt.Sprintf("fetch %s: the service answered %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Location == "" {
		return said
	}
	return fmt.Sprintf("%s, and sends to %q, which the service never does: %s", said, shortened(e.Location), todoBetween)
}

// todoBetween is what to do if something else than the service answered.
const todoBetween = "a proxy or a login page in between answers: log in, or fetch from another network"

// A PageError is an answer that is not what was asked for. It names the host: what is in
// between answers in its name.
type PageError struct {
	URL   string
	Type  string // Content-Type of the answer
	Begin string // its first bytes
	Err   error  // why it cannot be read
	Other bool   // it can be read, and does not fit the report
}

func (e *PageError) Error() string {
	host := e.URL
	if u, err := url.Parse(e.URL); err == nil {
		host = u.Host
	}
	if e.page() {
		return fmt.Sprintf("fetch %s: %s answered with a web page (%q), and not with what was asked for: %s", e.URL, host, e.Begin, todoBetween)
	}
	return fmt.Sprintf("fetch %s: %s answered with %q that begins %q: %v", e.URL, host, e.Type, e.Begin, e.Err)
}

func (e *PageError) Unwrap() error { return e.Err }

func (e *PageError) page() bool {
	return strings.HasPrefix(strings.ToLower(e.Type), "text/html") || strings.HasPrefix(e.Begin, "<")
}

// shortened returns the beginning of s, for an error.
func shortened(s string) string {
	const most = 80
	return strings.ToValidUTF8(s[:min(len(s), most)], "?")
}

// VCEK fetches the certificate of the chip's key for this TCB, in DER. It checks that the
// certificate names that chip and TCB, but verifies no signature.
func (c *Client) VCEK(ctx context.Context, p snp.Product, chip []byte, t snp.TCB) ([]byte, error) {
	path, err := vcekPath(p, chip, t)
	if err != nil {
		return nil, err
	}
	return c.get(ctx, path, snp.MaxCertificate, func(der []byte) error {
		leaf, err := snp.ParseEndorsementKey(der)
		if err != nil {
			return err
		}
		if leaf.Signer != snp.SignerVCEK || leaf.Product != p || leaf.TCB != t || !bytes.Equal(leaf.HWID, chip[:hwidSize(p)]) {
			return fmt.Errorf("it is the certificate of a %v of %v, TCB %v, which was not asked for", leaf.Signer, leaf.Product, leaf.TCB)
		}
		return nil
	})
}

// Chain fetches the intermediate and the root above keys of this kind, in PEM.
func (c *Client) Chain(ctx context.Context, p snp.Product, s snp.Signer) ([]byte, error) {
	k, err := kind(s)
	if err != nil {
		return nil, err
	}
	path := "/" + k + "/v1/" + p.String() + "/cert_chain"
	return c.get(ctx, path, 4*snp.MaxCertificate, func(b []byte) error {
		ders, err := snp.DecodeCertificates(b)
		if err == nil && len(ders) != 2 {
			err = fmt.Errorf("%d certificates, want 2", len(ders))
		}
		return err
	})
}

// RevocationList fetches the list by the root above keys of this kind, in DER.
func (c *Client) RevocationList(ctx context.Context, p snp.Product, s snp.Signer) ([]byte, error) {
	k, err := kind(s)
	if err != nil {
		return nil, err
	}
	path := "/" + k + "/v1/" + p.String() + "/crl"
	return c.get(ctx, path, snp.MaxRevocationList, func(der []byte) error {
		_, err := snp.ParseRevocationList(der)
		return err
	})
}

// plain follows no redirect: the service makes none, and an attacker could make one that
// leads anywhere.
var plain = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// settings returns what c says, and the defaults for what it does not.
func (c *Client) settings() (base string, timeout time.Duration, client *http.Client) {
	base, timeout, client = c.Base, c.Timeout, c.HTTP
	if base == "" {
		base = Base
	}
	if timeout <= 0 {
		timeout = DefaultTimeout
	}
	if client == nil {
		client = plain
	} else if client.CheckRedirect == nil {
		strict := *client
		strict.CheckRedirect = plain.CheckRedirect
		client = &strict
	}
	return base, timeout, client
}

// get fetches path, and checks with parse that the answer is of the kind that was asked for.
func (c *Client) get(ctx context.Context, path string, limit int64, parse func([]byte) error) ([]byte, error) {
	base, timeout, client := c.settings()
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
	req.Header = c.header.Clone()
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
		return nil, &StatusError{URL: address, Status: resp.StatusCode, Location: resp.Header.Get("Location")}
	}
	body := bufio.NewReaderSize(resp.Body, beginning)
	begin, failed := body.Peek(beginning)
	page := &PageError{URL: address, Type: shortened(resp.Header.Get("Content-Type")), Begin: shortened(strings.TrimSpace(string(begin)))}
	if page.page() { // whatever its size
		return nil, page
	}
	b, err := durable.ReadAll(body, limit)
	if failed != nil && !errors.Is(failed, io.EOF) {
		err = failed // it comes only once
	}
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("the answer did not end within %v", timeout)
		}
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	if page.Err = parse(b); page.Err != nil {
		return nil, page
	}
	return b, nil
}

// beginning is how many bytes of an answer tell what it is.
const beginning = 256

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
