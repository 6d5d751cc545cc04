// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
)

// app is the application that the evidence has in its log.
var app = evidencetest.App("billing", "billing.service", "billing", "billing 1")

// policyOf lists the launch of package evidencetest, and the application with some digests.
func policyOf(tables string) string {
	return fmt.Sprintf("version = 1\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware+kernel+cmdline\"\n%s", hex.EncodeToString(evidencetest.Measurement), tables)
}

// listed is the rule of an application.
func listed(digest evidence.Digest, more string) string {
	return fmt.Sprintf("[[app]]\nname = \"billing\"\ndigests = [%q]\n%s", digest.String(), more)
}

// verifier returns that of a policy.
func verifier(t *testing.T, text string) *verify.Verifier {
	t.Helper()
	p, err := verify.ParsePolicy([]byte(text))
	must(t, err)
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}})
	must(t, err)
	return v
}

// made is a ticket as an agent makes it, from evidence that change has changed.
func made(t *testing.T, x *delivery.Ticket, change func(*evidencetest.Recipe)) *delivery.Ticket {
	t.Helper()
	_, key, err := message.NewKey()
	must(t, err)
	x.Public = key
	id := x.ID()
	r := evidencetest.New()
	s := &r.Statement
	s.Nonce, s.Audience, s.UserData, s.PublicKey = x.Challenge[:], delivery.Audience, id[:], nil
	s.Caller = evidence.Caller{UID: 0, GID: 0, PID: 77, Started: 60_000, Method: evidence.MethodPidfd}
	if change != nil {
		change(r)
	}
	x.Evidence = r.Encode(t)
	must(t, x.Vouch(r.AgentKey))
	return x
}

func ticketOf() *delivery.Ticket {
	return &delivery.Ticket{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password", Digest: app.App.Digest, ValidFor: 60}
}

// TestVerify: case 130. A ticket is accepted if the agent of evidence that the policy accepts made it
// for this request; each other one is refused by a code of its own.
func TestVerify(t *testing.T) {
	request := delivery.Request{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password"}
	good := verifier(t, policyOf(listed(app.App.Digest, "")))
	replaced := evidencetest.App("billing", "billing.service", "billing", "billing 2")
	for _, c := range []struct {
		what   string
		ticket *delivery.Ticket
		code   api.Code // empty: accepted
	}{
		{"good", made(t, ticketOf(), nil), ""},
		{"another challenge", made(t, with(func(x *delivery.Ticket) { x.Challenge[1]++ }), nil), api.CodeOtherTicket},
		{"another app", made(t, with(func(x *delivery.Ticket) { x.App = "ledger" }), nil), api.CodeOtherTicket},
		{"another name", made(t, with(func(x *delivery.Ticket) { x.Name = "token" }), nil), api.CodeOtherTicket},
		{"a replacement", made(t, with(func(x *delivery.Ticket) { x.Replace = true }), nil), api.CodeOtherTicket},
		{"a sender", made(t, with(func(x *delivery.Ticket) { x.Sender = public(sender) }), nil), api.CodeOtherTicket},
		{"evidence over another nonce", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.Statement.Nonce = evidencetest.Nonce }), api.CodeTicketForged},
		{"evidence for another audience", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.Statement.Audience = "agentd/upgrade/1" }), api.CodeTicketForged},
		{"evidence for no audience", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.Statement.Audience = "" }), api.CodeTicketForged},
		{"evidence of another ticket", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.Statement.UserData = make([]byte, 32) }), api.CodeTicketForged},
		{"another key than in the evidence", changed(made(t, ticketOf(), nil), func(x *delivery.Ticket) { x.Public[0] ^= 1 }), api.CodeTicketForged},
		{"another validity than in the evidence", changed(made(t, ticketOf(), nil), func(x *delivery.Ticket) { x.ValidFor++ }), api.CodeTicketForged},
		{"a changed signature", changed(made(t, ticketOf(), nil), func(x *delivery.Ticket) { x.Signature[0] ^= 1 }), api.CodeTicketForged},
		{"signed by another key", resigned(made(t, ticketOf(), nil), evidencetest.Key('b')), api.CodeTicketForged},
		{"another digest than the log", made(t, with(func(x *delivery.Ticket) { x.Digest[0] ^= 1 }), nil), api.CodeAppChanged},
		{"an app that the log does not have", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.Events = r.Events[:1] }), api.CodeAppChanged},
		{"no log", made(t, ticketOf(), func(r *evidencetest.Recipe) { r.NoLog = true }), api.CodeAppChanged},
		{"an app whose coverage ended", made(t, ticketOf(), func(r *evidencetest.Recipe) {
			r.Events = append(r.Events, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "overflow"}})
		}), api.CodeAppChanged},
	} {
		policy := good
		switch c.what { // which the policy does not ask for
		case "an app that the log does not have", "no log", "an app whose coverage ended":
			policy = verifier(t, strings.Replace(policyOf(""), "\n", "\nlog = \"optional\"\ntolerate_gaps = true\n", 1))
		}
		verified, err := request.Verify(c.ticket, policy, evidencetest.Time)
		switch {
		case c.code == "" && (err != nil || !verified.AgentKey.Equal(ed25519.PublicKey(public(agent)))):
			t.Errorf("%s: %v", c.what, err)
		case c.code != "" && sealing.CodeOf(err) != c.code:
			t.Errorf("%s: %v, want %s", c.what, err, c.code)
		}
	}
	// What the policy refuses stays the refusal of the verifier, with its checks.
	x := made(t, with(func(x *delivery.Ticket) { x.Digest = replaced.App.Digest }), func(r *evidencetest.Recipe) { r.Events = append(r.Events, replaced) })
	_, err := request.Verify(x, good, evidencetest.Time)
	if r, ok := errors.AsType[*verify.RefusedError](err); !ok || r.Appraisal.Class != verify.ClassPolicy {
		t.Errorf("a digest that the policy does not list: %v", err)
	}
}

// TestValidity: a ticket that is valid for longer than the relying party wants is refused.
func TestValidity(t *testing.T) {
	v := verifier(t, policyOf(listed(app.App.Digest, "")))
	for most, code := range map[uint32]api.Code{0: "", 60: "", 61: "", 59: api.CodeOtherTicket} {
		request := delivery.Request{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password", MaxValidity: most}
		if _, err := request.Verify(made(t, ticketOf(), nil), v, evidencetest.Time); sealing.CodeOf(err) != code || (err == nil) != (code == "") {
			t.Errorf("at most %d seconds: %v", most, err)
		}
	}
}

// TestKnownLog: a policy that wants a known history gets it from the relying party, or a word that a new one
// begins. The log of an accepted ticket is known the next time.
func TestKnownLog(t *testing.T) {
	v := verifier(t, strings.Replace(policyOf(listed(app.App.Digest, "")), "\n", "\ncontinuation = \"required\"\n", 1))
	verified := func(known *verify.LogState, begins bool) (*delivery.Verified, error) {
		request := delivery.Request{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password", Known: known, NewHistory: begins}
		return request.Verify(made(t, ticketOf(), nil), v, evidencetest.Time)
	}
	if _, err := verified(nil, false); err == nil {
		t.Error("no known log")
	}
	first, err := verified(nil, true)
	must(t, err)
	if first.Log == nil || first.Log.Head.Count == 0 {
		t.Fatalf("the log is %+v", first.Log)
	}
	_, err = verified(first.Log, false)
	must(t, err)
	other := *first.Log
	other.Head.Digest[0] ^= 1
	if _, err := verified(&other, false); err == nil {
		t.Error("a log that does not continue the known one")
	}
}

// TestNotForged: evidence whose nonce, audience or user data could not be compared, since it is broken before, is
// not said to be of another ticket: that is the refusal of the verifier.
func TestNotForged(t *testing.T) {
	request := delivery.Request{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password"}
	x := made(t, ticketOf(), nil)
	x.Evidence = []byte("{}")
	_, err := request.Verify(x, verifier(t, policyOf(listed(app.App.Digest, ""))), evidencetest.Time)
	r, ok := errors.AsType[*verify.RefusedError](err)
	if !ok || r.Appraisal.Class != verify.ClassBinding {
		t.Errorf("%v", err)
	}
}

// TestLocalProgram: case 130. A program on the machine, of an agent that gives any audience to its
// clients, has evidence over a key of its own, and no signature of the agent key for the ticket: what
// the agent key signs for clients does not pass for one.
func TestLocalProgram(t *testing.T) {
	request := delivery.Request{Challenge: delivery.Challenge{7}, App: "billing", Name: "db-password"}
	v := verifier(t, policyOf(listed(app.App.Digest, "")))
	x := made(t, ticketOf(), nil)
	e, err := evidence.Parse(x.Evidence)
	must(t, err)
	for name, signature := range map[string][]byte{"its own": ed25519.Sign(evidencetest.Key('x'), []byte("any")), "that of the batch": e.AgentSignature, "none": make([]byte, 64)} {
		y := *x
		y.Signature = signature
		if _, err := request.Verify(&y, v, evidencetest.Time); !errors.Is(err, api.CodeTicketForged) {
			t.Errorf("signature %s: %v", name, err)
		}
	}
}

// TestPolicyNamesTheApp: a policy under which any program could be the application is not used.
func TestPolicyNamesTheApp(t *testing.T) {
	request := delivery.Request{App: "billing"}
	for text, ok := range map[string]bool{
		policyOf(listed(app.App.Digest, "")):                   true,
		policyOf(listed(app.App.Digest, "required = false\n")): false,
		policyOf(""): false,
		policyOf(strings.ReplaceAll(listed(app.App.Digest, ""), "billing", "ledger")): false,
	} {
		p, err := verify.ParsePolicy([]byte(text))
		must(t, err)
		if err := request.CheckPolicy(p); (err == nil) != ok || err != nil && !errors.Is(err, delivery.ErrNoRule) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// with is a ticket for something else.
func with(change func(*delivery.Ticket)) *delivery.Ticket { return changed(ticketOf(), change) }

// changed is a ticket that was changed.
func changed(x *delivery.Ticket, change func(*delivery.Ticket)) *delivery.Ticket {
	change(x)
	return x
}

// resigned is a ticket that another key signed.
func resigned(x *delivery.Ticket, key ed25519.PrivateKey) *delivery.Ticket {
	if err := x.Vouch(key); err != nil {
		panic(err)
	}
	return x
}
