// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
)

// sendFlags are the flags of send.
type sendFlags struct {
	appraisalFlags
	delivery, ticket, app, to, senderKey, out, unit string
	replace                                         bool
	maxAge, maxValidity                             time.Duration
	log                                             logFlags
}

// byFiles is the value of --to without a connection.
const byFiles = "-"

func secretSend(t *terminal) *cobra.Command {
	var f sendFlags
	names := func(c *cobra.Command, args []string) error { return arguments("NAME")(c, args[:min(len(args), 1)]) }
	c := command("send", secretSendUsage, names, func(c *cobra.Command, args []string) error {
		if len(args) > 2 {
			return misuse(fmt.Errorf("unexpected argument %q", args[2])).withHint(helpHint(c))
		}
		if err := f.check(c, t.screen); err != nil {
			return err
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		d := &sending{t: t, f: &f, name: args[0], file: "-"}
		if len(args) == 2 {
			d.file = args[1]
		}
		if f.to != byFiles {
			return d.overConnection(c.Context())
		}
		b, err := d.byFiles(c.Context())
		if err != nil {
			return err
		}
		return t.writeOutput(f.out, b)
	})
	f.trustFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "")
	f.policyKeys.add(flags)
	flags.StringVar(&f.enrolments, "enrolments", "", "")
	flags.StringVar(&f.delivery, "delivery", "", "")
	flags.StringVar(&f.ticket, "ticket", "", "")
	flags.StringVar(&f.app, "app", "", "")
	flags.StringVar(&f.to, "to", byFiles, "")
	flags.StringVar(&f.senderKey, "sender-key", "", "")
	flags.StringVar(&f.unit, "unit", delivery.Unit, "")
	flags.BoolVar(&f.replace, "replace", false, "")
	flags.DurationVar(&f.maxAge, "max-age", time.Hour, "")
	flags.DurationVar(&f.maxValidity, "max-validity", time.Hour, "")
	flags.StringVar(&f.log.known, "known-log", "", "")
	flags.StringVar(&f.log.save, "save-log", "", "")
	flags.BoolVar(&f.log.replace, "replace-known-log", false, "")
	flags.StringVar(&f.out, "out", "", "")
	c.Annotations = map[string]string{implied: "the secret, without FILE after NAME,"}
	return c
}

// check refuses flags that do not go together. Screen says that standard output is a terminal.
func (f *sendFlags) check(c *cobra.Command, screen bool) error {
	if err := required(c, "policy", "app"); err != nil {
		return err
	}
	if err := f.log.check(); err != nil {
		return misuse(err).withHint(helpHint(c))
	}
	if f.maxValidity < time.Second || f.maxValidity > delivery.MaxValidity*time.Second {
		return misuse(fmt.Errorf("--max-validity %v: want 1s to 24h", f.maxValidity))
	}
	if f.to == byFiles {
		if c.Flags().Changed("unit") {
			return misuse(errors.New("--unit is for --to HOST:PORT: by files, root asks for the ticket, in any unit")).withHint(helpHint(c))
		}
		if err := required(c, "delivery", "ticket"); err != nil {
			return err
		}
		if screen && (f.out == "" || f.out == "-") { // before the delivery is used up
			return misuse(errBinary)
		}
		return nil
	}
	if _, _, err := net.SplitHostPort(f.to); err != nil {
		return misuse(fmt.Errorf("--to %q: want HOST:PORT, or - for files", f.to)).withHint(helpHint(c))
	}
	for _, name := range []string{"ticket", "out", "max-age"} {
		if c.Flags().Changed(name) {
			return misuse(fmt.Errorf("--%s is for a delivery by files: over a connection, challenge, ticket and message come and go by themselves", name)).withHint(helpHint(c))
		}
	}
	return required(c, "sender-key")
}

// sending is one use of send.
type sending struct {
	t    *terminal
	f    *sendFlags
	name string // of the secret
	file string // that has it

	o       *appraisalInputs
	key     crypto.Signer
	request delivery.Request
}

// prepare reads key, policy and what is known of the machine.
func (d *sending) prepare(challenge delivery.Challenge) (err error) {
	f := d.f
	d.request = delivery.Request{Challenge: challenge, App: f.app, Name: d.name, Replace: f.replace, MaxValidity: uint32(f.maxValidity / time.Second), NewHistory: f.log.replace}
	if d.key, err = d.t.senderKey(f.senderKey, &d.request); err != nil {
		return err
	}
	if f.log.known != "" {
		if d.request.Known, err = readDocument[verify.LogState](d.t, f.log.known, evidence.MaxEvidence); err != nil {
			return err
		}
	}
	if d.o, err = d.t.appraisalInputs(&f.appraisalFlags); err != nil {
		return err
	}
	if err := d.request.CheckPolicy(d.o.policy); err != nil {
		return misuse(fmt.Errorf("%s: %w", f.policy, err)).withHint("`agentctl policy add-digest` lists an application")
	}
	return nil
}

// byFiles verifies a ticket, and returns the message with the secret. The file of the delivery says
// that it was sent before the message exists.
func (d *sending) byFiles(ctx context.Context) ([]byte, error) {
	record, err := holdRecord(d.f.delivery)
	if err != nil {
		return nil, err
	}
	defer record.Close()
	if err := record.unsent(d.f.maxAge); err != nil {
		return nil, err
	}
	if err := d.prepare(delivery.Challenge(record.Challenge)); err != nil {
		return nil, err
	}
	b, err := d.t.readInput(d.f.ticket, delivery.MaxTicket)
	if err != nil {
		return nil, err
	}
	ticket, verified, err := d.verify(b, d.o.policy)
	if err != nil {
		return nil, err
	}
	sealed, sent, err := d.seal(ctx, ticket, verified)
	if err != nil {
		return nil, err
	}
	record.Sent = sent
	return sealed, record.write()
}

// verify verifies a ticket under a policy. It says on standard error what the verdict rests on, or
// what failed.
func (d *sending) verify(b []byte, policy *verify.Policy) (*delivery.Ticket, *delivery.Verified, error) {
	ticket, err := delivery.ParseTicket(b)
	if err != nil {
		return nil, nil, ofDelivery(err)
	}
	o := *d.o
	o.policy = policy
	v, err := o.verifier(reportInEvidence(ticket.Evidence))
	if err != nil {
		return nil, nil, misuse(err)
	}
	verified, err := d.request.Verify(ticket, v, o.at)
	if r, ok := errors.AsType[*verify.RefusedError](err); ok {
		d.t.printAside(r.Appraisal)
		return nil, nil, &exitError{code: r.Appraisal.ExitCode(), err: errors.New("the evidence of the ticket is refused: nothing was sent"), hint: refusedTicket(r.Appraisal, d.f.to == byFiles)}
	}
	if err != nil {
		return nil, nil, ofDelivery(err)
	}
	d.t.printAside(verified.Appraisal)
	if d.f.log.save != "" {
		if err := d.t.saveLog(verified.Appraisal, verified.Log, d.request.Known, &d.f.log); err != nil {
			return nil, nil, err
		}
	}
	return ticket, verified, nil
}

// printAside prints an appraisal to standard error.
func (t *terminal) printAside(a *verify.Appraisal) {
	aside := *t
	aside.out, aside.screen = t.err, false
	aside.printAppraisal(a, false)
}

// seal reads the secret, and encrypts it to a ticket that was verified.
func (d *sending) seal(ctx context.Context, ticket *delivery.Ticket, verified *delivery.Verified) ([]byte, *delivery.Sent, error) {
	data, err := d.t.readSecret(ctx, d.file, sealing.MaxSecret)
	if err != nil {
		return nil, nil, err
	}
	defer clear(data)
	sealed, err := ticket.Seal(data, d.key)
	if err != nil {
		return nil, nil, ofDelivery(err)
	}
	return sealed.Encode(), &delivery.Sent{App: d.f.app, Name: d.name, Ticket: ticket.ID(), Sealed: sealed.Digest(), AgentKey: []byte(verified.AgentKey)}, nil
}

// senderKey reads the key that signs what is sent, nil if there is none, and puts its public half
// into the request.
func (t *terminal) senderKey(name string, request *delivery.Request) (crypto.Signer, error) {
	if name == "" {
		return nil, nil
	}
	signer, err := t.readOwnKey(name)
	if err != nil {
		return nil, err
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, misuse(fmt.Errorf("%s: want an Ed25519 key", name)).withHint("openssl genpkey -algorithm ed25519 makes one")
	}
	request.Sender = key.Public().(ed25519.PublicKey)
	return key, nil
}

// refusedTicket says what to do about evidence that was refused.
func refusedTicket(a *verify.Appraisal, byFiles bool) string {
	for _, c := range a.Failed() {
		switch {
		case !strings.HasPrefix(string(c.ID), "policy.caller"):
		case byFiles:
			return "root asked for the ticket, not the application: use a policy without [caller]"
		default:
			return fmt.Sprintf("the evidence is to name the unit that serves on the machine, %s unless --unit or the policy says another", delivery.Unit)
		}
	}
	if a.Class == verify.ClassCollateral {
		return "get certificates and lists with `agentctl collateral fetch`, and give them with --collateral"
	}
	return ""
}

// checkReceipt verifies a receipt of what was sent.
func checkReceipt(b []byte, sent *delivery.Sent) error {
	r, err := delivery.ParseReceipt(b)
	if err == nil {
		err = r.Verify(ed25519.PublicKey(sent.AgentKey), sent.Ticket, sent.Sealed)
	}
	if err != nil {
		return ofDelivery(err)
	}
	return nil
}

// tellDelivered prints that a secret arrived.
func (t *terminal) tellDelivered(sent *delivery.Sent) error {
	return present(t, delivered{App: sent.App, Name: sent.Name, Ticket: sent.Ticket.String(), Stored: true}, nil, func() {
		fmt.Fprintf(t.out, "the agent stored %q for %s, ticket %v\n", sent.Name, cleanLine(sent.App), sent.Ticket)
	})
}

// exitOf returns the exit code of a refused appraisal, and another one if there is none.
func exitOf(a *verify.Appraisal, otherwise int) int {
	if a == nil {
		return otherwise
	}
	return cmp.Or(a.ExitCode(), otherwise)
}
