// SPDX-License-Identifier: Apache-2.0

package carrier

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/sealing"
)

// An Agent makes tickets and stores what was encrypted to them. A client.Admin is one.
type Agent interface {
	Ticket(context.Context, api.TicketRequest) (*api.DeliveryTicket, error)
	Receive(ctx context.Context, sealed []byte) (*api.ReceivedSecret, error)
}

// Limits of a server.
const (
	mostConnections = 64 // in all
	mostOfOrigin    = 8  // of one address
	mostDeliveries  = 16 // of senders that have proved their keys
	mostOfSender    = 4  // of one of them: a connection that broke may still be there

	handshakeTime = attestedtls.DefaultTimeout
	frameTime     = 30 * time.Second // for a message that is there already, and for one to be taken
	agentTime     = 5 * time.Minute  // for the agent: a report can wait for a minute on a host that throttles
)

// Config is what a Server works with. All fields are required.
type Config struct {
	Rules    *Rules
	Agent    Agent             // administration
	Evidence attestedtls.Agent // evidence of connections
	Log      *slog.Logger
}

// Server carries between connections and the agent of this machine.
type Server struct {
	c         Config
	tls       *attestedtls.Server
	origins   crowd
	senders   crowd
	frameTime time.Duration
}

// NewServer returns a server.
func NewServer(c Config) *Server {
	s := &Server{c: c, origins: crowd{most: mostConnections, mostEach: mostOfOrigin}, senders: crowd{most: mostDeliveries, mostEach: mostOfSender}, frameTime: frameTime}
	s.tls = &attestedtls.Server{
		// The sender proves its key in the handshake. So strangers cost a handshake, and neither a
		// quote nor a ticket.
		TLS: &tls.Config{ClientAuth: tls.RequireAnyClientCert, VerifyConnection: func(state tls.ConnectionState) error {
			if key := senderOf(state); key == nil || !c.Rules.knows(key) {
				return errStranger
			}
			return nil
		}},
		// A report for each connection would be one too many: the ticket has its own.
		Attester:    &attestedtls.Attester{Agent: c.Evidence, AnchoredOnly: true},
		Application: delivery.Application,
		Timeout:     handshakeTime,
	}
	return s
}

// errStranger is returned for a client that no rule lists.
var errStranger = errors.New("no rule lists the key of the client's certificate as a sender")

// senderOf returns the key of the client's certificate, which it has proved, or nil.
func senderOf(state tls.ConnectionState) ed25519.PublicKey {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	key, _ := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	return key
}

// Serve accepts connections until the context ends. It returns when all of them have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var all sync.WaitGroup
	defer all.Wait()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for pause := time.Duration(0); ; {
		inner, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if inner != nil {
				inner.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil: // out of descriptors, or a client that left: it may pass
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}
		pause = 0
		leave, ok := s.origins.enter(origin(inner.RemoteAddr()))
		if !ok {
			inner.Close()
			continue
		}
		all.Go(func() {
			defer leave()
			s.connection(ctx, inner)
		})
	}
}

// connection serves one connection, and writes a line about it.
func (s *Server) connection(ctx context.Context, inner net.Conn) {
	defer inner.Close()
	conn := s.tls.Conn(inner)
	stop := context.AfterFunc(ctx, func() { inner.Close() })
	defer stop()
	log := s.c.Log.With("from", inner.RemoteAddr().String())
	if err := conn.Handshake(ctx); err != nil {
		log.Warn("a connection is refused", "error", err)
		return
	}
	sender := senderOf(conn.ConnectionState())
	name := sha256.Sum256(sender)
	log = log.With("sender", hex.EncodeToString(sender))
	leave, ok := s.senders.enter(hex.EncodeToString(name[:]))
	if !ok {
		s.refuse(conn, api.CodeBusy)
		log.Warn("a connection is refused", "code", api.CodeBusy)
		return
	}
	defer leave()
	d := &exchange{s: s, conn: conn, sender: sender, log: log}
	if err := d.run(ctx); err != nil {
		code := codeOf(err)
		s.refuse(conn, code)
		d.log.Error("a delivery is refused", "code", code, "error", err)
		return
	}
	conn.Close()
}

// codeOf returns the code that the other end is told.
func codeOf(err error) api.Code {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p.Code
	}
	if code := sealing.CodeOf(err); code != "" {
		return code
	}
	return api.CodeInterrupted
}

// refuse tells the other end why, and ends the connection.
func (s *Server) refuse(conn *attestedtls.Conn, code api.Code) {
	conn.SetDeadline(time.Now().Add(s.frameTime))
	if write(conn, delivery.EncodeRefusal(code)) == nil {
		conn.Close()
	}
}

// exchange is the delivery of one connection.
type exchange struct {
	s      *Server
	conn   *attestedtls.Conn
	sender ed25519.PublicKey
	log    *slog.Logger
}

// run takes the first message: a request for a ticket, or an encrypted secret whose connection broke
// before the receipt arrived.
func (x *exchange) run(ctx context.Context) error {
	b, err := x.read(x.s.frameTime)
	if err != nil {
		return err
	}
	if !delivery.IsSealed(b) {
		if b, err = x.ticket(ctx, b); err != nil {
			return err
		}
	}
	return x.receive(ctx, b)
}

// ticket answers a request for a ticket, and returns what comes after it.
func (x *exchange) ticket(ctx context.Context, b []byte) ([]byte, error) {
	ask, err := delivery.ParseAsk(b)
	if err != nil {
		return nil, err
	}
	x.log = x.log.With("app", ask.App, "name", ask.Name)
	rule := x.s.c.Rules.permits(x.sender, ask)
	if rule == nil {
		return nil, &sealing.Error{Code: api.CodeNotPermitted, Detail: "no rule lets this sender deliver that"}
	}
	within, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	t, err := x.s.c.Agent.Ticket(within, api.TicketRequest{App: ask.App, Name: ask.Name, Challenge: ask.Challenge[:], ValidFor: rule.validFor, Replace: ask.Replace, Sender: bytes.Clone(x.sender)})
	if err != nil {
		return nil, err
	}
	x.log = x.log.With("ticket", t.ID.String())
	x.log.Info("a ticket was made")
	if err := x.write(t.Ticket); err != nil {
		return nil, err
	}
	return x.read(time.Duration(rule.validFor) * time.Second)
}

// receive gives an encrypted secret to the agent, and sends the receipt.
func (x *exchange) receive(ctx context.Context, b []byte) error {
	within, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	r, err := x.s.c.Agent.Receive(within, b)
	if err != nil {
		return err
	}
	x.log.Info("a delivered secret is stored", "ticket", r.ID.String(), "app", r.App, "name", r.Name, "again", r.Again)
	return x.write(r.Receipt)
}

func (x *exchange) read(within time.Duration) ([]byte, error) {
	x.conn.SetReadDeadline(time.Now().Add(within))
	return read(x.conn, delivery.MaxSealed)
}

func (x *exchange) write(b []byte) error {
	x.conn.SetWriteDeadline(time.Now().Add(x.s.frameTime))
	return write(x.conn, b)
}
