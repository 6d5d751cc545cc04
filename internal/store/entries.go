// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"github.com/cvm-agentd/agentd/sealing"
)

// entryOf returns the entry of a blob with that header and payload.
func entryOf(h *sealing.Header, size int) sealing.Entry {
	e := sealing.Entry{
		Key:        h.Key(),
		ID:         h.ID,
		Generation: h.Generation,
		Size:       uint32(size),
		Slot:       h.Weakest(),
	}
	if h.Machine != nil {
		e.TCB = h.Machine.TCB
	}
	return e
}

// insert adds e to m, in the place of the entry of the same key.
func insert(m *sealing.Manifest, e sealing.Entry) {
	i, ok := slices.BinarySearchFunc(m.Entries, e.Key, func(e sealing.Entry, k sealing.Key) int { return e.Key.Compare(k) })
	if ok {
		m.Entries[i] = e
		return
	}
	m.Entries = slices.Insert(m.Entries, i, e)
}

// remove removes the entry of k from m.
func remove(m *sealing.Manifest, k sealing.Key) {
	m.Entries = slices.DeleteFunc(m.Entries, func(e sealing.Entry) bool { return e.Key == k })
}

// following returns the manifest after m, with nothing changed yet.
func following(m *sealing.Manifest) *sealing.Manifest {
	return &sealing.Manifest{Number: m.Number + 1, Base: m.Base, Counter: slices.Clone(m.Counter), Retired: slices.Clone(m.Retired), Entries: slices.Clone(m.Entries)}
}
