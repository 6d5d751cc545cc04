// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// exchange is the part of a connection between TLS's handshake and the application's data
// (docs/attested-tls.md, section 5).
type exchange struct {
	c        *Conn
	e        *end
	state    *tls.ConnectionState
	exporter []byte
	out      []byte // frames to send with the next flush

	nonce   []byte    // of this end
	asked   time.Time // when this end chose it
	ruling  *ruling
	offered []*known // evidence that this end would go on with
	judged  *Verdict // that was accepted
	learned *learned // how the other end wants to be known again; nil if it does not, or if this end goes on with earlier evidence
	theirs  hello
	confirm []byte                  // of the verdict on this end's evidence
	slow    context.CancelCauseFunc // ends the exchange
	arrived func()                  // ends the time for large evidence
	large   func()                  // gives the place for large evidence back; nil without one
}

// run does the exchange, apart from the other end's start.
func (x *exchange) run(ctx context.Context) error {
	if err := x.checkTLS(); err != nil {
		return err
	}
	if x.e.role == roleClient {
		return x.client(ctx)
	}
	return x.server(ctx)
}

// checkTLS checks what section 2 asks of the connection.
func (x *exchange) checkTLS() (err error) {
	s := x.state
	switch {
	case s.Version != tls.VersionTLS13:
		return refuse(CodeTLS, "the connection is %s, want TLS 1.3", tls.VersionName(s.Version))
	case s.NegotiatedProtocol != Protocol:
		return refuse(CodeALPN, "the other end does not speak %s", Protocol)
	case s.DidResume:
		return refuse(CodeResumed, "the connection resumed an earlier one")
	}
	if x.exporter, err = exporter(s); err != nil {
		return refuse(CodeTLS, "%w", err)
	}
	return nil
}

func (x *exchange) client(ctx context.Context) error {
	if err := x.put(x.hello()); err != nil {
		return err
	}
	if err := x.readHello(ctx); err != nil {
		return err
	}
	if x.e.verifier != nil {
		if err := x.judge(ctx); err != nil {
			return err
		}
	}
	if x.theirs.Verify != nil {
		if err := x.attest(ctx); err != nil {
			return err
		}
	}
	return x.start()
}

func (x *exchange) server(ctx context.Context) error {
	if err := x.readHello(ctx); err != nil {
		return err
	}
	if err := x.put(x.hello()); err != nil {
		return err
	}
	if x.theirs.Verify != nil {
		if err := x.attest(ctx); err != nil {
			return err
		}
	}
	if x.e.verifier != nil {
		if err := x.judge(ctx); err != nil {
			return err
		}
	}
	return x.start()
}

// hello returns that of this end.
func (x *exchange) hello() *hello {
	m := &hello{Type: kindHello, Application: name(x.e.application), Attests: x.e.role == roleClient && x.e.attester != nil}
	if v := x.e.verifier; v != nil {
		x.ruling = v.current()
		x.nonce, x.asked = random(), v.options.Now()
		m.Verify = &wish{Role: x.e.role.other(), Nonce: x.nonce, Audience: name(v.options.Audience), Freshness: x.ruling.freshness, FirmwareLog: yes(x.ruling.firmwareLog)}
		if x.fresh() {
			m.Verify.Freshness = evidence.Fresh
		}
		m.Verify.Continue = x.offers()
	}
	return m
}

// random returns bytes for a nonce or for confirm.
func random() []byte {
	b := make([]byte, nonceSize)
	rand.Read(b)
	return b
}

// readHello reads and checks the hello of the other end.
func (x *exchange) readHello(ctx context.Context) error {
	if _, err := x.read(ctx, &x.theirs); err != nil {
		return err
	}
	h, w := &x.theirs, x.theirs.Verify
	switch {
	case x.e.role == roleClient && bool(h.Attests):
		return refuse(CodeMessage, "a server's hello has the member attests")
	case string(h.Application) != x.e.application:
		return refuse(CodeApplication, "the other end names the application protocol %q, this one %q", h.Application, x.e.application)
	case w == nil && x.e.verifier == nil:
		return refuse(CodeNothingVerified, "neither end verifies")
	case w != nil && w.Role != x.e.role:
		return refuse(CodeRole, "the other end wants evidence of a %s, and this end is the %s", w.Role, x.e.role)
	case w != nil && x.nonce != nil && bytes.Equal(w.Nonce, x.nonce):
		return refuse(CodeNonce, "the other end sent this end's nonce back")
	case w != nil && x.e.attester == nil:
		return refuse(CodeNotAttested, "the other end wants evidence, and this one does not attest")
	case x.e.role == roleServer && x.e.verifier != nil && !bool(h.Attests):
		return refuse(CodeNotAttested, "the client does not attest")
	case x.e.verifier != nil && len(x.state.PeerCertificates) == 0:
		return refuse(CodeCertificate, "the other end showed no certificate")
	}
	return nil
}

// start ends the exchange of this end.
func (x *exchange) start() error {
	if err := x.put(&start{Type: kindStart, Confirm: x.confirm}); err != nil {
		return err
	}
	x.c.begun = true
	return x.flush()
}

// put has a message sent with the next flush.
func (x *exchange) put(m any) error {
	b, err := encode(m)
	x.out = append(x.out, b...)
	return err
}

// flush sends what was put.
func (x *exchange) flush() error {
	if len(x.out) == 0 {
		return nil
	}
	_, err := x.c.tls.Write(x.out)
	x.out = nil
	return err
}

// read sends what was put, and reads the message that is due: one of into, whose place it returns.
func (x *exchange) read(ctx context.Context, into ...message) (which int, err error) {
	if err := x.flush(); err != nil {
		return 0, err
	}
	most, large := maxMessage, (func(int) error)(nil)
	if into[0].kind() == kindEvidence {
		most = (x.e.verifier.options.MaxEvidence+2)/3*4 + restOfFrame
		large = func(size int) error { return x.takeLarge(ctx, size) }
	}
	var f frame
	b, err := f.read(x.c.tls, most, large)
	if x.arrived != nil {
		x.arrived()
		x.arrived = nil
	}
	if err != nil {
		return 0, err
	}
	return decode(b, into...)
}

// takeLarge waits for a place for evidence of this size, and has the exchange end if that does not
// come in time. Judge gives the place back.
func (x *exchange) takeLarge(ctx context.Context, size int) error {
	from, all := origin(x.c.RemoteAddr()), x.e.verifier.large
	if err := all.take(ctx, from); err != nil {
		return refuse(CodeTimeout, "wait for one of %d places for evidence of more than %d bytes: %w", maxLarge, maxMessage, err)
	}
	late := time.AfterFunc(largeTime(size), func() { x.slow(errSlow) })
	x.arrived = func() { late.Stop() }
	x.large = func() { all.give(from) }
	return nil
}
