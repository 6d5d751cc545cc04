// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/carrier"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/verify"
)

// overConnection does a whole delivery over one connection: challenge, ticket, message, receipt.
func (d *sending) overConnection(ctx context.Context) error {
	if name := d.f.delivery; name != "" {
		if _, err := os.Lstat(name); err == nil { // before anything is asked of the machine
			return misuse(fmt.Errorf("%s exists: each delivery has a file of its own", name))
		}
	}
	var challenge delivery.Challenge
	rand.Read(challenge[:]) // never fails
	if err := d.prepare(challenge); err != nil {
		return err
	}
	began := time.Now()
	of, over := carrier.Policies(d.o.policy, d.f.unit)
	client, session, err := d.connect(ctx, over)
	if err != nil {
		return err
	}
	defer session.Close()
	b, err := session.Ticket(ctx, &delivery.Ask{Challenge: challenge, App: d.f.app, Name: d.name, Replace: d.f.replace})
	if err != nil {
		return ofCarrier(err)
	}
	ticket, verified, err := d.verify(b, of)
	if err != nil {
		return err
	}
	if err := sameAgent(session.Verdict(), verified); err != nil {
		return err
	}
	sealed, sent, err := d.seal(ctx, ticket, verified)
	if err != nil {
		return err
	}
	record := &heldRecord{Record: &delivery.Record{Type: delivery.RecordType, Challenge: challenge[:], Made: uint64(began.Unix()), Sent: sent}}
	if d.f.delivery != "" {
		if record, err = newRecord(d.f.delivery, record.Record); err != nil {
			return err
		}
	}
	receipt, err := client.Deliver(ctx, session, sealed, began.Add(time.Duration(ticket.ValidFor)*time.Second))
	if err != nil {
		return ofCarrier(err)
	}
	if err := checkReceipt(receipt, sent); err != nil {
		return err
	}
	if d.f.delivery != "" {
		record.Stored = true
		if err := record.write(); err != nil {
			return err
		}
	}
	return d.t.tellDelivered(sent)
}

// connect connects to the machine, and verifies it under a policy. What the folder of collateral has
// for the machine is known only once the machine has shown its report.
func (d *sending) connect(ctx context.Context, policy *verify.Policy) (*carrier.Client, *carrier.Session, error) {
	at := d.o.at
	for o, again := d.o, d.o.collateral != ""; ; again = false {
		v, err := attestedtls.NewVerifier(policy, attestedtls.VerifierOptions{Config: o.Config, JudgeOpen: true, Now: func() time.Time { return at }})
		if err != nil {
			return nil, nil, misuse(fmt.Errorf("%s: %w", d.f.policy, err))
		}
		client, err := carrier.NewClient(d.f.to, v, d.key.(ed25519.PrivateKey))
		if err != nil {
			return nil, nil, misuse(err)
		}
		session, err := client.Dial(ctx)
		if err == nil {
			return client, session, nil
		}
		e, refused := errors.AsType[*attestedtls.Error](err)
		if !again || !refused || e.Code != attestedtls.CodeCollateral || e.Verdict == nil {
			return nil, nil, d.refusedConnection(err)
		}
		if o, err = d.o.withCollateral(reportInEvidence(e.Verdict.Document)); err != nil {
			return nil, nil, err
		}
	}
}

// refusedConnection returns the exit for a connection that was not made.
func (d *sending) refusedConnection(err error) error {
	e, ok := errors.AsType[*attestedtls.Error](err)
	if !ok || e.Verdict == nil {
		return (&exitError{code: exitUnavailable, err: fmt.Errorf("connect to %s: %w", d.f.to, err)}).
			withHint("on the machine, `journalctl -u " + delivery.Unit + "` says whom it refused, and why")
	}
	x := &exitError{code: exitOf(e.Verdict.Appraisal, exitBinding), err: fmt.Errorf("the evidence of %s is refused: nothing was sent: %w", d.f.to, err)}
	if a := e.Verdict.Appraisal; a != nil {
		d.t.printAside(a)
		x.hint = refusedTicket(a, false)
	}
	return x
}

// sameAgent refuses a ticket of another agent than the one that showed evidence for the connection: a
// machine that passes tickets of others on.
func sameAgent(v *attestedtls.Verdict, verified *delivery.Verified) error {
	e, err := evidence.Parse(v.Document)
	if err != nil {
		return misuse(err)
	}
	if !bytes.Equal(e.AgentKey, verified.AgentKey) {
		return &exitError{code: exitBinding, err: errors.New("the ticket is of another agent than the one of the connection: nothing was sent"), hint: "if the agent was restarted just now, give the command again"}
	}
	return nil
}

// ofCarrier returns the exit for a message that was refused, or did not arrive.
func ofCarrier(err error) error {
	x := &exitError{code: exitUnavailable, err: err}
	if r, ok := errors.AsType[*carrier.RefusedError](err); ok {
		info := r.Code.Info()
		x = &exitError{code: info.Exit, err: fmt.Errorf("%s: %w", r.Code, err), found: r.Code, hint: info.Hint}
		if x.code == exitOK || x.code >= exitBinding && x.code < exitUnavailable { // a verdict, which the machine does not have
			x.code = exitMisuse
		}
	}
	if errors.Is(err, carrier.ErrNoReceipt) { // whatever was refused at last, an earlier attempt may have succeeded
		x.code, x.hint = exitUnavailable, "`agentctl secret list` on the machine shows it; deliver again with --replace if it is there"
	}
	return x
}
