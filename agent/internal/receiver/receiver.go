// SPDX-License-Identifier: Apache-2.0

// Package receiver makes tickets, by which a relying party encrypts a secret for an application
// whose evidence it verified, and takes such secrets in: docs/delivery.md says how, and what each
// step withstands.
//
// The key of a ticket is in the memory of this process alone. It is gone when the ticket was used,
// has expired or was replaced, and when the agent ends.
package receiver

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
	"github.com/cvm-agentd/agentd/sealing"
)

// An Attester makes evidence.
type Attester interface {
	Attest(ctx context.Context, r api.EvidenceRequest, c evidence.Caller) ([][]byte, error)
}

// A Store keeps what root provisions for applications.
type Store interface {
	// Provisioned reports whether an app can have secrets of systemd, and has one of that name.
	Provisioned(ctx context.Context, app, name string) (bool, error)
	// Provision stores a secret, in the place of one of that name exactly if replace.
	Provision(ctx context.Context, app, name string, data *secret.Secret, replace bool) error
}

// Config is what a Receiver works with. All fields are required.
type Config struct {
	Store    Store
	Attester Attester
	// Measure measures an app now, and returns once the log has it.
	Measure func(ctx context.Context, app string) (api.App, error)
	Key     crypto.Signer // agent key
	Now     func() uint64 // milliseconds since the kernel started, which no program can set
	Log     *slog.Logger
}

// A Receiver answers administrators. Many goroutines may use it.
type Receiver struct {
	c Config
	book
}

// New returns a Receiver without tickets.
func New(c Config) *Receiver { return &Receiver{c: c, book: book{now: c.Now}} }

// Ticket makes a ticket, with evidence on behalf of caller.
func (r *Receiver) Ticket(ctx context.Context, q api.TicketRequest, caller evidence.Caller) (api.DeliveryTicket, error) {
	if err := check(&q); err != nil {
		return api.DeliveryTicket{}, err
	}
	if err := r.room(q.App, q.Name); err != nil {
		return api.DeliveryTicket{}, err
	}
	there, err := r.c.Store.Provisioned(ctx, q.App, q.Name)
	switch {
	case err != nil:
		return api.DeliveryTicket{}, err
	case there && !q.Replace:
		return api.DeliveryTicket{}, problem.New(api.CodeExists, fmt.Sprintf("app %s has a secret %q already: ask for a ticket that replaces it", q.App, q.Name))
	case !there && q.Replace:
		return api.DeliveryTicket{}, problem.New(api.CodeNotFound, fmt.Sprintf("app %s has no secret %q that could be replaced", q.App, q.Name))
	}
	is, err := r.measured(ctx, q.App)
	if err != nil {
		return api.DeliveryTicket{}, err
	}
	t := &delivery.Ticket{Challenge: delivery.Challenge(q.Challenge), App: q.App, Name: q.Name, Digest: is.digest, Replace: q.Replace, ValidFor: q.ValidFor, Sender: q.Sender}
	b, err := r.make(ctx, t, is.declaration, caller)
	if err != nil {
		return api.DeliveryTicket{}, err
	}
	id := t.ID()
	r.c.Log.Info("a ticket for a secret was made", "ticket", id.String(), "app", t.App, "name", t.Name, "seconds", t.ValidFor, "replaces", t.Replace, "sender", len(t.Sender) > 0)
	return api.DeliveryTicket{Ticket: b, ID: id, App: t.App, Name: t.Name, Digest: t.Digest, ValidFor: t.ValidFor}, nil
}

// check refuses requests whose members make no ticket.
func check(q *api.TicketRequest) error {
	if err := text.Check("app", q.App, 1, sealing.MaxName); err != nil {
		return problem.Invalid("/app", err.Error())
	}
	if err := unitname.CheckCredential(q.Name); err != nil {
		return problem.Invalid("/name", err.Error())
	}
	if err := text.Size("challenge", len(q.Challenge), delivery.ChallengeSize, delivery.ChallengeSize); err != nil {
		return problem.Invalid("/challenge", err.Error())
	}
	if q.ValidFor < 1 || q.ValidFor > delivery.MaxValidity {
		return problem.Invalid("/validFor", fmt.Sprintf("%d seconds, want 1 to %d", q.ValidFor, delivery.MaxValidity))
	}
	if (len(q.Sender) > 0) == q.AnySender {
		return problem.Invalid("/sender", "want the public key of the sender, or anySender: then any party that has the ticket can choose the secret")
	}
	if !q.AnySender {
		if err := delivery.CheckSender(q.Sender); err != nil {
			return problem.Invalid("/sender", err.Error())
		}
	}
	return nil
}

// content is what an app is: the digest of its manifest, and that of its declaration. The manifest
// does not name unit and user.
type content struct{ digest, declaration evidence.Digest }

// measured measures an app now, and returns what it is.
func (r *Receiver) measured(ctx context.Context, app string) (content, error) {
	a, err := r.c.Measure(ctx, app)
	if err != nil {
		return content{}, err
	}
	if a.State != api.AppMeasured || a.Digest == nil {
		return content{}, problem.New(api.CodeMeasureFailed, fmt.Sprintf("app %s is not measured: %s", app, a.Reason))
	}
	return content{*a.Digest, a.Declaration}, nil
}

// make gives a ticket a key, evidence and the signature of the agent key, and opens it for an app of
// this declaration.
func (r *Receiver) make(ctx context.Context, t *delivery.Ticket, declaration evidence.Digest, caller evidence.Caller) ([]byte, error) {
	began := r.c.Now() // the time counts from before the evidence
	seed, public, err := message.NewKey()
	if err != nil {
		return nil, err
	}
	t.Public = public
	id := t.ID()
	parts, err := r.c.Attester.Attest(ctx, api.EvidenceRequest{Nonce: t.Challenge[:], Audience: delivery.Audience, UserData: id[:],
		Freshness: evidence.Fresh, Log: api.LogWhole}, caller)
	if err != nil {
		seed.Wipe()
		return nil, err
	}
	t.Evidence = slices.Concat(parts...)
	if err := t.Vouch(r.c.Key); err != nil {
		seed.Wipe()
		return nil, fmt.Errorf("sign a ticket: %w", err)
	}
	b := t.Encode()
	if len(b) > delivery.MaxTicket {
		seed.Wipe()
		return nil, problem.New(api.CodeTransferTooLarge, fmt.Sprintf("the evidence of this machine has %d bytes, which is too much for a ticket", len(t.Evidence)))
	}
	t.Evidence = nil // the ticket is kept, and nothing asks for it again
	if err := r.add(&entry{ticket: t, declaration: declaration, seed: seed, ends: began + 1000*uint64(t.ValidFor)}); err != nil {
		seed.Wipe()
		return nil, err
	}
	return b, nil
}

// Receive stores the secret in a message of a relying party.
func (r *Receiver) Receive(ctx context.Context, b []byte) (api.ReceivedSecret, error) {
	s, err := delivery.ParseSealed(b)
	if err != nil {
		r.refuse(malformed)
		r.c.Log.Error("a delivered secret is refused", "error", err)
		return api.ReceivedSecret{}, err
	}
	out, bytes, err := r.receive(ctx, s)
	if err != nil {
		r.c.Log.Error("a delivered secret is refused", "ticket", s.Ticket.String(), "error", err)
		return api.ReceivedSecret{}, err
	}
	if !out.Again {
		r.c.Log.Info("a delivered secret was stored", "ticket", s.Ticket.String(), "app", out.App, "name", out.Name, "bytes", bytes, "replaced", out.Replaced)
	}
	return out, nil
}

// receive takes the ticket of a message, and gives it back if the message is not stored.
func (r *Receiver) receive(ctx context.Context, s *delivery.Sealed) (out api.ReceivedSecret, bytes int, err error) {
	digest := s.Digest()
	e, receipt, err := r.take(s.Ticket, digest)
	if err != nil {
		return out, 0, err
	}
	out = api.ReceivedSecret{ID: s.Ticket, App: e.ticket.App, Name: e.ticket.Name, Replaced: e.ticket.Replace}
	if receipt != nil {
		out.Receipt, out.Again = receipt, true
		return out, 0, nil
	}
	stored := false
	defer func() {
		if !stored { // also after a panic
			r.giveBack(e, digest, err)
		}
	}()
	if bytes, err = r.store(ctx, e, s); err != nil {
		return out, 0, err
	}
	stored = true
	// From here on the secret is stored: the ticket is used, whatever comes.
	answer := &delivery.Receipt{Ticket: s.Ticket, Sealed: digest}
	err = answer.Vouch(r.c.Key)
	out.Receipt = answer.Encode()
	r.used(e, digest, out.Receipt)
	return out, bytes, err
}

// store opens a message by its ticket, and stores the secret.
func (r *Receiver) store(ctx context.Context, e *entry, s *delivery.Sealed) (bytes int, err error) {
	t := e.ticket
	data, err := t.Open(s, e.seed)
	if err != nil {
		return 0, err
	}
	defer data.Wipe()
	is, err := r.measured(ctx, t.App)
	switch {
	case err != nil:
		return 0, err
	case is.digest != t.Digest:
		return 0, problem.New(api.CodeAppChanged, fmt.Sprintf("app %s was measured as %v when the ticket was made, and is %v now", t.App, t.Digest, is.digest))
	case is.declaration != e.declaration: // perhaps of another unit
		return 0, problem.New(api.CodeAppChanged, fmt.Sprintf("app %s had the declaration %v when the ticket was made, and has %v now", t.App, e.declaration, is.declaration))
	case r.expired(e): // measuring took long
		return 0, errExpired(t)
	}
	return data.Len(), r.c.Store.Provision(ctx, t.App, t.Name, data, t.Replace)
}

// errExpired says that the time of a ticket is over.
func errExpired(t *delivery.Ticket) error {
	return problem.New(api.CodeTicketExpired, fmt.Sprintf("the ticket for %q of app %s was valid for %d seconds", t.Name, t.App, t.ValidFor))
}

var errTaken = errors.New("another message by this ticket is being stored")
