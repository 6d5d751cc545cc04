// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// State is the condition of the store, without opening any blob.
type State struct {
	Ready      bool
	Err        error            // reason why it is not ready; its code tells what root can do
	Slot       sealing.SlotKind // weakest slot of new blobs; 0 if nothing can be sealed
	Generation uint64           // number of the manifest
	Counted    bool             // whether the TPM counts writings, so that an older state is detected
	Rewrap     bool             // whether blobs are sealed to an older TCB or another kind of slot than this machine has now
	Blobs      int              // listed
	Orphans    int              // blob files that the manifest does not list, left by a crash or newer than an accepted rollback
	Recipients []string         // recovery recipients, from the authenticated manifest
	Differ     bool             // whether the configuration names other recipients, which are not used
	StoreKey   sealing.StoreKey // that signs every blob: root keeps it with the recovery identity
	NewKey     bool             // whether this process made the store key, so that root may not have it yet
	Upgraded   *Report          // of the upgrade from version 1, if this process made it; what was kept has no sender
	Unproven   int              // blobs whose content came from a recovery that could not tell who wrote it
}

// State waits for its turn as every operation does.
func (s *Store) State(ctx context.Context) (State, error) {
	_, err := s.begin(ctx)
	if err != nil {
		return State{}, err
	}
	defer s.end()
	out := State{Ready: s.locked == nil, Err: s.locked, Slot: s.roots.kind()}
	if !out.Ready {
		return out, nil
	}
	m := s.manifest
	out.Generation, out.Counted, out.Blobs, out.Orphans = m.Number, len(m.Counter) > 0, len(m.Entries), s.orphans
	out.Recipients = s.header.Recipients()
	if len(s.config.Recipients) > 0 {
		want := slices.Compact(slices.Sorted(slices.Values(s.config.Recipients)))
		out.Differ = !slices.Equal(want, out.Recipients)
	}
	out.StoreKey, out.NewKey, out.Upgraded = s.key.public, s.newKey, s.upgraded
	for _, e := range m.Entries {
		if e.Unproven {
			out.Unproven++
		}
	}
	out.Rewrap = slices.ContainsFunc(m.Entries, s.stale)
	return out, nil
}

// stale reports whether e would be sealed to something else today.
func (s *Store) stale(e sealing.Entry) bool {
	return e.Slot != s.roots.kind() || e.Slot.SNP() && s.roots.reading != nil && e.TCB != s.roots.reading.TCB
}

// Item is one blob as the manifest lists it.
type Item struct {
	sealing.Entry
	Rewrap bool // whether it is sealed to an older TCB or another kind of slot than this machine has now
}

// List lists every blob, by app, kind and name, without opening one.
func (s *Store) List(ctx context.Context) ([]Item, error) {
	_, err := s.ready(ctx)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var out []Item
	for _, e := range s.manifest.Entries {
		out = append(out, Item{Entry: e, Rewrap: s.stale(e)})
	}
	return out, nil
}

// Contract returns the contract of the root of an app, or of its secret of that name. It
// opens the blob to authenticate it, and returns nothing of the payload. If the blob does
// not open, it returns the file's claim together with the error.
func (s *Store) Contract(ctx context.Context, app, name string) (sealing.Contract, error) {
	ctx, err := s.begin(ctx)
	if err != nil {
		return sealing.Contract{}, err
	}
	defer s.end()
	key := sealing.Key{App: app, Kind: sealing.KindAppRoot, Name: name}
	if name != "" {
		key.Kind = sealing.KindSecret
	}
	if s.locked != nil {
		c, err := s.claim(key)
		return c, errors.Join(s.locked, err)
	}
	e := s.manifest.Find(key)
	if e == nil {
		detail := fmt.Sprintf("app %q has no root: its first secret makes one", app)
		if name != "" {
			detail = fmt.Sprintf("app %q has no secret %q", app, name)
		}
		return sealing.Contract{}, &sealing.Error{Code: api.CodeNotFound, Detail: detail}
	}
	b, err := s.readBlob(blobFile(e.ID))
	if err != nil {
		return sealing.Contract{}, err
	}
	c := b.Claimed.Contract()
	c.Counted, c.StoreKey, c.Unproven = len(s.manifest.Counter) > 0, b.Sender.Key, e.Unproven
	_, payload, err := s.openEntry(*e, s.roots.opener(ctx))
	if err != nil {
		return c, err
	}
	payload.Wipe()
	c.Authenticated, c.Passage = true, s.passage(ctx)
	if name != "" { // the digests that the app must have are those of its root
		if a, err := s.app(ctx, app); err == nil {
			c.Digests = a.header.Digests
		}
	}
	return c, nil
}

// claim returns what a file claims, in a store whose manifest does not open.
func (s *Store) claim(key sealing.Key) (sealing.Contract, error) {
	files, err := s.blobFiles()
	if err != nil {
		return sealing.Contract{}, err
	}
	var best *sealing.Blob
	for _, file := range files {
		b, err := s.readBlob(file)
		if err == nil && b.Claimed.Key() == key && (best == nil || b.Claimed.Generation > best.Claimed.Generation) {
			best = b
		}
	}
	if best == nil {
		return sealing.Contract{}, &sealing.Error{Code: api.CodeNotFound, Detail: fmt.Sprintf("no file claims to be the %s %q of app %q", key.Kind, key.Name, key.App)}
	}
	c := best.Claimed.Contract()
	c.StoreKey = best.Sender.Key
	return c, nil
}

// Plan returns the contract of what the app would seal under that name now.
func (s *Store) Plan(ctx context.Context, app sealing.App, name string) (sealing.Contract, error) {
	_, err := s.ready(ctx)
	if err != nil {
		return sealing.Contract{}, err
	}
	defer s.end()
	c := s.header.Contract()
	c.Planned, c.Kind, c.App, c.Name, c.Generation = true, sealing.KindSecret, app, name, s.manifest.Number+1
	c.Counted, c.StoreKey = len(s.manifest.Counter) > 0, s.key.public
	if name == "" {
		c.Kind = sealing.KindAppRoot
	}
	if s.roots.kind().SNP() {
		now := *s.roots.reading
		c.Machine = &now
	}
	return c, nil
}
