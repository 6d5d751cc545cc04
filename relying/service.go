// SPDX-License-Identifier: Apache-2.0

// Package relying serves the verification of evidence over HTTP, for relying parties that have no Go.
//
//	service, err := relying.New(relying.Config{
//		Policies:   func(context.Context) (*verify.Verifier, *verify.Policy, error) { return verifier, policy, nil },
//		Challenges: relying.NewMemoryChallenges(10_000),
//		Logs:       relying.NewMemoryLogs(10_000),
//	})
//	...
//	http.Handle("/v1/", limits(service))
//
// A client gets a challenge, which contains a nonce, has a machine make evidence over it, and sends the
// evidence with the nonce. The answer is the appraisal, and a token if the service has a key.
//
//	POST /v1/challenges  {}                                  gives  {"nonce":…,"expires":…}
//	POST /v1/appraisals  {"nonce":…,"evidence":{…},…}        gives  {"appraisal":{…},"token":…}
//	GET  /v1/jwks                                            gives  the public keys of tokens
//	GET  /v1/openapi.json                                    gives  this API as an OpenAPI document
//
// # What the service guarantees
//
// A nonce has 32 bytes of crypto/rand, is taken once, and only until it expires: it is taken before the
// evidence is looked at, so that refused evidence uses it up too. What was accepted of a machine's log
// is known when its next evidence comes. A log that was turned back since is refused, and so is a return
// to a boot that another one followed. Refused evidence gives no token.
//
// # What it does not do
//
// It knows no client: a server puts its limits and authentication before the handler. A client that is
// not limited can take all challenges that a store keeps; others then get the code "busy". Relying
// parties trust the service, and the connection to it: use TLS.
//
// docs/service.md has the API, and what an attacker who owns each input gains.
package relying

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// ErrNoPolicy is the error of [Config.Policies] if no policy is in force: it was withdrawn, or expired.
// Clients then get the code "no-such-path".
var ErrNoPolicy = errors.New("relying: no policy is in force")

// Lifetimes of challenges.
const (
	DefaultLifetime = 5 * time.Minute // if nothing else is said
	MinLifetime     = time.Second
	MaxLifetime     = time.Hour
)

// Sizes of the body of a request for an appraisal, in bytes.
const (
	DefaultBody = 4 << 20                       // if nothing else is said: a log of 2 MiB fits, in base64
	MaxBody     = evidence.MaxEvidence + 64<<10 // any evidence fits
)

const (
	atOnce   = 32               // appraisals at the same time if nothing else is said
	bodyTime = 30 * time.Second // for a body to arrive if nothing else is said
)

// Config is what a Service uses. Its functions and stores are called by many goroutines.
type Config struct {
	// Policies returns the verifier in force, and the policy that it was made with. It is called
	// for each appraisal, so that a service can exchange them. The error is [ErrNoPolicy] if none is
	// in force any more. A policy that expires needs [verify.Config.PolicyExpires]: otherwise its
	// tokens outlive it. Required.
	Policies func(context.Context) (*verify.Verifier, *verify.Policy, error)

	Challenges Challenges    // nonces that wait for evidence; required
	Logs       Logs          // what is known of each machine's log; nil: nothing is kept
	Records    Records       // record of each appraisal, in one step with Logs; nil: no record is made
	Lifetime   time.Duration // of a challenge; 0: DefaultLifetime

	// Expect completes what is expected of evidence: certificates, enrolments, an audience. The name
	// of the attestation key is what unverified evidence says. It may be nil. The nonce stays that
	// of the challenge.
	Expect func(ctx context.Context, ak keys.Name, evidence []byte, expect *verify.Expect) error

	// Keys returns the keys of tokens: the first signs, and all are published. To exchange a key,
	// add the new one at the end, put it first after relying parties have read it, and remove the
	// old one after its last token ended. nil: no tokens.
	Keys func() []*ear.Key
	// Token says what tokens contain. The service fills in the nonce. Refused evidence gets none.
	Token ear.Options

	// Authority certifies attestation keys of accepted evidence, for clients that ask for it. It stays
	// as it is while the service is used. nil: none are certified.
	Authority *Authority

	// AtOnce is how many requests for appraisals are read and appraised at the same time. Others get
	// the code "busy". 0: 32. Each takes a few times its body in memory.
	AtOnce int
	Body   int // bytes of the largest body of a request for an appraisal; 0: DefaultBody

	// BodyTime is how long a body may take to arrive. It takes the place of the server's own
	// limit, which may be absent. 0: 30 seconds.
	BodyTime time.Duration

	Now     func() time.Time // nil: time.Now
	OnError func(error)      // told of faults of the service, which clients learn nothing of; may be nil
}

// A Service answers the requests of the package. Many goroutines may use it.
type Service struct {
	c    Config
	busy chan struct{} // has an element for each request for an appraisal
}

// New returns a Service.
func New(c Config) (*Service, error) {
	or(&c.Lifetime, DefaultLifetime)
	or(&c.AtOnce, atOnce)
	or(&c.Body, DefaultBody)
	or(&c.BodyTime, bodyTime)
	switch {
	case c.Policies == nil:
		return nil, errors.New("relying: no policies were given, and none is the default, since what is acceptable depends on the relying party")
	case c.Challenges == nil:
		return nil, errors.New("relying: no store of challenges")
	case c.Records != nil && c.Logs == nil:
		return nil, errors.New("relying: records keep what is known of logs, and no store of logs was given")
	case c.Lifetime < MinLifetime || c.Lifetime > MaxLifetime:
		return nil, errors.New("relying: a challenge can be answered for a second to an hour")
	case c.AtOnce < 0 || c.BodyTime < 0:
		return nil, errors.New("relying: a limit is negative")
	case c.Body < 0 || c.Body > MaxBody:
		return nil, errors.New("relying: no evidence needs a larger body than MaxBody")
	case c.Keys != nil && (c.Token.Audience == "" || c.Token.Build == ""):
		return nil, errors.New("relying: tokens need an audience, and the name of the program that verifies (Build)")
	case c.Token.Refused || c.Token.Nonce != nil:
		return nil, errors.New("relying: tokens are for accepted evidence and the nonce of its challenge: leave Refused and Nonce out")
	}
	if c.Authority != nil {
		if err := c.Authority.check(); err != nil {
			return nil, err
		}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{c: c, busy: make(chan struct{}, c.AtOnce)}, nil
}

// or sets what is zero.
func or[T comparable](v *T, otherwise T) {
	if *v == *new(T) {
		*v = otherwise
	}
}

// ServeHTTP answers one request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	allowed := ""
	for _, x := range routes {
		switch {
		case x.path != r.URL.Path:
		case x.method == r.Method, x.method == http.MethodGet && r.Method == http.MethodHead:
			s.handle(x.answer, w, r)
			return
		default:
			allowed = x.method
		}
	}
	if allowed == "" {
		var paths []string
		for _, x := range routes {
			paths = append(paths, x.path)
		}
		s.refuse(w, &api.Problem{Code: api.CodeNoSuchPath, Detail: "want one of " + strings.Join(paths, ", ")})
		return
	}
	w.Header().Set("Allow", allowed)
	s.refuse(w, &api.Problem{Code: api.CodeMethod, Detail: "want " + allowed})
}
