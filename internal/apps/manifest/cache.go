// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
)

// cache remembers digests of files that have not changed since. It contains at most two times
// cacheEntries: when the younger half is full, it becomes the older one, and what was not
// asked for since is forgotten.
type cache struct {
	mu         sync.Mutex // guards the two below
	young, old map[identity]evidence.Digest
}

func newCache() *cache { return &cache{young: make(map[identity]evidence.Digest)} }

// get returns the digest of a file. A nil cache knows none.
func (c *cache) get(id identity) (evidence.Digest, bool) {
	if c == nil {
		return evidence.Digest{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.young[id]; ok {
		return d, true
	}
	d, ok := c.old[id]
	if ok {
		c.keep(id, d)
	}
	return d, ok
}

// put remembers d of a file whose hashing began at time began. A file that changed
// shortly before could be written again without its change time moving, and so could one
// that another user than root may map.
func (c *cache) put(id identity, d evidence.Digest, began time.Time) {
	if id.age(began) < cacheAge || !id.steady() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keep(id, d)
}

func (c *cache) keep(id identity, d evidence.Digest) {
	if len(c.young) >= cacheEntries {
		c.young, c.old = make(map[identity]evidence.Digest), c.young
	}
	c.young[id] = d
}
