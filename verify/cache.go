// SPDX-License-Identifier: Apache-2.0

package verify

import (
	lru "container/list"
	"crypto/x509"
	"sync"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// cache remembers reports that were verified under a certificate and its chain,
// revocation lists that were found to be by a root, and chains of certificates of TPMs,
// so that the same bytes are not verified again: anchored evidence shows one report many
// times. Several goroutines may use it.
//
// What it remembers is a fact about bytes: a signature verified. The key is a digest of
// everything that this depends on: the report, every certificate in its order, and the
// roots that are trusted. It remembers nothing that depends on time or policy: validity,
// revocation, chip, TCB and policy are checked every time. It does not remember failures.
type cache struct {
	mu      sync.Mutex
	limit   int
	entries map[evidence.Digest]*lru.Element
	order   *lru.List // of *cacheEntry, the one used last in front
}

type cacheEntry struct {
	key    evidence.Digest
	report *snp.Report         // nil for all but a report
	chain  *snp.Chain          // holds the leaf
	ek     []*x509.Certificate // from the certificate of an endorsement key to a root of the policy
}

// newCache returns a cache of at most limit entries; the one that was not used for
// longest makes room.
func newCache(limit int) *cache {
	return &cache{limit: limit, entries: make(map[evidence.Digest]*lru.Element), order: lru.New()}
}

func (c *cache) get(key evidence.Digest) *cacheEntry {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cacheEntry)
}

func (c *cache) put(e *cacheEntry) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if have, ok := c.entries[e.key]; ok {
		have.Value = e
		c.order.MoveToFront(have)
		return
	}
	c.entries[e.key] = c.order.PushFront(e)
	if c.order.Len() > c.limit {
		last := c.order.Back()
		delete(c.entries, last.Value.(*cacheEntry).key)
		c.order.Remove(last)
	}
}

// reportKey is the key of a report with these certificates, under these roots.
func reportKey(report []byte, certificates [][]byte, roots *snp.Roots) evidence.Digest {
	id := roots.Digest()
	return evidence.Sum256("agentd/cache/report/1", append([][]byte{id[:], report}, certificates...)...)
}

// revocationKey is the key of a revocation list that is by this root.
func revocationKey(l *snp.RevocationList, c *snp.Chain) evidence.Digest {
	return evidence.Sum256("agentd/cache/revocation/1", l.Bytes(), c.Root.Raw)
}

// ekKey is the key of the certificates in an enrolment, under these roots.
func ekKey(certificates [][]byte, roots []*x509.Certificate) evidence.Digest {
	var raw [][]byte
	for _, c := range roots {
		raw = append(raw, c.Raw)
	}
	id := evidence.Sum256("agentd/cache/ek-roots/1", raw...)
	return evidence.Sum256("agentd/cache/ek/1", append([][]byte{id[:]}, certificates...)...)
}

// ekChain leads from the certificate in an enrolment to a root of the policy. Of several
// ways one that is valid is taken, so that a known one does where it is.
func (a *appraiser) ekChain(raw keys.Bundle, c *keys.EKCertificate, roots []*x509.Certificate) ([]*x509.Certificate, error) {
	if a.cache == nil {
		return c.Chain(roots, a.now)
	}
	key := ekKey(raw, roots)
	if known := a.cache.get(key); known != nil && c.CheckValidity(known.ek, a.now) == nil {
		return known.ek, nil
	}
	chain, err := c.Chain(roots, a.now)
	if err == nil {
		a.cache.put(&cacheEntry{key: key, ek: chain})
	}
	return chain, err
}
