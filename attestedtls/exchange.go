// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// exchange is the part of a connection between TLS's handshake and the application's data
// (docs/attested-tls.md, section 5).
type exchange struct {
	c        *Conn
	e        *end
	state    *tls.ConnectionState
	exporter []byte
	out      []byte // frames to send with the next flush

	nonce   []byte // of this end
	ruling  *ruling
	theirs  hello
	confirm []byte // of the verdict on this end's evidence
	large   bool   // has a turn for large evidence
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
	m := &hello{Type: kindHello, Application: x.e.application, Attests: x.e.role == roleClient && x.e.attester != nil}
	if v := x.e.verifier; v != nil {
		x.ruling = v.current()
		x.nonce = random()
		m.Verify = &wish{Role: x.e.role.other(), Nonce: x.nonce, Audience: v.options.Audience, Freshness: x.ruling.freshness, FirmwareLog: x.ruling.firmwareLog}
		if x.e.fresh {
			m.Verify.Freshness = evidence.Fresh
		}
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
	if err := x.read(ctx, kindHello, &x.theirs); err != nil {
		return err
	}
	h, w := &x.theirs, x.theirs.Verify
	switch {
	case x.e.role == roleClient && h.Attests:
		return refuse(CodeMessage, "a server's hello has the member attests")
	case h.Application != x.e.application:
		return refuse(CodeApplication, "the other end names the application protocol %q, this one %q", h.Application, x.e.application)
	case w == nil && x.e.verifier == nil:
		return refuse(CodeNothingVerified, "neither end verifies")
	case w != nil && w.Role != x.e.role:
		return refuse(CodeRole, "the other end wants evidence of a %s, and this end is the %s", w.Role, x.e.role)
	case w != nil && x.nonce != nil && bytes.Equal(w.Nonce, x.nonce):
		return refuse(CodeNonce, "the other end sent this end's nonce back")
	case w != nil && x.e.attester == nil:
		return refuse(CodeNotAttested, "the other end wants evidence, and this one does not attest")
	case x.e.role == roleServer && x.e.verifier != nil && !h.Attests:
		return refuse(CodeNotAttested, "the client does not attest")
	case x.e.verifier != nil && len(x.state.PeerCertificates) == 0:
		return refuse(CodeCertificate, "the other end showed no certificate")
	}
	return nil
}

// attest shows evidence, and reads the verdict on it.
func (x *exchange) attest(ctx context.Context) error {
	document, err := x.e.attester.show(ctx, x.theirs.Verify, x.c.local, x.exporter)
	if err != nil {
		return err
	}
	if err := x.put(&shown{Type: kindEvidence, Document: document}); err != nil {
		return err
	}
	var m verdict
	if err := x.read(ctx, kindVerdict, &m); err != nil {
		return err
	}
	if m.Evidence != sha256.Sum256(document) {
		return refuse(CodeEarlyData, "the verdict is not on the evidence of this end")
	}
	x.confirm = m.Confirm
	return nil
}

// judge reads the evidence of the other end, and puts the verdict on it.
func (x *exchange) judge(ctx context.Context) error {
	defer func() {
		if x.large {
			<-x.e.verifier.large
		}
	}()
	var m shown
	if err := x.read(ctx, kindEvidence, &m); err != nil {
		return err
	}
	key, err := publicKeyOf(x.state.PeerCertificates)
	if err != nil {
		return refuse(CodeCertificate, "%w", err)
	}
	v, other := x.e.verifier, x.e.role.other()
	expect := verify.Expect{Nonce: x.nonce, Audience: v.options.Audience, PublicKey: key, UserData: userData(other, x.exporter)}
	judged := v.judge(x.ruling, m.Document, expect, bound{role: other, exporter: x.exporter, fresh: x.e.fresh || x.ruling.freshness == evidence.Fresh})
	if err := x.e.decide(ctx, judged); err != nil {
		return err
	}
	x.c.verdict.Store(v.kept(judged))
	x.c.confirm = random()
	return x.put(&verdict{Type: kindVerdict, Evidence: sha256.Sum256(m.Document), Confirm: x.c.confirm})
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

// read sends what was put, and reads the message that is due.
func (x *exchange) read(ctx context.Context, due kind, into message) error {
	if err := x.flush(); err != nil {
		return err
	}
	most, large := maxMessage, (func() error)(nil)
	if due == kindEvidence {
		most = (x.e.verifier.options.MaxEvidence+2)/3*4 + restOfFrame
		large = func() error { return x.takeLarge(ctx) }
	}
	var f frame
	b, err := f.read(x.c.tls, most, large)
	if err != nil {
		return err
	}
	return decode(b, due, into)
}

// takeLarge waits for a turn for large evidence, which judge gives back.
func (x *exchange) takeLarge(ctx context.Context) error {
	turns := x.e.verifier.large
	select {
	case turns <- struct{}{}:
		x.large = true
		return nil
	case <-ctx.Done():
		return refuse(CodeBusy, "%d ends send evidence of more than %d bytes: %w", cap(turns), maxMessage, context.Cause(ctx))
	}
}
