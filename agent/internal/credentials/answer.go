// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// Times for the other end.
const (
	answerTime  = 30 * time.Second // to read the bytes
	refusalTime = 10 * time.Second // to read a refusal
	lookPause   = time.Second      // between two looks whether it is still there
)

// tooMuch is more than systemd reads of a credential, 1 MiB (CREDENTIAL_SIZE_MAX).
const tooMuch = 1<<20 + 1

var zeros [tooMuch]byte

// refusal returns what a refusal sends: never nothing, since systemd takes that for an answer. For
// a credential it is too much, and systemd throws it away. systemd-cryptsetup tries whatever it
// reads as a key, so for a volume it is random: a host can make a volume that opens with an empty
// key, or with zeros. If the address says neither, it is both.
func refusal(k Kind) []byte {
	switch k {
	case Credential:
		return zeros[:]
	case Volume:
		b := make([]byte, 64)
		rand.Read(b) // never fails
		return b
	}
	b := make([]byte, tooMuch)
	rand.Read(b)
	return b
}

// answer serves one connection, which its caller closes.
func (s *Server) answer(c *net.UnixConn) {
	ctx, cancel := context.WithTimeout(s.work, s.Patience)
	defer cancel()
	asked, data, err := s.content(ctx, c)
	defer clear(data)
	if err == nil && len(data) == 0 {
		err = problem.New(api.CodeInternal, "the secret is empty")
	}
	if err == nil {
		err = s.again(c, asked)
	}
	if err != nil {
		s.refuse(c, asked, err)
		return
	}
	c.SetWriteDeadline(time.Now().Add(answerTime))
	if _, err := c.Write(data); err != nil {
		s.Log.Warn(fmt.Sprintf("%s was not read to its end", asked), "unit", asked.Unit, "error", err)
		return
	}
	s.counts.gave(asked.Kind)
	s.Log.Info(fmt.Sprintf("%s was handed out", asked), "unit", asked.Unit)
}

// content identifies the other end and asks for what it may have.
func (s *Server) content(ctx context.Context, c *net.UnixConn) (asked Asked, data []byte, err error) {
	address, err := addressOf(c)
	if err != nil {
		return Asked{}, nil, fmt.Errorf("%w: read the address of the other end: %w", caller.ErrUnknown, err)
	}
	if asked, err = parse(address); err != nil {
		return Asked{}, nil, problem.New(api.CodeNotSystemd, err.Error())
	}
	peer, err := s.identify(c, asked)
	if err != nil {
		return asked, nil, err
	}
	defer peer.Process.Close()
	asked.PID = peer.PID
	leave, ok := s.enter(partyOf(asked))
	if !ok {
		return asked, nil, problem.New(api.CodeBusy, fmt.Sprintf("%d connections of this unit wait for an answer already", max(1, s.Open/4)))
	}
	defer leave()
	ctx, stop := whileThere(ctx, peer.Process)
	defer stop()
	switch asked.Kind {
	case Volume:
		data, err = s.Source.VolumeKey(ctx, asked)
	default:
		data, err = s.Source.Credential(ctx, asked)
	}
	return asked, data, err
}

// again checks once more, now that the answer is ready: the process may have become the program
// of the unit, or another unit's, while it waited.
func (s *Server) again(c *net.UnixConn, asked Asked) error {
	peer, err := s.identify(c, asked)
	if err != nil {
		return err
	}
	return peer.Process.Close()
}

// identify establishes that systemd is at the other end, and that it is starting the unit that
// it names. The caller closes the process.
func (s *Server) identify(c *net.UnixConn, asked Asked) (*caller.Peer, error) {
	peer, err := s.Identifier.Identify(c)
	if err != nil {
		return nil, err
	}
	if err := s.check(peer, asked); err != nil {
		peer.Process.Close()
		return nil, err
	}
	return peer, nil
}

func (s *Server) check(peer *caller.Peer, asked Asked) error {
	if peer.UID != 0 {
		return problem.New(api.CodeNotSystemd, fmt.Sprintf("process %d has uid %d, and systemd asks as root", peer.PID, peer.UID))
	}
	if peer.Unit == "" {
		return problem.New(api.CodeNoSystemUnit, fmt.Sprintf("process %d asks outside a system unit: %s", peer.PID, peer.UnitReason))
	}
	if why := unfit(peer.Unit); why != "" {
		return problem.New(api.CodeNoSystemUnit, why)
	}
	if peer.Unit != asked.Unit {
		return problem.New(api.CodeOtherUnit, fmt.Sprintf("process %d is in unit %s and asks for %s", peer.PID, peer.Unit, asked))
	}
	if err := s.Own(peer.PID, asked.Kind); err != nil {
		return problem.New(api.CodeNotSystemd, err.Error())
	}
	// Only now is it known that all of this was read of the process that connected.
	return peer.Process.Running()
}

// unfit says why a unit gets no credential, or nothing. The manager of a user is systemd's own
// program too, and names the units of that user.
func unfit(unit string) string {
	n, err := unitname.Parse(unit)
	switch {
	case err != nil:
		return err.Error()
	case n.Type == "scope":
		return fmt.Sprintf("%s is a scope, whose processes systemd does not start", unit)
	case n.Type == "service" && (n.Prefix == "user" || n.Prefix == "capsule") && n.Instance != "":
		return fmt.Sprintf("%s is the manager of a user: credentials are for system units", unit)
	}
	return ""
}

// partyOf returns who shares the connections: the unit, and all instances of a template.
func partyOf(a Asked) string {
	if n, err := unitname.Parse(a.Unit); err == nil {
		if template, ok := n.TemplateOf(); ok {
			return template
		}
	}
	return a.Unit
}

// whileThere returns a context that ends when the process has ended: a unit whose start was given
// up needs no answer.
func whileThere(ctx context.Context, p caller.Process) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		tick := time.NewTicker(lookPause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if err := p.Running(); err != nil {
					cancel(err)
				}
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// refuse says in one line what was refused and why, and makes the unit fail.
func (s *Server) refuse(c *net.UnixConn, asked Asked, err error) {
	p := s.Explain(err)
	if p == nil {
		p = problem.New(api.CodeInternal, err.Error())
	}
	s.counts.refuse(asked.Kind, p.Code)
	level := s.Log.Warn
	if errors.Is(err, caller.ErrGone) {
		level = s.Log.Debug // no unit waits any more
	}
	level(fmt.Sprintf("%s was refused: %s (%s); %s", asked, text.OneLine(p.Detail), p.Code, p.Code.Info().Hint), "unit", asked.Unit, "code", string(p.Code))
	c.SetWriteDeadline(time.Now().Add(refusalTime))
	c.Write(refusal(asked.Kind)) // an error does not matter: systemd closes when it has read too much
}
