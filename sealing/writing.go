// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// writing is one change of the store. New blobs go to new files; nothing that is
// listed is touched. Then the manifest that lists them replaces the old one, which is
// the moment of the change, and the counter follows. Only then are the files of
// replaced blobs removed.
type writing struct {
	store *Store
	next  *manifest
	to    target   // of the manifest
	made  []string // files of new blobs
	roots []string // apps whose root is written
}

// change makes a change of an open store: what f puts, or nothing.
func (s *Store) change(ctx context.Context, f func(*writing) error) error {
	t := &writing{store: s, next: s.manifest.following(), to: s.target()}
	if err := f(t); err != nil {
		t.abort()
		return err
	}
	return t.commit(ctx)
}

// target is what new blobs are sealed to: as the manifest is.
func (s *Store) target() target { return targetOf(&s.header) }

func targetOf(h *Header) target {
	return target{tpmSecret: h.TPMSecret, recipients: h.recipients(), loss: h.LossAcknowledged}
}

// put seals payload for h and writes it to a file of its own.
func (t *writing) put(ctx context.Context, h Header, to target, payload *secret.Secret) error {
	h.Generation = t.next.number
	b, err := t.store.roots.seal(ctx, h, to, payload)
	if err != nil {
		return err
	}
	file := blobFile(b.Claimed.ID)
	t.made = append(t.made, file)
	if err := t.store.config.Files.WriteDurable(file, b.encode()); err != nil {
		return &Error{Code: Interrupted, Detail: "write " + file, Err: err}
	}
	e := entryOf(&b.Claimed, payload.Len())
	if h.Kind == KindAppRoot {
		t.roots = append(t.roots, h.App.Name)
	}
	t.replace(e.key)
	if len(t.next.entries) >= MaxEntries {
		return &Error{Code: QuotaExceeded, Detail: fmt.Sprintf("the store lists %d blobs, which is the most it can", MaxEntries)}
	}
	t.next.with(e)
	return nil
}

// replace takes the entry of key out and remembers its file for removal.
func (t *writing) replace(key entryKey) {
	if old := t.next.find(key); old != nil {
		t.next.replaced = append(t.next.replaced, old.id)
		t.next.without(key)
	}
}

// abort takes back what was written for a change that does not come. No manifest
// lists these files.
func (t *writing) abort() {
	for _, f := range t.made {
		_ = t.store.config.Files.Remove(f) // left over, it is counted as an orphan
	}
}

// commit makes the change. After an error the store looks at the disk again before
// its next operation: there the change was made or it was not.
func (t *writing) commit(ctx context.Context) error {
	s := t.store
	payload, err := t.next.encode()
	if err != nil {
		t.abort()
		return err
	}
	defer payload.Wipe()
	b, err := s.roots.seal(ctx, Header{Kind: KindManifest, Generation: t.next.number}, t.to, payload)
	if err != nil {
		t.abort()
		return err
	}
	s.unsure = true
	if err := s.config.Files.WriteDurable(manifestFile, b.encode()); err != nil {
		return &Error{Code: Interrupted, Detail: "write the manifest", Err: err}
	}
	if len(t.next.counter) > 0 {
		if err := s.increment(ctx, t.next); err != nil {
			return &Error{Code: Interrupted, Detail: "make the TPM's counter follow the manifest", Err: err}
		}
	}
	s.unsure = false
	s.manifest, s.header, s.locked, s.refused = t.next, b.Claimed, nil, nil
	for _, name := range t.roots {
		s.dropApp(name)
	}
	s.tidy(ctx, t.next)
	return nil
}

// tidy removes what m itself says it replaced: blobs, and a counter, so that
// manifests which name that are refused from then on. What cannot be removed now is
// tried again at the next start.
func (s *Store) tidy(ctx context.Context, m *manifest) {
	for _, id := range m.replaced {
		_ = s.config.Files.Remove(blobFile(id))
	}
	if s.roots.tpm == nil || len(m.retired) == 0 {
		return
	}
	if err := s.roots.tpm.RemoveCounter(ctx, m.retired); err == nil || CodeOf(err) == CounterLost {
		m.retired = nil // and the next writing does not mention it
		_ = s.config.Files.Remove(plannedFile)
	}
}
