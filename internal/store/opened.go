// SPDX-License-Identifier: Apache-2.0

package store

import (
	"sync"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// opened is the app roots that the store has opened. They change only in the turn of an
// operation, and are read without it: to derive a secret takes microseconds, while a write
// of another app waits for disk and TPM. Until a write is complete, what was before it is
// what counts.
type opened struct {
	mu     sync.RWMutex // guards all below, and the payloads from being wiped while they are used
	roots  map[string]*appRoot
	usable bool // the store is open, and no write failed since it was read
}

// get returns the root of an app, nil if it is not open. The caller has the turn.
func (o *opened) get(name string) *appRoot {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.roots[name]
}

func (o *opened) put(name string, a *appRoot) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.roots == nil {
		o.roots = make(map[string]*appRoot)
	}
	o.roots[name] = a
}

// use sets whether the roots may be used without the turn.
func (o *opened) use(usable bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.usable = usable
}

// drop wipes the roots of apps, which are read again when they are needed.
func (o *opened) drop(names []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, name := range names {
		if a := o.roots[name]; a != nil {
			a.payload.Wipe()
			delete(o.roots, name)
		}
	}
}

// forget wipes all roots. None is used until the store was read again.
func (o *opened) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.roots {
		a.payload.Wipe()
	}
	o.roots, o.usable = nil, false
}

// expand expands the root of the caller's app, if that is open. Not ok means that the store
// must be asked in turn.
func (o *opened) expand(c Caller, x expansion, version uint32) (out *secret.Secret, used uint32, err error, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	a := o.roots[c.App.Name]
	if !o.usable || a == nil {
		return nil, 0, nil, false
	}
	out, used, err = a.expand(c, x, version)
	return out, used, err, true
}
