// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify"
)

// required refuses a command without the flags that it needs.
func required(c *cobra.Command, names ...string) error {
	for _, name := range names {
		if c.Flags().Lookup(name).Value.String() == "" {
			return misuse(fmt.Errorf("--%s is missing", name)).withHint(helpHint(c))
		}
	}
	return nil
}

// ofDelivery returns the exit for what agentctl itself found of a delivery.
func ofDelivery(err error) error {
	e, ok := errors.AsType[*sealing.Error](err)
	if !ok {
		return misuseIf(err)
	}
	info := e.Code.Info()
	return &exitError{code: cmp.Or(info.Exit, exitMisuse), err: fmt.Errorf("%s: %w", e.Code, err), found: e.Code, hint: info.Hint}
}

func secretChallenge(t *terminal) *cobra.Command {
	var file string
	c := command("challenge", secretChallengeUsage, arguments(), func(c *cobra.Command, _ []string) error {
		if err := required(c, "delivery"); err != nil {
			return err
		}
		if _, err := os.Lstat(file); err == nil {
			return misuse(fmt.Errorf("%s exists: each delivery has a file of its own", file))
		}
		var challenge delivery.Challenge
		rand.Read(challenge[:]) // never fails
		err := writeRecord(file, &delivery.Record{Type: delivery.RecordType, Challenge: challenge[:], Made: uint64(time.Now().Unix())})
		if err != nil {
			return err
		}
		return t.writeStandardOutput(fmt.Appendf(nil, "%x\n", challenge))
	})
	c.Flags().StringVar(&file, "delivery", "", "")
	return c
}

// writeRecord writes the file of a delivery, for its owner alone.
func writeRecord(name string, r *delivery.Record) error {
	b, err := r.Encode()
	if err == nil {
		err = durable.WriteFile(name, b, 0o600)
	}
	return misuseIf(err)
}

func secretTicket(t *terminal, s *sockets) *cobra.Command {
	var r api.TicketRequest
	var challenge, sender, out string
	var validFor time.Duration
	c := command("ticket", secretTicketUsage, arguments("NAME"), func(c *cobra.Command, args []string) (err error) {
		if err := required(c, "app", "challenge"); err != nil {
			return err
		}
		if (sender == "") != r.AnySender {
			return misuse(errors.New("want --sender or --any-sender: without a sender's key, any party that has the ticket can choose the secret")).withHint(helpHint(c))
		}
		seconds := validFor / time.Second
		if seconds < 1 || seconds > delivery.MaxValidity {
			return misuse(fmt.Errorf("--valid-for %v: want 1s to 24h", validFor))
		}
		r.Name, r.ValidFor = args[0], uint32(seconds)
		if r.Challenge, err = t.parseBytes("--challenge", challenge, delivery.ChallengeSize, delivery.ChallengeSize); err != nil {
			return err
		}
		if sender != "" {
			if r.Sender, err = t.readSender(sender); err != nil {
				return err
			}
		}
		d, err := s.adminSocket().Ticket(c.Context(), r)
		if err != nil {
			return failed(err)
		}
		fmt.Fprintf(t.err, "ticket %v for %q of %s, as measured with digest %v; valid for %v\n", d.ID, d.Name, cleanLine(d.App), d.Digest, time.Duration(d.ValidFor)*time.Second)
		return t.writeOutput(out, d.Ticket)
	})
	f := c.Flags()
	f.StringVar(&r.App, "app", "", "")
	f.StringVar(&challenge, "challenge", "", "")
	f.StringVar(&sender, "sender", "", "")
	f.BoolVar(&r.AnySender, "any-sender", false, "")
	f.BoolVar(&r.Replace, "replace", false, "")
	f.DurationVar(&validFor, "valid-for", time.Hour, "")
	f.StringVar(&out, "out", "", "")
	return c
}

// readSender reads the public half of a sender's key.
func (t *terminal) readSender(name string) ([]byte, error) {
	der, err := t.readPublicKey(name)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	public, ok := key.(ed25519.PublicKey)
	if err != nil || !ok {
		return nil, misuse(fmt.Errorf("%s: want the public half of an Ed25519 key", name)).
			withHint("openssl genpkey -algorithm ed25519 -out KEY makes a key, openssl pkey -in KEY -pubout prints its public half")
	}
	return public, misuseIf(delivery.CheckSender(public))
}

// sendFlags are the flags of send.
type sendFlags struct {
	appraisalFlags
	delivery, ticket, app, to, senderKey, out string
	replace                                   bool
	maxAge                                    time.Duration
}

func secretSend(t *terminal) *cobra.Command {
	var f sendFlags
	names := func(c *cobra.Command, args []string) error { return arguments("NAME")(c, args[:min(len(args), 1)]) }
	c := command("send", secretSendUsage, names, func(c *cobra.Command, args []string) error {
		if err := required(c, "delivery", "policy", "ticket", "app"); err != nil {
			return err
		}
		switch {
		case len(args) > 2:
			return misuse(fmt.Errorf("unexpected argument %q", args[2])).withHint(helpHint(c))
		case t.screen && (f.out == "" || f.out == "-"): // before the delivery is used up
			return misuse(errBinary)
		case f.to != "-":
			return misuse(fmt.Errorf("--to %q: want -, which writes the message to --out or standard output for any carrier", f.to)).withHint(helpHint(c))
		}
		if err := secret.LeaveNoCore(); err != nil {
			return misuse(err)
		}
		b, err := t.send(&f, args)
		if err != nil {
			return err
		}
		return t.writeOutput(f.out, b)
	})
	f.trustFlags.add(c)
	flags := c.Flags()
	flags.StringVar(&f.policy, "policy", "", "")
	flags.StringVar(&f.delivery, "delivery", "", "")
	flags.StringVar(&f.ticket, "ticket", "", "")
	flags.StringVar(&f.app, "app", "", "")
	flags.StringVar(&f.to, "to", "-", "")
	flags.StringVar(&f.senderKey, "sender-key", "", "")
	flags.BoolVar(&f.replace, "replace", false, "")
	flags.DurationVar(&f.maxAge, "max-age", time.Hour, "")
	flags.StringVar(&f.out, "out", "", "")
	return c
}

// send verifies a ticket, and returns the message with the secret. The file of the delivery says
// that it was sent before the message exists.
func (t *terminal) send(f *sendFlags, args []string) ([]byte, error) {
	record, err := t.unsent(f)
	if err != nil {
		return nil, err
	}
	request := delivery.Request{Challenge: delivery.Challenge(record.Challenge), App: f.app, Name: args[0], Replace: f.replace}
	key, err := t.senderKey(f.senderKey, &request)
	if err != nil {
		return nil, err
	}
	ticket, verified, err := t.verifyTicket(f, &request)
	if err != nil {
		return nil, err
	}
	file := "-"
	if len(args) == 2 {
		file = args[1]
	}
	data, err := t.readInput(file, sealing.MaxSecret)
	if err != nil {
		return nil, err
	}
	defer clear(data)
	sealed, err := ticket.Seal(data, key)
	if err != nil {
		return nil, ofDelivery(err)
	}
	record.Sent = &delivery.Sent{App: f.app, Name: args[0], Ticket: ticket.ID(), Sealed: sealed.Digest(), AgentKey: []byte(verified.AgentKey)}
	return sealed.Encode(), writeRecord(f.delivery, record)
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

// unsent reads the file of a delivery by which nothing was sent, and whose challenge is new.
func (t *terminal) unsent(f *sendFlags) (*delivery.Record, error) {
	record, err := readAs(t, f.delivery, delivery.MaxRecord, delivery.ParseRecord)
	if err != nil {
		return nil, err
	}
	again := "begin another delivery: `agentctl secret challenge`"
	if record.Sent != nil {
		return nil, misuse(fmt.Errorf("%s: a secret was sent by this delivery, which serves one", f.delivery)).withHint(again)
	}
	age := time.Since(time.Unix(int64(min(record.Made, 1<<40)), 0))
	if age > f.maxAge || age < -time.Minute {
		return nil, misuse(fmt.Errorf("%s: the challenge is %v old by the clock here, want at most %v: an old ticket tells nothing of the machine as it is now", f.delivery, age.Round(time.Second), f.maxAge)).withHint(again)
	}
	return record, nil
}

// verifyTicket reads the ticket and the policy, and verifies the ticket. It says on standard error
// what the verdict rests on, or what failed.
func (t *terminal) verifyTicket(f *sendFlags, request *delivery.Request) (*delivery.Ticket, *delivery.Verified, error) {
	b, err := t.readInput(f.ticket, delivery.MaxTicket)
	if err != nil {
		return nil, nil, err
	}
	ticket, err := delivery.ParseTicket(b)
	if err != nil {
		return nil, nil, ofDelivery(err)
	}
	o, err := t.appraisalInputs(&f.appraisalFlags)
	if err != nil {
		return nil, nil, err
	}
	if err := request.CheckPolicy(o.policy); err != nil {
		return nil, nil, misuse(fmt.Errorf("%s: %w", f.policy, err)).withHint("`agentctl policy add-digest` lists an application")
	}
	v, err := o.verifier(reportInEvidence(ticket.Evidence))
	if err != nil {
		return nil, nil, misuse(err)
	}
	verified, err := request.Verify(ticket, v, o.at)
	aside := *t
	aside.out, aside.screen = t.err, false
	if r, ok := errors.AsType[*verify.RefusedError](err); ok {
		aside.printAppraisal(r.Appraisal, false)
		return nil, nil, &exitError{code: r.Appraisal.ExitCode(), err: errors.New("the evidence of the ticket is refused: nothing was sent"), hint: refusedTicket(r.Appraisal)}
	}
	if err != nil {
		return nil, nil, ofDelivery(err)
	}
	aside.printAppraisal(verified.Appraisal, false)
	return ticket, verified, nil
}

// refusedTicket says what to do about evidence that was refused.
func refusedTicket(a *verify.Appraisal) string {
	for _, c := range a.Failed() {
		if strings.HasPrefix(string(c.ID), "policy.caller") {
			return "root asked for the ticket, not the application: use a policy without [caller]"
		}
	}
	if a.Class == verify.ClassCollateral {
		return "get certificates and lists with `agentctl collateral fetch`, and give them with --collateral"
	}
	return ""
}

func secretReceive(t *terminal, s *sockets) *cobra.Command {
	var out string
	c := command("receive", secretReceiveUsage, arguments("MESSAGE"), func(c *cobra.Command, args []string) error {
		b, err := t.readInput(args[0], delivery.MaxSealed)
		if err != nil {
			return err
		}
		r, err := s.adminSocket().Receive(c.Context(), b)
		if err != nil {
			return failed(err)
		}
		did := "stored"
		switch {
		case r.Again:
			did = "was stored before"
		case r.Replaced:
			did = "replaced"
		}
		fmt.Fprintf(t.err, "%q of %s: %s, ticket %v\n", r.Name, cleanLine(r.App), did, r.ID)
		return t.writeOutput(out, r.Receipt)
	})
	c.Flags().StringVar(&out, "out", "", "")
	return c
}

// delivered is what secret receipt prints.
type delivered struct {
	App    string `json:"app"`    // name of the app
	Name   string `json:"name"`   // name of the secret
	Ticket string `json:"ticket"` // id of the ticket, hexadecimal
	Stored bool   `json:"stored"` // true: the agent stored what was sent
}

func secretReceipt(t *terminal) *cobra.Command {
	var file string
	c := command("receipt", secretReceiptUsage, arguments("RECEIPT"), func(c *cobra.Command, args []string) error {
		if err := required(c, "delivery"); err != nil {
			return err
		}
		record, err := readAs(t, file, delivery.MaxRecord, delivery.ParseRecord)
		if err != nil {
			return err
		}
		sent := record.Sent
		if sent == nil {
			return misuse(fmt.Errorf("%s: nothing was sent by this delivery, so there is no receipt for it", file))
		}
		b, err := t.readInput(args[0], delivery.MaxReceipt)
		if err != nil {
			return err
		}
		r, err := delivery.ParseReceipt(b)
		if err == nil {
			err = r.Verify(ed25519.PublicKey(sent.AgentKey), sent.Ticket, sent.Sealed)
		}
		if err != nil {
			return ofDelivery(err)
		}
		if !record.Stored {
			record.Stored = true
			if err := writeRecord(file, record); err != nil {
				return err
			}
		}
		return present(t, delivered{App: sent.App, Name: sent.Name, Ticket: sent.Ticket.String(), Stored: true}, nil, func() {
			fmt.Fprintf(t.out, "the agent stored %q for %s, ticket %v\n", sent.Name, cleanLine(sent.App), sent.Ticket)
		})
	})
	c.Flags().StringVar(&file, "delivery", "", "")
	return c
}
