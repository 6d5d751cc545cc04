// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
)

// connectionAge is how old the report of a connection may be, if the policy does not say it. The ticket
// has a report of its own, which is as fresh as the policy demands.
const connectionAge = time.Hour

// Policies returns the policies for a ticket and for the connection that it comes over, from that of a
// relying party. Both demand that the caller is the unit that carries, if the policy names no caller. The
// connection's accepts an anchored report, and is not asked for what only a ticket can show.
func Policies(p *verify.Policy, unit string) (ticket, connection *verify.Policy) {
	of, over := *p, *p
	if of.Caller.Unit == "" && of.Caller.Container == "" {
		of.Caller.Unit = unit
	}
	over.Caller = of.Caller
	if cmp.Or(over.Freshness, verify.FreshReport) == verify.FreshReport {
		over.Freshness, over.MaxAnchorAge = verify.AnchoredReport, verify.Duration(connectionAge)
	}
	over.Continuation = ""
	return &of, &over
}

// Client is the end of the relying party.
type Client struct {
	Address  string        // HOST:PORT of the machine
	Patience time.Duration // for each answer; 0: what the server gives its agent, and a minute
	tls      *attestedtls.Client
}

// NewClient returns a client that verifies the connection by v, and proves that it has the sender's key.
func NewClient(address string, v *attestedtls.Verifier, sender ed25519.PrivateKey) (*Client, error) {
	certificate, err := certificateOf(sender)
	if err != nil {
		return nil, err
	}
	return &Client{Address: address, tls: &attestedtls.Client{
		TLS:            &tls.Config{Certificates: []tls.Certificate{*certificate}},
		AnyCertificate: true, // which machine it is, the policy says
		Verifier:       v, Application: delivery.Application,
	}}, nil
}

// certificateOf returns a certificate over the sender's key. Its key alone counts.
func certificateOf(key ed25519.PrivateKey) (*tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "agentd sender of secrets"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate over the sender's key: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// A Session is one connection. Both ends have accepted each other.
type Session struct {
	conn     *attestedtls.Conn
	patience time.Duration
}

// Dial connects, and verifies the machine.
func (c *Client) Dial(ctx context.Context) (*Session, error) {
	conn, err := c.tls.Dial(ctx, "tcp", c.Address)
	if err != nil {
		return nil, err
	}
	return &Session{conn, cmp.Or(c.Patience, agentTime+time.Minute)}, nil
}

// Verdict returns the verdict on the evidence of the connection.
func (s *Session) Verdict() *attestedtls.Verdict { return s.conn.Verdict() }

// Close ends the connection.
func (s *Session) Close() { s.conn.Close() }

// A RefusedError says that the machine refused, with a code that it chose. Nothing was proven by that.
type RefusedError struct{ Code api.Code }

func (e *RefusedError) Error() string { return "the machine refuses" }

// Unwrap returns the error that the code means.
func (e *RefusedError) Unwrap() error { return &sealing.Error{Code: e.Code} }

// exchange sends a message, and returns the answer of at most so many bytes.
func (s *Session) exchange(ctx context.Context, b []byte, most int) ([]byte, error) {
	s.conn.SetDeadline(time.Now().Add(s.patience))
	defer context.AfterFunc(ctx, func() { s.conn.SetDeadline(time.Unix(1, 0)) })()
	sent := write(s.conn, b)
	answer, err := read(s.conn, most) // also if it refused before it read all
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, cmp.Or(sent, err)
	case !delivery.IsRefusal(answer):
		return answer, sent
	}
	code, err := delivery.ParseRefusal(answer)
	if err != nil {
		return nil, err
	}
	return nil, &RefusedError{code}
}

// Ticket asks for a ticket, which is not verified.
func (s *Session) Ticket(ctx context.Context, a *delivery.Ask) ([]byte, error) {
	return s.exchange(ctx, a.Encode(), delivery.MaxTicket)
}

// Pauses between attempts to hand a message over.
const (
	firstPause   = 200 * time.Millisecond
	longestPause = 5 * time.Second
)

// ErrNoReceipt is returned if no receipt came for a message that may have arrived.
var ErrNoReceipt = errors.New("no receipt came: the secret may be stored or not")

// Deliver sends an encrypted secret, and returns the receipt, which is not verified. If the connection
// breaks, it sends the same message over another one, until the time is over by which the ticket ends.
// The agent stores a message once, and answers with its receipt each time.
func (c *Client) Deliver(ctx context.Context, s *Session, sealed []byte, until time.Time) (receipt []byte, err error) {
	perhaps := false // it may be stored
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if s != nil {
			receipt, err = s.exchange(ctx, sealed, delivery.MaxReceipt)
			s.Close()
			if err == nil {
				return receipt, nil
			}
			perhaps = perhaps || !surely(err)
		}
		if final(err) || ctx.Err() != nil || time.Now().Add(pause).After(until) {
			break
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		if s, err = c.Dial(ctx); err != nil {
			s = nil
		}
	}
	if perhaps {
		return nil, fmt.Errorf("%w: %w", ErrNoReceipt, err)
	}
	return nil, err
}

// unclear are codes of refusals after which the secret may be stored nevertheless.
var unclear = []api.Code{api.CodeInterrupted, api.CodeCounterLost, api.CodeInternal}

// surely reports whether an error says that nothing was stored.
func surely(err error) bool {
	r, ok := errors.AsType[*RefusedError](err)
	return ok && !slices.Contains(unclear, r.Code)
}

// final reports whether another attempt would not change an error.
func final(err error) bool {
	if r, ok := errors.AsType[*RefusedError](err); ok {
		return r.Code != api.CodeBusy && r.Code != api.CodeInterrupted
	}
	if e, ok := errors.AsType[*attestedtls.Error](err); ok {
		return e.Verdict != nil // the machine is another one now
	}
	return errors.Is(err, errLength)
}
