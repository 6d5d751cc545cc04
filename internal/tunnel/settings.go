// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/verify"
)

// Role is the end of a tunnel that a process is.
type Role string

// Roles.
const (
	Serve   Role = "serve"   // inside the machine: speaks attested TLS to those who connect, and passes on to a service
	Connect Role = "connect" // outside: accepts programs, and passes on by attested TLS
)

// Settings say what an end does. A reload replaces them all at once, for new connections.
type Settings struct {
	Role Role    // the same for as long as the process runs
	To   Address // of the service, or of the other end

	// TLS has certificate and roots. AnyCertificate, of a Connect end, has the evidence alone say
	// who the other end is.
	TLS            *tls.Config
	AnyCertificate bool
	ServerName     string // name in the other end's certificate, of a Connect end; empty: the host of To

	// Policy of the other end's evidence, and what is trusted; nil: this end does not verify.
	// Verifier says more about verifying, and stays the same for as long as the process runs. Its
	// Config is not used.
	Policy   *verify.Policy
	Expires  time.Time // when Policy accepts nothing any more; zero: never
	Trust    verify.Config
	Verifier attestedtls.VerifierOptions
	Warn     bool // genuine evidence that the policy refuses passes
	Fresh    bool // each connection has a report of its own

	Attester    *attestedtls.Attester // nil: this end does not attest
	Application string                // protocol of the application, if both ends name it

	// ProxyProtocol tells the service of a Serve end who connected, by a header of PROXY protocol v2.
	// WellKnown answers clients that do not speak the protocol of attested TLS with evidence.
	ProxyProtocol bool
	WellKnown     bool

	Access io.WriteCloser // gets a line for each connection; may be nil. The end closes it

	Limits Limits
}

// Limits bound what others can have an end do.
type Limits struct {
	Exchange time.Duration // for TLS's handshake and the exchange of evidence
	Connect  time.Duration // for the connection to To
	Idle     time.Duration // without a byte in either direction, of an open connection
	Drain    time.Duration // for open connections, when the process is told to stop

	Connections int // at once
	PerAddress  int // at once from one address of IPv4, or one network of 64 bits of IPv6
}

// DefaultLimits returns the limits of an end that is not told others.
func DefaultLimits() Limits {
	return Limits{
		Exchange: attestedtls.DefaultTimeout, Connect: 10 * time.Second, Idle: time.Hour, Drain: 30 * time.Second,
		Connections: 4096, PerAddress: 1024,
	}
}

// Bounds of limits.
const (
	longest = 31 * 24 * time.Hour
	most    = 1 << 20 // connections
)

// Check says which limit cannot be meant. It names limits as the flags of agentctl.
func (l Limits) Check() error {
	for _, x := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"timeout", l.Exchange, time.Millisecond}, {"connect-timeout", l.Connect, time.Millisecond},
		{"idle-timeout", l.Idle, time.Millisecond}, {"drain-timeout", l.Drain, 0},
	} {
		if x.value < x.least || x.value > longest {
			return fmt.Errorf("%s %v: want %v to %v", x.name, x.value, x.least, longest)
		}
	}
	switch {
	case l.Connections < 1 || l.Connections > most:
		return fmt.Errorf("max-connections %d: want 1 to %d", l.Connections, most)
	case l.PerAddress < 1 || l.PerAddress > most:
		return fmt.Errorf("max-connections-per-address %d: want 1 to %d", l.PerAddress, most)
	}
	return nil
}

// setup is settings, ready for connections.
type setup struct {
	Settings
	client *attestedtls.Client // of a Connect end
	server *attestedtls.Server // of a Serve end

	evidence *attestedtls.EvidenceHandler // of a Serve end with WellKnown
}

// errRestart is wrapped by the error of a reload that would change what cannot change.
var errRestart = errors.New("this needs a restart")

// verifierFor returns the verifier of an end that has none yet; nil if it does not verify.
func verifierFor(s *Settings) (*attestedtls.Verifier, error) {
	if s.Policy == nil {
		return nil, nil
	}
	o := s.Verifier
	o.Config = s.Trust
	return attestedtls.NewSignedVerifier(s.signed(), o)
}

// signed returns the policy with its end.
func (s *Settings) signed() *verify.SignedPolicy {
	return &verify.SignedPolicy{Policy: s.Policy, Label: verify.PolicyLabel{Expires: s.Expires}}
}

// ready returns the setup of settings, with the verifier that an end has.
func ready(s *Settings, v *attestedtls.Verifier) (*setup, error) {
	if err := s.Limits.Check(); err != nil {
		return nil, err
	}
	var hook attestedtls.Hook
	if s.Warn && v != nil {
		hook = attestedtls.Warn(func(*attestedtls.Verdict) {}) // the record of the connection says it
	}
	out := &setup{Settings: *s}
	switch s.Role {
	case Serve:
		out.server = &attestedtls.Server{
			TLS: s.TLS, Verifier: v, Attester: s.Attester, Application: s.Application, Fresh: s.Fresh, Hook: hook,
			Timeout: s.Limits.Exchange, MaxExchanges: s.Limits.Connections, AlsoPlain: s.WellKnown,
		}
		if s.WellKnown {
			if s.Attester == nil || s.TLS == nil || len(s.TLS.Certificates) != 1 {
				return nil, errors.New("an end without a certificate of its own, or without evidence, cannot answer those who ask for that")
			}
			out.evidence = &attestedtls.EvidenceHandler{Attester: s.Attester, Certificate: &s.TLS.Certificates[0]}
		}
		return out, out.server.Check()
	case Connect:
		if v == nil {
			return nil, errors.New("a connect end without a policy would pass on to any machine")
		}
		out.client = &attestedtls.Client{
			TLS: s.TLS, AnyCertificate: s.AnyCertificate, Verifier: v, Attester: s.Attester, Application: s.Application, Fresh: s.Fresh, Hook: hook,
			Timeout: s.Limits.Exchange,
		}
		return out, out.client.Check()
	}
	return nil, fmt.Errorf("role %q is not known", s.Role)
}

// restarts says what the settings n change that only a restart can, if anything.
func (s *setup) restarts(n *Settings) error {
	a, b := s.Verifier, n.Verifier
	for _, x := range []struct {
		name    string
		changed bool
	}{
		{"the role", s.Role != n.Role},
		{"whether this end verifies (policy)", (s.Policy == nil) != (n.Policy == nil)},
		{"audience", a.Audience != b.Audience},
		{"close-open", a.JudgeOpen != b.JudgeOpen},
		{"continue", a.Continue != b.Continue},
		{"which callers are accepted", a.AcceptAnyCaller != b.AcceptAnyCaller},
	} {
		if x.changed {
			return fmt.Errorf("%s changed: %w", x.name, errRestart)
		}
	}
	return nil
}
