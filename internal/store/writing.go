// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// writing is one change of the store. New blobs go to new files, and no listed file is
// changed. Then the manifest that lists them replaces the old one: that is the moment of
// the change. The counter follows, and only then are the files of replaced blobs removed.
type writing struct {
	store *Store
	next  *sealing.Manifest
	to    target   // of the manifest and of every new blob
	made  []string // files of new blobs
	roots []string // apps whose root is written
}

// change makes a change of an open store: everything that f puts, or nothing. It refuses to
// change a store that was handed over to a successor.
func (s *Store) change(ctx context.Context, f func(*writing) error) error {
	if err := s.frozen(ctx); err != nil {
		return err
	}
	return s.changeAlways(ctx, f)
}

// changeAlways does what change does, also to a store that was handed over: it is for what a
// successor need not learn.
func (s *Store) changeAlways(ctx context.Context, f func(*writing) error) error {
	t := &writing{store: s, next: following(s.manifest), to: s.target()}
	if err := f(t); err != nil {
		t.abort()
		return err
	}
	return t.commit(ctx)
}

// target returns the target of everything that is written: that of the authenticated
// manifest.
func (s *Store) target() target {
	h := &s.header
	return target{tpmSecret: h.TPMSecret, recipients: h.Recipients(), loss: h.LossAcknowledged, key: s.key}
}

// put seals payload for h and writes it to a file of its own.
func (t *writing) put(ctx context.Context, h sealing.Header, payload *secret.Secret) error {
	h.Generation = t.next.Number
	b, err := t.store.roots.seal(ctx, h, t.to, payload)
	if err != nil {
		return err
	}
	file := blobFile(b.Claimed.ID)
	t.made = append(t.made, file)
	if err := t.store.config.Files.WriteDurable(file, b.Encode()); err != nil {
		return &sealing.Error{Code: api.CodeInterrupted, Detail: "write " + file, Err: err}
	}
	e := entryOf(&b.Claimed, payload.Len())
	if h.Kind == sealing.KindAppRoot {
		t.roots = append(t.roots, h.App.Name)
	}
	if old := t.next.Find(e.Key); old != nil {
		e.Unproven = old.Unproven
	}
	t.replace(e.Key)
	if len(t.next.Entries) >= sealing.MaxEntries {
		return &sealing.Error{Code: api.CodeQuotaExceeded, Detail: fmt.Sprintf("the store lists %d blobs, which is the most it can", sealing.MaxEntries)}
	}
	i, _ := slices.BinarySearchFunc(t.next.Entries, e.Key, func(e sealing.Entry, k sealing.Key) int { return e.Key.Compare(k) })
	t.next.Entries = slices.Insert(t.next.Entries, i, e)
	return nil
}

// mark says whether the content of key came from a recovery that could not tell who wrote
// it. Until then put leaves the mark as it is.
func (t *writing) mark(key sealing.Key, unproven bool) { t.next.Find(key).Unproven = unproven }

// replace takes the entry of key out and remembers its file for removal.
func (t *writing) replace(key sealing.Key) {
	if old := t.next.Find(key); old != nil {
		t.next.Replaced = append(t.next.Replaced, old.ID)
		t.next.Entries = slices.DeleteFunc(t.next.Entries, func(e sealing.Entry) bool { return e.Key == key })
	}
}

// abort removes what was written for a change that was given up. No manifest lists these
// files.
func (t *writing) abort() {
	t.dropKey()
	for _, f := range t.made {
		_ = t.store.config.Files.Remove(f) // a file that stays is counted as an orphan
	}
}

// dropKey wipes a new store key that did not come into use.
func (t *writing) dropKey() {
	if t.to.key != t.store.key {
		t.to.key.wipe()
	}
}

// commit makes the change. After an error the store reads the disk again before its next
// operation: on disk the change was made or it was not.
func (t *writing) commit(ctx context.Context) error {
	s := t.store
	seed, err := t.to.key.seed()
	var payload *secret.Secret
	if err == nil {
		payload, err = secret.Take(t.next.Encode(seed))
		clear(seed[:])
	}
	if err != nil {
		t.abort()
		return err
	}
	defer payload.Wipe()
	b, err := s.roots.seal(ctx, sealing.Header{Kind: sealing.KindManifest, Generation: t.next.Number}, t.to, payload)
	if err != nil {
		t.abort()
		return err
	}
	s.unsure = true
	if err := s.config.Files.WriteDurable(manifestFile, b.Encode()); err != nil {
		s.opened.use(false)
		t.dropKey()
		return &sealing.Error{Code: api.CodeInterrupted, Detail: "write the manifest", Err: err}
	}
	if len(t.next.Counter) > 0 {
		if err := s.increment(ctx, t.next); err != nil {
			s.opened.use(false)
			t.dropKey()
			if sealing.CodeOf(err) == api.CodeCounterLost { // to try again does not help
				return err
			}
			return &sealing.Error{Code: api.CodeInterrupted, Detail: "make the TPM's counter follow the manifest", Err: err}
		}
	}
	s.unsure = false
	if s.key != t.to.key {
		s.key.wipe()
		s.key, s.newKey = t.to.key, true
	}
	s.manifest, s.header, s.locked, s.refused = t.next, b.Claimed, nil, nil
	s.opened.drop(t.roots)
	s.opened.use(true)
	s.tidy(ctx, t.next)
	return nil
}

// tidy removes what m says it replaced: blobs, and a counter, so that manifests which name
// that counter are refused from then on. What cannot be removed now is tried again at the
// next start.
func (s *Store) tidy(ctx context.Context, m *sealing.Manifest) {
	for _, id := range m.Replaced {
		_ = s.config.Files.Remove(blobFile(id))
	}
	if s.roots.tpm == nil || len(m.Retired) == 0 {
		return
	}
	if err := s.roots.tpm.RemoveCounter(ctx, m.Retired); err == nil || sealing.CodeOf(err) == api.CodeCounterLost {
		m.Retired = nil // and the next writing does not mention it
		_ = s.config.Files.Remove(plannedFile)
	}
}

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

// following returns the manifest after m, with nothing changed yet.
func following(m *sealing.Manifest) *sealing.Manifest {
	return &sealing.Manifest{Number: m.Number + 1, Base: m.Base, Counter: slices.Clone(m.Counter), Retired: slices.Clone(m.Retired), Entries: slices.Clone(m.Entries)}
}
