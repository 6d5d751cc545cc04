// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// TestVersion: a connection of another version of TLS is refused, also if a configuration let it come
// about.
func TestVersion(t *testing.T) {
	x := &exchange{state: &tls.ConnectionState{Version: tls.VersionTLS12, NegotiatedProtocol: Protocol}}
	has(t, x.checkTLS(), CodeTLS, false)
}

// TestMessageShapes: messages of the other end that are not as they must be.
func TestMessageShapes(t *testing.T) {
	for _, text := range []string{
		`{"type":"evidence","document":""}`, `{"type":"evidence"}`, `{"type":"verdict","evidence":"` + strings.Repeat("A", 43) + `=","confirm":"` + strings.Repeat("A", 43) + `="}`,
		`{"type":"refused","code":""}`, `{"type":"refused","code":"Policy"}`, `{"type":"refused","code":"` + strings.Repeat("a", 33) + `"}`,
		strings.Replace(wished(`"continue":[]`), `"server"`, `"observer"`, 1), strings.Replace(wished(`"continue":[]`), `"anchored"`, `"stale"`, 1),
	} {
		_, err := decode([]byte(text), new(hello), new(shown), new(verdict))
		has(t, err, CodeMessage, false)
	}
	_, err := decode([]byte(`{"type":"refused","code":"`+strings.Repeat("a", 32)+`"}`), new(hello))
	has(t, err, Code(strings.Repeat("a", 32)), true)
}

// TestAgentErrors: what the agent answers in place of evidence has a code.
func TestAgentErrors(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		ctx  context.Context
		err  error
		want Code
	}{
		{ended, &api.Problem{Code: api.CodeBusy}, CodeTimeout},
		{t.Context(), &api.Problem{Code: api.CodeBusy}, CodeBusy}, {t.Context(), &api.Problem{Code: api.CodeThrottled}, CodeBusy},
		{t.Context(), &api.Problem{Code: api.CodeConnections}, CodeBusy}, {t.Context(), &api.Problem{Code: api.CodeTPM}, CodeAgent},
	} {
		has(t, agentError(c.ctx, c.err), c.want, false)
	}
}

// TestAttesterOwn: an attester without an agent asks the one of the machine. It names the key of any
// certificate, and proves that it has it.
func TestAttesterOwn(t *testing.T) {
	var a Attester
	a.init()
	if _, is := a.agent.(*client.Client); !is {
		t.Errorf("asks %T", a.agent)
	}
	own := certificates(t)[0]
	want := own.Leaf.RawSubjectPublicKeyInfo
	own.Leaf = nil
	if got, err := publicKey(&own); err != nil || string(got) != string(want) {
		t.Errorf("%x, %v", got, err)
	}
	for _, c := range []*tls.Certificate{nil, {}, {Certificate: [][]byte{{1}}}} {
		if _, err := publicKey(c); err == nil {
			t.Error("a certificate that is not one has a key")
		}
	}
	conn, _, ours, theirs := meet(t, &Client{AnyCertificate: true, Verifier: usual(t)}, &Server{Attester: attests(t, nil)})
	if err := errors.Join(ours, theirs); err != nil {
		t.Fatal(err)
	}
	if got := conn.Verdict().Appraisal.Check("statement.key-proof").Verdict; got != verify.Pass {
		t.Errorf("the proof of possession: %v", got)
	}
}

// TestLargeArrived: the time for large evidence ends when that is there. A hook may take longer.
func TestLargeArrived(t *testing.T) {
	t.Parallel()
	_, s := honest(t, func(r *evidencetest.Recipe) { r.FirmwareLog = make([]byte, 100<<10) })
	roots, leaf := authority(t)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	c := &Client{TLS: &tls.Config{RootCAs: roots}, Verifier: usual(t)}
	c.Hook = func(ctx context.Context, v *Verdict) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(largeTime(2 * len(v.Document))):
			return nil
		}
	}
	if _, _, ours, theirs := meet(t, c, s); ours != nil || theirs != nil {
		t.Errorf("%v, %v", ours, theirs)
	}
}
