// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// MaxContinue is the longest time for which VerifierOptions.Continue lets later connections rest on
// earlier evidence.
const MaxContinue = time.Hour

// Labels of what continues evidence (docs/attested-tls.md, section 5). The second is of this
// package alone: no other end computes it.
const (
	labelContinued = "agentd/attested-tls/1/continued"
	labelSecret    = "agentd/attested-tls/1/secret"
)

// sessionSize is the size of the name of a session key in bytes. Proofs, secrets and salts have
// nonceSize.
const sessionSize = 16

// continuation is what the proof of one connection is over.
type continuation struct {
	role      role // of the end that attests
	exporter  []byte
	nonce     []byte
	audience  string
	publicKey []byte // SubjectPublicKeyInfo of the certificate that this end used
	session   []byte
	evidence  evidence.Digest
	salt      []byte
}

// proof returns what only an end that knows the secret can compute.
func (c *continuation) proof(secret []byte) []byte {
	return keyed(secret, labelContinued, []byte(c.role), c.exporter, c.nonce, []byte(c.audience), c.publicKey, c.session, c.evidence[:], c.salt)
}

// keyed returns HMAC-SHA256 over the labelled encoding of parts.
func keyed(key []byte, label string, parts ...[]byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(evidence.Preimage(label, parts...))
	return h.Sum(nil)
}

// Times of a session key. A secret that was given out just before its key is replaced serves for
// another MaxContinue.
const (
	sessionUse  = time.Hour                // new secrets are made of it
	sessionLife = sessionUse + MaxContinue // it is known
)

// sessionKey is a key in memory of this process, of which the secrets of all verifiers are made. So
// an end that attests keeps nothing for each of them, and they cannot fill its memory.
type sessionKey struct {
	name  [sessionSize]byte
	value [sha256.Size]byte
	made  time.Time
}

// secret returns what this end and a verifier share after it was shown evidence with this digest.
// It is another one for each role, audience, key of a certificate and evidence, so that a verifier
// that lies about one of them learns nothing about the secret of another verifier.
func (k *sessionKey) secret(r role, audience string, publicKey []byte, digest evidence.Digest) []byte {
	return keyed(k.value[:], labelSecret, []byte(r), []byte(audience), publicKey, digest[:])
}

// sessionKeys are the keys that an attester knows. Its methods read the clock while they hold mu: a time
// that was read before would be one before a key that another goroutine made since, and that key would
// seem to be of a clock that went back.
type sessionKeys struct {
	mu    sync.Mutex
	known []*sessionKey // newest first, at most as many as can be younger than sessionLife
}

// current returns the key that new secrets are made of.
func (s *sessionKeys) current(clock func() time.Time) *sessionKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.forget(clock)
	if len(s.known) == 0 || age(s.known[0].made, now) >= sessionUse {
		k := &sessionKey{made: now}
		rand.Read(k.name[:])
		rand.Read(k.value[:])
		s.known = append([]*sessionKey{k}, s.known...)
	}
	return s.known[0]
}

// named returns the key with a name, or nil if it is of another process, or too old.
func (s *sessionKeys) named(name []byte, clock func() time.Time) *sessionKey {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(clock)
	for _, k := range s.known {
		if bytes.Equal(k.name[:], name) {
			return k
		}
	}
	return nil
}

// forget drops keys that are too old, and returns the time. The caller holds mu.
func (s *sessionKeys) forget(clock func() time.Time) time.Time {
	now, kept := clock(), s.known[:0]
	for _, k := range s.known {
		if age(k.made, now) < sessionLife {
			kept = append(kept, k)
		}
	}
	clear(s.known[len(kept):])
	s.known = kept
	return now
}

// age returns the time from then to now by the clock that says more: the monotonic one stops while
// the machine sleeps, and the other one can be set. It is MaxContinue+sessionLife, older than anything may
// be, if a clock went back.
func age(then, now time.Time) time.Duration {
	monotonic, wall := now.Sub(then), now.Round(0).Sub(then.Round(0))
	if monotonic < 0 || wall < 0 {
		return MaxContinue + sessionLife
	}
	return max(monotonic, wall)
}

// offered returns the first offer of the other end that this end can continue, and its secret.
func (a *Attester) offered(w *wish, publicKey []byte) (*offer, []byte) {
	for i := range w.Continue {
		o := &w.Continue[i]
		if k := a.sessions.named(o.Session, time.Now); k != nil {
			return o, k.secret(w.Role, string(w.Audience), publicKey, o.Evidence)
		}
	}
	return nil, nil
}
