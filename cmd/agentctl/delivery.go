// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/sealing"
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
		var challenge delivery.Challenge
		rand.Read(challenge[:]) // never fails
		_, err := newRecord(file, &delivery.Record{Type: delivery.RecordType, Challenge: challenge[:], Made: uint64(time.Now().Unix())})
		if err != nil {
			return err
		}
		return t.writeStandardOutput(fmt.Appendf(nil, "%x\n", challenge))
	})
	c.Flags().StringVar(&file, "delivery", "", "")
	return c
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

// delivered is what secret receipt and secret send --to print.
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
		record, err := holdRecord(file)
		if err != nil {
			return err
		}
		defer record.Close()
		if record.Sent == nil {
			return misuse(fmt.Errorf("%s: nothing was sent by this delivery, so there is no receipt for it", file))
		}
		b, err := t.readInput(args[0], delivery.MaxReceipt)
		if err != nil {
			return err
		}
		if err := checkReceipt(b, record.Sent); err != nil {
			return err
		}
		if !record.Stored {
			record.Stored = true
			if err := record.write(); err != nil {
				return err
			}
		}
		return t.tellDelivered(record.Sent)
	})
	c.Flags().StringVar(&file, "delivery", "", "")
	return c
}
