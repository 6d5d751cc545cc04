// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/internal/version"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/share"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/service/internal/traces"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// generation is what a reload exchanges as a whole: the settings, and what was read of their files.
type generation struct {
	worker   *Worker
	settings *settings.Settings
	client   *tls.Config // nil: no TLS
	admin    *tls.Config
	issuer   *issuer // nil: administrators come with certificates only
	keys     []*ear.Key
	certify  *relying.Authority // nil: attestation keys are not certified
	trust    verify.Config
	policies *verify.PolicyKeys // nil: policies need no signature
	shares   *share.Shares
	plain    *relying.Service // answers what depends on no policy

	mu     sync.Mutex
	served map[string]*served // by the name of a policy; with mu
}

// served is a version of a policy that is in force.
type served struct {
	version uint64
	service *relying.Service
	expires time.Time // of a signed policy; zero: never
}

// now returns the service, if its policy has not expired.
func (x *served) now() (*relying.Service, error) {
	if !x.expires.IsZero() && !time.Now().Before(x.expires) {
		return nil, fmt.Errorf("%w: its policy expired at %s", store.ErrNone, x.expires.Format(time.RFC3339))
	}
	return x.service, nil
}

// parse returns the policy of a text and what its signature says, if it needs one.
func (g *generation) parse(text string) (*verify.Policy, verify.PolicyLabel, error) {
	if g.policies == nil {
		p, err := verify.ParsePolicy([]byte(text))
		return p, verify.PolicyLabel{}, err
	}
	p, err := g.policies.Parse([]byte(text), time.Now())
	if err != nil {
		return nil, verify.PolicyLabel{}, err
	}
	return p.Policy, p.Label, nil
}

// follows refuses a signed policy that is older than the one in force, by the numbers that they have. It
// returns the version in force, 0 for none.
func (g *generation) follows(ctx context.Context, name string, next verify.PolicyLabel) (uint64, error) {
	p, err := g.worker.store.Policy(ctx, name, 0)
	if errors.Is(err, store.ErrNone) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	// Its signature may be of keys that do not count any more. It was in force.
	var before verify.PolicyLabel
	if u, err := dsse.Read([]byte(p.Text), verify.MaxPolicy); err == nil {
		if before, err = verify.ParsePolicyLabel(u.Type); err != nil {
			before = verify.PolicyLabel{}
		}
	}
	if next.Number < before.Number {
		return 0, problem(codeConflict, fmt.Sprintf("the policy has number %d, and the one in force %d: an older policy is not put in its place", next.Number, before.Number))
	}
	return p.Version, nil
}

// newGeneration reads the files that settings name.
func newGeneration(w *Worker, s *settings.Settings) (g *generation, err error) {
	l := &s.Limits
	g = &generation{worker: w, settings: s, served: map[string]*served{},
		shares: share.New(share.Limits{Rate: l.Rate, Burst: l.Burst, ClientAtOnce: l.ClientAtOnce, AtOnce: l.AtOnce})}
	if g.client, err = tlsConfig(s.Server.Certificate, s.Server.Key, s.Server.ClientCA); err != nil {
		return nil, err
	}
	if s.Admin.Listen != "" {
		if g.admin, err = tlsConfig(s.Admin.Certificate, s.Admin.Key, s.Admin.ClientCA); err != nil {
			return nil, err
		}
		if g.issuer, err = newIssuer(s.Admin.OIDC); err != nil {
			return nil, err
		}
		if g.issuer != nil && s.Admin.ClientCA != "" {
			g.admin.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	if g.keys, err = tokenKeys(s.Tokens.Keys); err != nil {
		return nil, err
	}
	if g.certify, err = attestationAuthority(&s.Authority); err != nil {
		return nil, err
	}
	if g.trust, err = trust(&s.Trust); err != nil {
		return nil, err
	}
	if g.policies, err = policyKeys(&s.Policies); err != nil {
		return nil, err
	}
	c := g.relying()
	c.Policies = func(context.Context) (*verify.Verifier, *verify.Policy, error) {
		return nil, nil, errors.New("worker: this service appraises nothing")
	}
	if len(g.keys) > 0 {
		c.Keys, c.Token = g.tokens, ear.Options{Audience: "none", Build: build}
	}
	c.Authority = g.certify // which is checked with it
	g.plain, err = relying.New(c)
	return g, err
}

const build = "agentd-verifier " + version.Version

func (g *generation) tokens() []*ear.Key { return g.keys }

// relying is what the services of all policies have in common.
func (g *generation) relying() relying.Config {
	l := &g.settings.Limits
	return relying.Config{Challenges: g.worker.store, Logs: g.worker.store, Lifetime: time.Duration(l.ChallengeSeconds) * time.Second,
		AtOnce: l.AtOnce, Body: l.Body, OnError: g.worker.fault}
}

// service returns the service under the version of a policy that is in force now.
func (g *generation) service(ctx context.Context, name string) (*relying.Service, error) {
	version, err := g.worker.store.InForce(ctx, name)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	x := g.served[name]
	g.mu.Unlock()
	if x != nil && x.version == version {
		return x.now()
	}
	p, err := g.worker.store.Policy(ctx, name, 0)
	if err != nil {
		return nil, err
	}
	made, err := g.make(p)
	if err != nil {
		if errors.Is(err, verify.ErrPolicySignature) { // in the database, or by keys that do not count any more, or expired
			g.worker.told.Do(func() {
				g.worker.log.Error("a policy does not count", "policy", p.Name, "version", p.Version, "error", err)
			})
			return nil, store.ErrNone
		}
		return nil, fmt.Errorf("worker: policy %s, version %d: %w", p.Name, p.Version, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// Another request may have been here first: what that made has what it verified before.
	if x := g.served[name]; x != nil && x.version >= p.Version {
		return x.now()
	}
	g.served[name] = made
	return made.now()
}

// make makes the service under a version of a policy.
func (g *generation) make(p *store.Policy) (*served, error) {
	policy, label, err := g.parse(p.Text)
	if err != nil {
		return nil, err
	}
	trust := g.trust
	trust.PolicyExpires = label.Expires // no token outlives its policy
	verifier, err := verify.New(policy, trust)
	if err != nil {
		return nil, err
	}
	made := &served{version: p.Version, expires: label.Expires}
	c := g.relying()
	c.Policies = func(context.Context) (*verify.Verifier, *verify.Policy, error) {
		if _, err := made.now(); err != nil { // while the evidence was on its way
			return nil, nil, relying.ErrNoPolicy
		}
		return verifier, policy, nil
	}
	c.Records = &counted{g.worker.store.Records(p), &g.worker.figures, p.Name}
	if policy.Outside == verify.OutsideApproved {
		c.Expect = g.enrolled
	}
	c.Authority = g.authority(p.Name)
	// A token is for the audience of its policy: a client chooses the policy, and must not get a token
	// under an easy one that a relying party takes for one under its own.
	if len(g.keys) > 0 && p.Audience != "" {
		t := &g.settings.Tokens
		c.Keys = g.tokens
		c.Token = ear.Options{Audience: p.Audience, Issuer: t.Issuer, Lifetime: time.Duration(t.LifetimeSeconds) * time.Second, Build: build}
	}
	made.service, err = relying.New(c)
	return made, err
}

// enrolled adds the enrolment of the attestation key to what is expected.
func (g *generation) enrolled(ctx context.Context, ak keys.Name, _ []byte, expect *verify.Expect) error {
	line, err := g.worker.store.Enrolment(ctx, ak)
	if err != nil {
		return err
	}
	expect.Enrolments, err = keys.ParseEnrolments(line)
	return err
}

// authority returns what certifies attestation keys under a policy, nil if nothing does. A client chooses
// the policy, and must not get a certificate under an easy one that a certification authority takes for
// one under another: so only the policies that the settings name have it.
func (g *generation) authority(policy string) *relying.Authority {
	if g.certify == nil || !slices.Contains(g.settings.Authority.Policies, policy) {
		return nil
	}
	a := *g.certify
	if g.settings.Authority.Identifier == settings.IdentifierEK {
		a.Identify = g.enrolledAs
	}
	return &a
}

// enrolledAs returns the name of the endorsement key of an enrolled machine, without the prefix of the
// hash, and nothing if the appraisal does not rest on an approved enrolment that is still there.
func (g *generation) enrolledAs(ctx context.Context, ak keys.Name, a *verify.Appraisal) (string, error) {
	if a.AKOrigin == verify.AKNone || a.Enrolments == nil || a.Enrolments.State != keys.Approved {
		return "", nil
	}
	line, err := g.worker.store.Enrolment(ctx, ak)
	if err != nil || line == nil {
		return "", err
	}
	l, err := keys.ParseListed(line)
	if err != nil || l.State != keys.Approved {
		return "", err
	}
	return strings.TrimPrefix(l.Enrolment.EK.String(), "000b"), nil
}

// counted counts the records that a store keeps.
type counted struct {
	relying.Records
	figures *figures
	policy  string
}

// Append implements relying.Records.
func (c *counted) Append(ctx context.Context, r *relying.Record) error {
	err := c.Records.Append(ctx, r)
	if err == nil {
		traces.Of(ctx).Say("agentd.verdict", c.figures.appraised(c.policy, r))
	}
	return err
}
