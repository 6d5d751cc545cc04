// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/socket"
	"github.com/cvm-agentd/agentd/internal/tunnel"
)

func tunnelCommand(t *terminal, s *sockets) *cobra.Command {
	return group(t, "tunnel", tunnelUsage, tunnelEnd(t, s, tunnel.Serve, tunnelServeUsage), tunnelEnd(t, s, tunnel.Connect, tunnelConnectUsage))
}

// tunnelEnd returns the command that runs one end of tunnels.
func tunnelEnd(t *terminal, s *sockets, role tunnel.Role, usage string) *cobra.Command {
	e := &tunnelProcess{t: t, agent: s}
	c := command(string(role), usage, arguments(), func(c *cobra.Command, _ []string) error {
		if err := e.run(c.Context()); err != nil {
			return misuse(err).withHint(helpHint(c))
		}
		return nil
	})
	e.flags.add(c, role)
	return c
}

// tunnelProcess is an end of tunnels as a process.
type tunnelProcess struct {
	t     *terminal
	agent *sockets
	flags tunnelFlags

	attester attestedtls.Agent // of this machine; made once, since it keeps connections
	made     *tls.Certificate  // of an end that has no other; made once, so that a reload keeps the key
	fixed    [2]string         // listen and metrics, as the settings say, which a reload cannot change

	saying sync.Mutex // a line at a time
}

// say prints a line for people.
func (e *tunnelProcess) say(line string) {
	e.saying.Lock()
	defer e.saying.Unlock()
	fmt.Fprintf(e.t.err, "agentctl: %s\n", cleanLine(line))
}

// maxPassedSockets is how many sockets a socket unit of systemd may have.
const maxPassedSockets = 64

func (e *tunnelProcess) run(ctx context.Context) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // before it can come
	defer signal.Stop(hangups)
	k, err := e.flags.keys()
	if err != nil {
		return err
	}
	first, err := e.load(k) // before a socket is there
	if err != nil {
		return err
	}
	e.fixed = [2]string{k.Listen, k.Metrics}
	listeners, err := e.listeners(ctx, k.Listen)
	if err != nil {
		return err
	}
	figures, err := metricsListener(ctx, k.Metrics)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		e.say(fmt.Sprintf("%s on %s, to %s", e.flags.role, l.Addr(), first.To))
	}
	e.warnOf(first)
	return tunnel.Run(ctx, tunnel.Options{
		Listeners: listeners, Metrics: figures, Reload: hangups, Log: e.say,
		Load: func() (*tunnel.Settings, error) {
			if s := first; s != nil {
				first = nil
				return s, nil
			}
			return e.again()
		},
	})
}

// again returns the settings of a reload.
func (e *tunnelProcess) again() (*tunnel.Settings, error) {
	k, err := e.flags.keys()
	if err != nil {
		return nil, err
	}
	if e.fixed != [2]string{k.Listen, k.Metrics} {
		return nil, errors.New("listen or metrics changed: this needs a restart")
	}
	return e.load(k)
}

// listeners opens the socket that the settings name, or takes those of systemd.
func (e *tunnelProcess) listeners(ctx context.Context, listen string) ([]net.Listener, error) {
	passed, err := socket.Passed(maxPassedSockets)
	switch {
	case err != nil:
		return nil, err
	case len(passed) > 0 && listen != "":
		return nil, errors.New("systemd passed a socket, and listen names one: leave listen out, or disable the socket unit")
	case len(passed) > 0:
		return passed, nil
	case listen == "":
		return nil, errors.New("listen is missing: name an address, or start this by a socket unit of systemd")
	}
	a, err := tunnel.ParseAddress(listen, true)
	if err != nil {
		return nil, fmt.Errorf("listen %w", err)
	}
	l, err := a.Listen(ctx)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// warnOf says what is in the settings that a person may not want.
func (e *tunnelProcess) warnOf(s *tunnel.Settings) {
	if s.Role == tunnel.Serve && !s.To.Local() {
		e.say(fmt.Sprintf("the service %s may be on another machine: between here and there the data is neither encrypted nor attested", s.To))
	}
	if s.Role == tunnel.Connect && e.fixed[0] != "" {
		if a, err := tunnel.ParseAddress(e.fixed[0], true); err == nil && !a.Local() {
			e.say(fmt.Sprintf("other machines may reach %s: up to here the data is neither encrypted nor attested", a))
		}
	}
	if s.Warn {
		e.say("warn: connections pass that the policy refuses")
	}
}

// tlsEnd is how long connections may take to end after the drain timeout: TLS waits 5 s for a peer
// that does not read.
const tlsEnd = 10 * time.Second

// load reads every file that the settings name.
func (e *tunnelProcess) load(k *tunnelKeys) (*tunnel.Settings, error) {
	s := &tunnel.Settings{
		Role: e.flags.role, AnyCertificate: k.AnyCertificate, ServerName: k.ServerName, Warn: k.Warn, Fresh: k.Fresh,
		Application: k.Application, Limits: k.limits(),
		Verifier:      attestedtls.VerifierOptions{Audience: k.Audience, AcceptAnyCaller: k.AnyProgram, JudgeOpen: k.CloseOpen, Continue: time.Duration(k.Continue)},
		ProxyProtocol: k.ProxyProtocol != "", WellKnown: k.WellKnown,
	}
	if err := s.Limits.Check(); err != nil {
		return nil, err
	}
	if e.t.lasts != nil {
		e.t.lasts.Store(int64(s.Limits.Drain + tlsEnd))
	}
	var err error
	if s.To, err = tunnel.ParseAddress(k.To, false); err != nil {
		return nil, fmt.Errorf("to %w", err)
	}
	if s.Role == tunnel.Connect && s.To.Network != "tcp" {
		return nil, fmt.Errorf("to %q: want HOST:PORT of the other end", k.To)
	}
	if k.Attest {
		if e.attester == nil {
			e.attester = e.agent.clientSocket()
		}
		s.Attester = &attestedtls.Attester{Agent: e.attester, AnchoredOnly: k.Anchored, Audiences: k.Audiences}
	}
	if s.TLS, err = e.tls(k); err != nil {
		return nil, err
	}
	if k.Policy != "" {
		policy, err := e.t.readPolicy(k.Policy, k.signed(), time.Now())
		if err != nil {
			return nil, err
		}
		s.Policy, s.Expires = policy.Policy, policy.Label.Expires
		if c := s.Policy.Caller; c.Unit == "" && c.Container == "" && !k.AnyProgram {
			return nil, fmt.Errorf("%s does not name the caller (caller.unit or caller.container), so that any program of an accepted machine could be the other end: name it, or give accept-any-program-of-the-machine", k.Policy)
		}
		trust, err := e.t.trustInputs(&trustFlags{testRoot: k.TestRoot, certificates: k.ForEvidence, crls: k.CRLs})
		if err != nil {
			return nil, err
		}
		s.Trust = trust.Config
		if err := errors.Join(addFolder(k.Collateral, &s.Trust), e.t.addEnrolments(k.Enrolments, s.Policy, &s.Trust)); err != nil {
			return nil, err
		}
	}
	s.Access, err = e.t.openAccessLog(k.AccessLog) // at last: it stays open
	return s, err
}

// tls reads certificate, key and roots.
func (e *tunnelProcess) tls(k *tunnelKeys) (*tls.Config, error) {
	c := new(tls.Config)
	switch {
	case k.Certificate != "":
		pair, err := e.t.readKeyPair(k.Certificate, k.Key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{*pair}
	case e.flags.role == tunnel.Serve || k.Attest:
		if e.made == nil {
			made, err := attestedtls.SelfSigned()
			if err != nil {
				return nil, err
			}
			e.made = made
		}
		c.Certificates = []tls.Certificate{*e.made}
	}
	if k.Roots == "" {
		return c, nil
	}
	b, err := e.t.readInput(k.Roots, maxCertificates)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s: want certificates in PEM", k.Roots)
	}
	if e.flags.role == tunnel.Serve {
		c.ClientCAs, c.ClientAuth = pool, tls.RequireAndVerifyClientCert
	} else {
		c.RootCAs = pool
	}
	return c, nil
}

// readKeyPair reads a certificate with its chain, and its private key. A key that all users can read,
// or a group write, is refused: another program could be this end.
func (t *terminal) readKeyPair(certificate, key string) (*tls.Certificate, error) {
	chain, err := t.readInput(certificate, maxCertificates)
	if err != nil {
		return nil, err
	}
	f, err := durable.OpenRegular(key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", key, err)
	}
	defer f.Close()
	at, err := f.Stat()
	if err != nil {
		return nil, err
	}
	owner, ok := at.Sys().(*syscall.Stat_t)
	switch {
	case at.Mode().Perm()&0o027 != 0: // a group may read: so does systemd hand credentials to users
		return nil, fmt.Errorf("key %s has mode %#o, so that other users can have the private key: want 0600, or 0640 for a group of its own", key, at.Mode().Perm())
	case !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return nil, fmt.Errorf("key %s belongs to another user, who can read and change the private key", key)
	}
	b, err := durable.ReadAll(f, maxPrivateKey)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", key, err)
	}
	defer clear(b)
	pair, err := tls.X509KeyPair(chain, b)
	if err != nil {
		return nil, fmt.Errorf("certificate %s and key %s: %w", certificate, key, err)
	}
	return &pair, nil
}
