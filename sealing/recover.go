// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// Recover opens with a recovery identity what this machine cannot open itself, and
// seals everything to this machine: after a move to another chip, a cleared TPM,
// another launch measurement. Blobs that open neither way stay as they are and are
// reported. The recipients of each blob stay as its header names them. Without an
// identity (nil) it salvages what this machine opens itself, where only the manifest
// was lost or damaged.
//
// Without this machine's counter nothing tells how old the recovered state is. A
// rollback that the counter did notice must be accepted first.
func (s *Store) Recover(ctx context.Context, ids *Identities) (Report, error) {
	if err := s.begin(ctx); err != nil {
		return Report{}, err
	}
	defer s.end()
	switch {
	case s.refused != nil:
		return Report{}, s.locked // opens already: the question is another one
	case CodeOf(s.locked) == RootUnavailable:
		return Report{}, s.locked
	}
	open := func(b *Blob) (*secret.Secret, error) {
		payload, err := s.roots.open(ctx, b)
		if err == nil || ids == nil || !locksOut(err) && CodeOf(err) != BadDerivedKey {
			return payload, err
		}
		return b.openRecovery(ids)
	}
	t := &writing{store: s}
	ready := s.locked == nil
	if ready {
		t.next, t.to = s.manifest.following(), s.target()
	} else if err := t.salvage(open); err != nil {
		return Report{}, err
	}
	if s.roots.kind() == 0 {
		return Report{}, &Error{Code: NoUsableSlot, Detail: "this machine has neither keys derived by SNP firmware nor a TPM to seal to"}
	}
	if err := t.ensureTPM(ctx); err != nil {
		return Report{}, err
	}
	if !ready {
		if err := t.newCounter(ctx, t.next.number-1); err != nil {
			return Report{}, err
		}
	}
	report, err := t.rescue(ctx, open)
	if err != nil {
		t.abort()
		return Report{}, err
	}
	return report, t.commit(ctx)
}

// salvage finds what to recover in a locked store: through the manifest where that
// opens, otherwise by looking at every blob.
func (t *writing) salvage(open func(*Blob) (*secret.Secret, error)) error {
	s := t.store
	raw, err := s.config.Files.Read(manifestFile, MaxBlob)
	if err == nil {
		b, m, err := s.openManifest(raw, open)
		if err == nil {
			t.next, t.to = m.following(), targetOf(&b.Claimed)
			t.next.retired = nil // it was another TPM's, or is refused already
			return nil
		}
		// A wrong identity is a mistake of the moment, a damaged manifest is not.
		if c := CodeOf(err); c == WrongIdentity || c == RootUnavailable || c == "" {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the manifest: %w", err)
	}
	return t.gather(open)
}

// gather lists the newest blob of each key among those that open.
func (t *writing) gather(open func(*Blob) (*secret.Secret, error)) error {
	s := t.store
	names, err := s.config.Files.List()
	if err != nil {
		return fmt.Errorf("list the files of the store: %w", err)
	}
	var found []entry
	var last error
	t.next = &manifest{}
	for _, name := range names {
		if !isBlobFile(name) {
			continue
		}
		e, h, err := s.identify(name, open)
		if err != nil {
			last = err
			continue
		}
		t.next.number = max(t.next.number, e.generation)
		if to := targetOf(h); len(t.to.recipients) == 0 {
			t.to = target{recipients: to.recipients, loss: to.loss}
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		if last == nil {
			last = &Error{Code: NotFound, Detail: "there is no sealed blob to recover"}
		}
		return last
	}
	slices.SortFunc(found, byKey)
	t.next.entries = slices.CompactFunc(found, func(a, b entry) bool { return a.key == b.key })
	t.next.number++
	return nil
}

// identify opens the blob in a file that no manifest describes.
func (s *Store) identify(file string, open func(*Blob) (*secret.Secret, error)) (entry, *Header, error) {
	raw, err := s.config.Files.Read(file, MaxBlob)
	if err != nil {
		return entry{}, nil, err
	}
	b, err := ParseBlob(raw)
	if err != nil {
		return entry{}, nil, err
	}
	h := &b.Claimed
	if blobFile(h.ID) != file || h.Kind == KindManifest {
		return entry{}, nil, &Error{Code: Renamed, Detail: fmt.Sprintf("%s holds blob %s", file, h.ID)}
	}
	payload, err := open(b)
	if err != nil {
		return entry{}, nil, err
	}
	defer payload.Wipe()
	return entryOf(h, payload.Len()), h, nil
}

// rescue writes every entry that opens anew.
func (t *writing) rescue(ctx context.Context, open func(*Blob) (*secret.Secret, error)) (Report, error) {
	var report Report
	for _, e := range slices.Clone(t.next.entries) {
		h, payload, err := t.store.openEntryWith(e, open)
		if CodeOf(err) == RootUnavailable {
			return Report{}, err // of the moment: later it opens
		}
		if err != nil {
			report.keep(e, err)
			continue
		}
		err = t.put(ctx, *h, t.as(h), payload)
		payload.Wipe()
		if err != nil {
			return Report{}, err
		}
		report.Written++
	}
	if report.Written == 0 && len(report.Kept) > 0 {
		return Report{}, report.Kept[0].Err
	}
	return report, nil
}

// String lists the report in a line.
func (r Report) String() string {
	if len(r.Kept) == 0 {
		return fmt.Sprintf("%d written", r.Written)
	}
	var kept []string
	for _, k := range r.Kept {
		kept = append(kept, fmt.Sprintf("%s %s %q: %v", k.App, k.Kind, k.Name, CodeOf(k.Err)))
	}
	return fmt.Sprintf("%d written, %d kept as they are: %s", r.Written, len(r.Kept), strings.Join(kept, "; "))
}
