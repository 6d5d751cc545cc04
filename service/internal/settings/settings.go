// SPDX-License-Identifier: Apache-2.0

// Package settings reads the configuration of agentd-verifier: docs/verifier-service.md has its keys.
package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// MaxDrain is the longest time that a worker serves after it was told to end, in seconds.
const MaxDrain = 300

// MaxText is the largest configuration that is read, in bytes.
const MaxText = 256 << 10

// Settings is a configuration.
type Settings struct {
	Server     Server     `toml:"server"`
	Database   Database   `toml:"database"`
	Tokens     Tokens     `toml:"tokens"`
	Authority  Authority  `toml:"authority"`
	Trust      Trust      `toml:"trust"`
	Policies   Policies   `toml:"policies"`
	Admin      Admin      `toml:"admin"`
	Monitoring Monitoring `toml:"monitoring"`
	Tracing    Tracing    `toml:"tracing"`
	Limits     Limits     `toml:"limits"`

	Proxies []netip.Prefix `toml:"-"` // Server.TrustedProxies
}

// Server is [server]: what clients reach.
type Server struct {
	Listen         string   `toml:"listen"`
	Certificate    string   `toml:"certificate"`
	Key            string   `toml:"key"`
	ClientCA       string   `toml:"client_ca"`
	TrustedProxies []string `toml:"trusted_proxies"`
	DrainSeconds   int      `toml:"drain_seconds"`
}

// Database is [database].
type Database struct {
	URL          string `toml:"url"`
	PasswordFile string `toml:"password_file"`
	Connections  int    `toml:"connections"`
	File         string `toml:"file"`
}

// Tokens is [tokens].
type Tokens struct {
	Issuer          string   `toml:"issuer"`
	Keys            []string `toml:"keys"`
	LifetimeSeconds int      `toml:"lifetime_seconds"`
}

// Authority is [authority]: what certifies attestation keys of accepted evidence.
type Authority struct {
	Certificate     string   `toml:"certificate"`
	Key             string   `toml:"key"`
	LifetimeSeconds int      `toml:"lifetime_seconds"`
	Identifier      string   `toml:"identifier"`
	Policies        []string `toml:"policies"`
}

// Values of Authority.Identifier: what names a machine in certificates.
const (
	IdentifierAK = "ak" // attestation key
	IdentifierEK = "ek" // endorsement key, by its approved enrolment
)

// PolicyName is the name of a policy, as it is in paths.
var PolicyName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Trust is [trust].
type Trust struct {
	Certificates []string `toml:"certificates"`
	Revocation   []string `toml:"revocation"`
	TestRoot     string   `toml:"test_root_that_vouches_for_no_hardware"`
}

// Policies is [policies]: keys of those who may say what is acceptable. Without keys, administrators may.
type Policies struct {
	Keys      []string `toml:"keys"`
	Threshold int      `toml:"threshold"`
	Number    int      `toml:"number"`
}

// Admin is [admin].
type Admin struct {
	Listen      string   `toml:"listen"`
	Certificate string   `toml:"certificate"`
	Key         string   `toml:"key"`
	ClientCA    string   `toml:"client_ca"`
	Names       []string `toml:"names"`
	OIDC        OIDC     `toml:"oidc"`
}

// OIDC is [admin.oidc]: administrators who come with an ID token in place of a certificate.
type OIDC struct {
	Issuer   string   `toml:"issuer"`
	Audience string   `toml:"audience"`
	Claim    string   `toml:"claim"`
	Names    []string `toml:"names"`
	CA       string   `toml:"ca"`
}

// Values of OIDC.Claim: what names an administrator.
const (
	ClaimSubject = "sub"
	ClaimEmail   = "email"
)

// OIDCPrefix is before the names of administrators who came with a token, in records.
const OIDCPrefix = "oidc:"

// Monitoring is [monitoring].
type Monitoring struct {
	Listen string `toml:"listen"`
}

// Tracing is [tracing].
type Tracing struct {
	Endpoint string `toml:"endpoint"`
	Percent  int    `toml:"percent"`
	CA       string `toml:"ca"`
}

// Limits is [limits].
type Limits struct {
	Rate             int `toml:"rate"`
	Burst            int `toml:"burst"`
	AtOnce           int `toml:"at_once"`
	ClientAtOnce     int `toml:"client_at_once"`
	Body             int `toml:"body"`
	Connections      int `toml:"connections"`
	Challenges       int `toml:"challenges"`
	ChallengeSeconds int `toml:"challenge_seconds"`
	Machines         int `toml:"machines"`
}

// Parse parses a configuration, and checks what can be checked without its files.
func Parse(text []byte) (*Settings, error) {
	s := &Settings{
		Server: Server{DrainSeconds: 5}, Database: Database{Connections: 16}, Tokens: Tokens{LifetimeSeconds: int(ear.DefaultLifetime / time.Second)},
		Authority: Authority{LifetimeSeconds: int(relying.DefaultCertificateLifetime / time.Second), Identifier: IdentifierAK},
		Tracing:   Tracing{Percent: 10}, Policies: Policies{Threshold: 1},
		Limits: Limits{Rate: 20, Burst: 40, AtOnce: 32, ClientAtOnce: 8, Body: relying.DefaultBody, Connections: 4096, Challenges: 100_000, ChallengeSeconds: 300, Machines: 100_000},
	}
	at, err := stricttoml.Decode(text, MaxText, s)
	if err != nil {
		return nil, err
	}
	var all []error
	refuse := func(key, format string, a ...any) { all = append(all, at.Errorf(key, format, a...)) }
	s.checkNumbers(refuse)
	s.checkServer(refuse)
	s.checkOthers(refuse)
	return s, errors.Join(all...)
}

type refuse func(key, format string, a ...any)

func (s *Settings) checkNumbers(no refuse) {
	l := &s.Limits
	for _, n := range []struct {
		key           string
		is, low, high int
	}{
		{"limits.rate", l.Rate, 1, 1_000_000}, {"limits.burst", l.Burst, 1, 1_000_000}, {"limits.at_once", l.AtOnce, 1, 10_000},
		{"limits.client_at_once", l.ClientAtOnce, 1, 10_000}, {"limits.body", l.Body, 64 << 10, relying.MaxBody}, {"limits.connections", l.Connections, 1, 1_000_000},
		{"limits.challenges", l.Challenges, 1, 10_000_000}, {"limits.challenge_seconds", l.ChallengeSeconds, int(relying.MinLifetime / time.Second), int(relying.MaxLifetime / time.Second)},
		{"limits.machines", l.Machines, 1, 10_000_000}, {"server.drain_seconds", s.Server.DrainSeconds, 0, MaxDrain}, {"database.connections", s.Database.Connections, 2, 1000},
		{"policies.threshold", s.Policies.Threshold, 1, 100}, {"policies.number", s.Policies.Number, 0, verify.MaxPolicyNumber},
		{"tracing.percent", s.Tracing.Percent, 0, 100},
		{"authority.lifetime_seconds", s.Authority.LifetimeSeconds, 60, int(relying.MaxCertificateLifetime / time.Second)},
		{"tokens.lifetime_seconds", s.Tokens.LifetimeSeconds, 1, int(ear.MaxLifetime / time.Second)},
	} {
		if n.is < n.low || n.is > n.high {
			no(n.key, "it is %d: want %d to %d", n.is, n.low, n.high)
		}
	}
}

func (s *Settings) checkServer(no refuse) {
	v := &s.Server
	checkListen(no, "server.listen", v.Listen, true)
	if (v.Certificate == "") != (v.Key == "") {
		no("server.certificate", "certificate and key come together")
	}
	if v.Certificate == "" && v.Listen != "" && !loopback(v.Listen) {
		no("server.listen", "without certificate and key, the answers could be changed on their way: name both, or listen on a loopback address")
	}
	if v.ClientCA != "" && v.Certificate == "" {
		no("server.client_ca", "certificates of clients need TLS: name certificate and key")
	}
	for i, p := range v.TrustedProxies {
		prefix, err := netip.ParsePrefix(p)
		if err != nil {
			if a, alone := netip.ParseAddr(p); alone == nil {
				prefix, err = a.Prefix(a.BitLen())
			}
		}
		if err != nil {
			no(fmt.Sprintf("server.trusted_proxies[%d]", i), "want an address or a network, such as 10.0.0.0/8")
			continue
		}
		s.Proxies = append(s.Proxies, prefix.Masked())
	}
}

func (s *Settings) checkOthers(no refuse) {
	if (s.Database.URL == "") == (s.Database.File == "") {
		no("database", "want either url, for a PostgreSQL, or file, for SQLite")
	}
	a := &s.Admin
	checkListen(no, "admin.listen", a.Listen, false)
	if a.Certificate == "" && a.Key == "" {
		a.Certificate, a.Key = s.Server.Certificate, s.Server.Key
	}
	if a.Listen != "" {
		switch {
		case a.Certificate == "" || a.Key == "":
			no("admin", "want certificate and key, of [admin] or [server]: administrators come with certificates or tokens, so over TLS")
		case a.ClientCA == "" && a.OIDC.Issuer == "":
			no("admin.client_ca", "want the authority that certifies administrators, or admin.oidc")
		case a.ClientCA != "" && len(a.Names) == 0:
			no("admin.names", "want the common names of administrators: not each certificate of an authority is one of them")
		}
	}
	for i, name := range a.Names {
		if strings.HasPrefix(name, OIDCPrefix) {
			no(fmt.Sprintf("admin.names[%d]", i), "%s is before the names of [admin.oidc] in records", OIDCPrefix)
		}
	}
	checkOIDC(no, &a.OIDC)
	checkListen(no, "monitoring.listen", s.Monitoring.Listen, false)
	checkTracing(no, &s.Tracing)
	checkAuthority(no, &s.Authority)
	if p := &s.Policies; len(p.Keys) == 0 && (p.Threshold != 1 || p.Number != 0) {
		no("policies.keys", "want the keys whose signatures count")
	}
}

func checkAuthority(no refuse, a *Authority) {
	switch {
	case (a.Certificate == "") != (a.Key == ""):
		no("authority.certificate", "certificate and key come together")
	case a.Certificate == "" && len(a.Policies) > 0:
		no("authority.certificate", "want the certificate of the authority, and its key")
	case a.Certificate != "" && len(a.Policies) == 0:
		no("authority.policies", "want the policies under which attestation keys are certified: a client chooses the policy")
	}
	for i, name := range a.Policies {
		if !PolicyName.MatchString(name) {
			no(fmt.Sprintf("authority.policies[%d]", i), "want the name of a policy, as it is in paths")
		}
	}
	if a.Identifier != IdentifierAK && a.Identifier != IdentifierEK {
		no("authority.identifier", "want %s or %s", IdentifierAK, IdentifierEK)
	}
}

func checkOIDC(no refuse, o *OIDC) {
	if o.Claim == "" {
		o.Claim = ClaimSubject
	}
	if o.Issuer == "" {
		if o.Audience != "" || o.CA != "" || len(o.Names) > 0 {
			no("admin.oidc.issuer", "want the address of the issuer")
		}
		return
	}
	if u, err := url.Parse(o.Issuer); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		no("admin.oidc.issuer", "want an address of https without a query, as the claim iss has it")
	}
	if o.Audience == "" {
		no("admin.oidc.audience", "want the client that tokens are for: a token for another one must not count")
	}
	if o.Claim != ClaimSubject && o.Claim != ClaimEmail {
		no("admin.oidc.claim", "want %s or %s: others can be changed by those that they name", ClaimSubject, ClaimEmail)
	}
	if len(o.Names) == 0 {
		no("admin.oidc.names", "want the administrators: not each user of an issuer is one of them")
	}
}

func checkTracing(no refuse, t *Tracing) {
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	switch {
	case err != nil || u.Host == "" || u.Port() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http":
		no("tracing.endpoint", "want an address with port and path, such as https://collector.example:4318/v1/traces")
	case u.Scheme == "http" && !loopback(u.Host):
		no("tracing.endpoint", "traces name machines and policies: use https, or a collector on a loopback address")
	}
}

func checkListen(no refuse, key, address string, required bool) {
	if address == "" && !required {
		return
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		no(key, "want an address with a port, such as 127.0.0.1:8443")
	}
}

// loopback reports whether an address to listen on is of this machine alone. A name is not looked up.
func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
