// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"container/list"
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// What a verifier remembers at most. Only accepted evidence is remembered. What exceeds a bound
// displaces what was used longest ago, and costs an exchange of evidence when it is needed again.
const (
	maxPeers      = 1024
	maxOffers     = 4        // session keys of one peer: processes that share a certificate
	maxRemembered = 16 << 20 // bytes of documents
	maxDocument   = 1 << 20  // bytes of one document; a larger one is not remembered
)

// memory is what a verifier remembers of earlier connections.
type memory struct {
	mu    sync.Mutex
	peers map[peerKey]*list.Element // of *peer
	order *list.List                // most recently used first
	bytes int                       // of all documents
}

// peerKey names ends with one certificate's key, in one role.
type peerKey struct {
	role      role
	publicKey [sha256.Size]byte // SHA-256 of the SubjectPublicKeyInfo
}

func keyOfPeer(r role, publicKey []byte) peerKey { return peerKey{r, sha256.Sum256(publicKey)} }

// peer is the accepted evidence of ends with one key.
type peer struct {
	key   peerKey
	known []*known // newest first
}

// known is accepted evidence, and the secret by which the end that showed it is known again.
type known struct {
	session []byte
	secret  []byte
	digest  evidence.Digest // SHA-256 of the document
	size    int             // of the document, in bytes
	shown   time.Time       // when this end asked for it: log and PCRs are not older

	mu        sync.Mutex // guards the four below
	verdict   *Verdict   // under ruling; nil if that refuses
	ruling    *ruling
	most      time.Duration // the age at which later connections no longer rest on it
	supported time.Time     // the moment at which a certificate or a list that the verdict rests on ends; zero if none does
}

func newMemory() *memory { return &memory{peers: map[peerKey]*list.Element{}, order: list.New()} }

// add remembers k of an end with a key. It displaces what is known of the same session.
func (m *memory) add(key peerKey, k *known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.peers[key]
	if e == nil {
		e = m.order.PushFront(&peer{key: key})
		m.peers[key] = e
	}
	m.order.MoveToFront(e)
	p := e.Value.(*peer)
	m.cut(p, func(i int) bool { return bytes.Equal(p.known[i].session, k.session) })
	p.known = slices.Insert(p.known, 0, k)
	m.bytes += k.size
	m.cut(p, func(i int) bool { return i >= maxOffers })
	for len(m.peers) > maxPeers || m.bytes > maxRemembered {
		m.cut(m.order.Back().Value.(*peer), func(int) bool { return true })
		m.tidy(m.order.Back())
	}
}

// of returns what is known of ends with a key.
func (m *memory) of(key peerKey) []*known {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.peers[key]
	if e == nil {
		return nil
	}
	m.order.MoveToFront(e)
	return slices.Clone(e.Value.(*peer).known)
}

// drop forgets k.
func (m *memory) drop(key peerKey, k *known) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.peers[key]; e != nil {
		p := e.Value.(*peer)
		m.cut(p, func(i int) bool { return p.known[i] == k })
		m.tidy(e)
	}
}

// forget forgets all that old reports of.
func (m *memory) forget(old func(*known) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for e := m.order.Front(); e != nil; {
		next, p := e.Next(), e.Value.(*peer)
		m.cut(p, func(i int) bool { return old(p.known[i]) })
		m.tidy(e)
		e = next
	}
}

// cut forgets what is known of p at the places for which gone reports true.
func (m *memory) cut(p *peer, gone func(place int) bool) {
	var kept []*known
	for i, k := range p.known {
		if gone(i) {
			m.bytes -= k.size
		} else {
			kept = append(kept, k)
		}
	}
	p.known = kept
}

// tidy removes a peer of which nothing is known.
func (m *memory) tidy(e *list.Element) {
	if p := e.Value.(*peer); len(p.known) == 0 {
		m.order.Remove(e)
		delete(m.peers, p.key)
	}
}

// remember remembers the evidence that the other end of x showed, if later connections may rest on
// it.
func (v *Verifier) remember(x *exchange) {
	judged, l := x.judged, x.learned
	if l == nil || judged.Refusal != nil || len(judged.Document) > maxDocument {
		return
	}
	k := &known{session: l.session, secret: l.secret, digest: judged.Evidence, size: len(judged.Document), shown: x.asked}
	v.under(k, judged, x.ruling)
	v.forgetOld()
	v.memory.add(keyOfPeer(judged.bound.role, judged.expect.PublicKey), k)
}

// forgetOld forgets what is too old, also of ends that do not connect again: with secrets, and with the
// policies that it was judged under, each of which has a cache. The clock is read for each: a time of
// before could be one before k was shown, as of a clock that went back.
func (v *Verifier) forgetOld() {
	v.memory.forget(func(k *known) bool { return age(k.shown, v.options.Now()) >= v.options.Continue })
}

// under notes what k is under a policy. The caller has locked k, or k alone.
func (v *Verifier) under(k *known, judged *Verdict, r *ruling) {
	k.verdict, k.ruling = judged, r
	if judged.Refusal != nil {
		k.verdict = nil
		return
	}
	a := judged.Appraisal
	k.most, k.supported = v.options.Continue, a.SupportedUntil
	if r.maxAge > 0 { // the report grows older while connections rest on it
		k.most = min(k.most, r.maxAge-time.Duration(max(a.AnchorAge, a.GuestAnchorAge)))
	}
}

// offers returns what later connections to ends with this key may rest on, under a policy. It
// forgets what they may not.
func (v *Verifier) offers(r *ruling, key peerKey) []*known {
	var out []*known
	for _, k := range v.memory.of(key) {
		if v.verdictOn(k, r, v.options.Now()) != nil {
			out = append(out, k)
		} else {
			v.memory.drop(key, k)
		}
	}
	return out
}

// verdictOn returns the verdict on k under a policy, for a connection that is made now. If another
// policy is in force than before, it judges again. It is nil if no connection may rest on k any more.
func (v *Verifier) verdictOn(k *known, r *ruling, now time.Time) *Verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ruling != r && k.verdict != nil {
		v.under(k, v.judge(r, k.verdict.Document, k.verdict.expect, k.verdict.bound), r)
	}
	old := age(k.shown, now)
	if k.verdict == nil || r.over(now) || old >= k.most || !k.supported.IsZero() && !now.Before(k.supported) {
		return nil
	}
	out := *k.verdict
	out.Continued, out.Age = true, old
	return &out
}

// learned is how an end that shows evidence wants to be known again.
type learned struct{ session, secret []byte }
