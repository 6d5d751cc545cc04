// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

// misleads is how a carrier that root of the machine runs misleads the sender. This program is that carrier,
// in the place of the tests.
const misleads = "AGENTD_TEST_MISLEADS"

// mislead serves one connection. Its evidence is genuine. The arguments are the sockets of the machine, and
// the admin socket of another one.
func mislead(mode string, args []string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s%s\n", began, l.Addr())
	agent, admin, other := &client.Client{Socket: args[0]}, &client.Admin{Socket: args[1]}, &client.Admin{Socket: args[2]}
	s := &attestedtls.Server{TLS: &tls.Config{ClientAuth: tls.RequireAnyClientCert}, Attester: &attestedtls.Attester{Agent: agent}, Application: delivery.Application}
	inner, err := l.Accept()
	if err != nil {
		return err
	}
	conn := s.Conn(inner)
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := conn.Handshake(ctx); err != nil {
		return err
	}
	ask, err := delivery.ParseAsk(frame(conn))
	if err != nil {
		return err
	}
	key := conn.ConnectionState().PeerCertificates[0].RawSubjectPublicKeyInfo
	r := api.TicketRequest{App: ask.App, Name: ask.Name, Challenge: ask.Challenge[:], ValidFor: 60, Sender: key[len(key)-32:]}
	switch mode {
	case "replay":
		r.Challenge = make([]byte, 32)
	case "another app":
		r.App = "ledger"
	case "any sender":
		r.Sender, r.AnySender = nil, true
	case "expired":
		r.ValidFor = 1
	case "another machine":
		admin = other
	}
	t, err := admin.Ticket(ctx, r)
	if err != nil {
		return err
	}
	send(conn, t.Ticket)
	message := frame(conn)
	if len(message) == 0 { // the sender saw through it
		return nil
	}
	switch mode {
	case "changed":
		message[len(message)-100] ^= 1
	case "expired":
		changed := bytes.Clone(message)
		changed[len(changed)-1] ^= 1
		for { // until the agent refuses it for another reason than the signature
			if _, err := admin.Receive(ctx, changed); errors.Is(err, api.CodeTicketExpired) || ctx.Err() != nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	case "forged":
		x, err := delivery.ParseSealed(message)
		if err != nil {
			return err
		}
		send(conn, (&delivery.Receipt{Ticket: x.Ticket, Sealed: x.Digest(), Signature: make([]byte, 64)}).Encode())
		io.Copy(io.Discard, conn)
		return nil
	}
	answer, err := admin.Receive(ctx, message)
	if err != nil {
		p, _ := errors.AsType[*api.Problem](err)
		send(conn, delivery.EncodeRefusal(p.Code))
	} else {
		send(conn, answer.Receipt)
	}
	io.Copy(io.Discard, conn)
	return nil
}

// frame reads a message, and returns nothing at the end.
func frame(r io.Reader) []byte {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil
	}
	b := make([]byte, min(binary.BigEndian.Uint32(n[:]), delivery.MaxSealed))
	if _, err := io.ReadFull(r, b); err != nil {
		return nil
	}
	return b
}

func send(w io.Writer, b []byte) {
	w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

// TestMisleadingCarrier: case 130. What is in the unit of the carrier, and attests as it does, is trusted as little
// as any other carrier: each way to mislead the sender has a code, and stores nothing.
func TestMisleadingCarrier(t *testing.T) {
	t.Parallel()
	b, other := newBed(t), newBed(t)
	b.rules("")
	x, err := other.Admin().Measure(t.Context(), "billing") // the policy accepts both machines
	must(t, err)
	policy, err := os.ReadFile(filepath.Join(b.home, "billing.toml"))
	must(t, err)
	b.file("billing.toml", bytes.Replace(policy, []byte("\"billing\"\ndigests = ["), fmt.Appendf(nil, "\"billing\"\ndigests = [%q, ", x.Digest), 1))
	self, err := os.Executable()
	must(t, err)
	for mode, want := range map[string]struct {
		code api.Code
		exit int
	}{
		"replay":          {api.CodeOtherTicket, 1},
		"another app":     {api.CodeOtherTicket, 1},
		"any sender":      {api.CodeOtherTicket, 1},
		"another machine": {"", 2},
		"changed":         {api.CodeOtherSender, 7},
		"expired":         {api.CodeTicketExpired, 1},
		"forged":          {api.CodeReceiptForged, 2},
	} {
		cmd := exec.Command(self, b.Socket(), b.AdminSocket(), other.AdminSocket())
		cmd.Env = append(os.Environ(), misleads+"="+mode)
		c := b.start(cmd, delivery.Unit)
		b.refused(mode, want.code, want.exit, "hunter2", b.over(c.address)...)
		<-c.ended
		if said := c.output(); strings.Count(said, "\n") != 1 {
			t.Errorf("%s: the carrier failed: %s", mode, said)
		}
	}
	if got := b.stored() + other.stored(); got != "" {
		t.Errorf("stored: %s", got)
	}
	cmd := exec.Command(self, b.Socket(), b.AdminSocket(), other.AdminSocket())
	cmd.Env = append(os.Environ(), misleads+"=not at all")
	c := b.start(cmd, delivery.Unit)
	b.do("hunter2", b.over(c.address)...)
}
