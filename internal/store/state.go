// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"slices"

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
}

// Rollback says in a sentence what detects an older state.
func (s State) Rollback() string {
	if s.Counted {
		return "a counter in the TPM detects an older state of the files; a host that runs the TPM can turn both back"
	}
	return "no rollback protection: nothing detects an older state of the files, because no TPM counts here"
}

// State waits for its turn as every operation does.
func (s *Store) State(ctx context.Context) (State, error) {
	if err := s.begin(ctx); err != nil {
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
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var out []Item
	for _, e := range s.manifest.Entries {
		out = append(out, Item{Entry: e, Rewrap: s.stale(e)})
	}
	return out, nil
}
