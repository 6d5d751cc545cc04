// SPDX-License-Identifier: Apache-2.0

package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Recover opens with a recovery identity what this machine cannot open itself, and
// seals everything to this machine: after a move to another chip, a cleared TPM,
// another launch measurement. Blobs that open neither way stay as they are and are
// reported. The recipients of each blob stay as its header names them. Without an
// identity (nil) it salvages what this machine opens itself, if only the manifest was lost
// or damaged.
//
// Without this machine's counter nothing tells how old the recovered state is. If the
// counter detected a rollback, root must accept it first.
func (s *Store) Recover(ctx context.Context, ids *Identities) (Report, error) {
	if err := s.begin(ctx); err != nil {
		return Report{}, err
	}
	defer s.end()
	switch {
	case s.refused != nil:
		return Report{}, s.locked // it opens already, and root must decide about a rollback
	case sealing.CodeOf(s.locked) == api.CodeRootUnavailable:
		return Report{}, s.locked
	}
	open := func(b *sealing.Blob) (*secret.Secret, error) {
		payload, err := s.roots.open(ctx, b)
		if err == nil || ids == nil || !locksOut(err) && sealing.CodeOf(err) != api.CodeBadDerivedKey {
			return payload, err
		}
		return openRecovery(b, ids)
	}
	t := &writing{store: s}
	ready := s.locked == nil
	if ready {
		t.next, t.to = following(s.manifest), s.target()
	} else if err := t.salvage(open); err != nil {
		return Report{}, err
	}
	if s.roots.kind() == 0 {
		return Report{}, &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "this machine has neither keys that SNP firmware derives nor a TPM to seal to"}
	}
	if err := t.ensureTPM(ctx); err != nil {
		return Report{}, err
	}
	if !ready {
		if err := t.newCounter(ctx, t.next.Number-1); err != nil {
			return Report{}, err
		}
	}
	report, err := t.again(ctx, open, t.as)
	if err == nil && report.Written == 0 && len(report.Kept) > 0 {
		err = report.Kept[0].Err
	}
	if err != nil {
		t.abort()
		return Report{}, err
	}
	return report, t.commit(ctx)
}

// salvage finds what to recover in a locked store: in the manifest if that opens, otherwise
// by opening every blob.
func (t *writing) salvage(open opener) error {
	s := t.store
	raw, err := s.config.Files.Read(manifestFile, sealing.MaxBlob)
	if err == nil {
		b, m, err := s.openManifest(raw, open)
		if err == nil {
			t.next, t.to = following(m), targetOf(&b.Claimed)
			t.next.Retired = nil // it was another TPM's, or is refused already
			return nil
		}
		// The caller can correct a wrong identity, but not a damaged manifest.
		if c := sealing.CodeOf(err); c == api.CodeWrongIdentity || c == api.CodeRootUnavailable || c == "" {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the manifest: %w", err)
	}
	return t.gather(open)
}

// gather lists the newest blob of each key among those that open.
func (t *writing) gather(open opener) error {
	s := t.store
	files, err := s.blobFiles()
	if err != nil {
		return err
	}
	var found []sealing.Entry
	var last error
	t.next = &sealing.Manifest{}
	for _, file := range files {
		e, h, err := s.identify(file, open)
		if err != nil {
			last = err
			continue
		}
		t.next.Number = max(t.next.Number, e.Generation)
		if to := targetOf(h); len(t.to.recipients) == 0 {
			t.to = target{recipients: to.recipients, loss: to.loss}
		}
		found = append(found, e)
	}
	if len(found) == 0 {
		if last == nil {
			last = &sealing.Error{Code: api.CodeNotFound, Detail: "found no sealed blob to recover"}
		}
		return last
	}
	slices.SortFunc(found, func(a, b sealing.Entry) int {
		return cmp.Or(a.Key.Compare(b.Key), cmp.Compare(b.Generation, a.Generation))
	})
	t.next.Entries = slices.CompactFunc(found, func(a, b sealing.Entry) bool { return a.Key == b.Key })
	t.next.Number++
	return nil
}

// identify opens the blob in a file that no manifest describes.
func (s *Store) identify(file string, open opener) (sealing.Entry, *sealing.Header, error) {
	b, err := s.readBlob(file)
	if err != nil {
		return sealing.Entry{}, nil, err
	}
	h := &b.Claimed
	if blobFile(h.ID) != file || h.Kind == sealing.KindManifest {
		return sealing.Entry{}, nil, &sealing.Error{Code: api.CodeRenamed, Detail: fmt.Sprintf("%s contains blob %s", file, h.ID)}
	}
	payload, err := open(b)
	if err != nil {
		return sealing.Entry{}, nil, err
	}
	defer payload.Wipe()
	return entryOf(h, payload.Len()), h, nil
}

// String lists the report in a line.
func (r Report) String() string {
	if len(r.Kept) == 0 {
		return fmt.Sprintf("%d written", r.Written)
	}
	var kept []string
	for _, k := range r.Kept {
		kept = append(kept, fmt.Sprintf("%s %s %q: %v", k.App, k.Kind, k.Name, sealing.CodeOf(k.Err)))
	}
	return fmt.Sprintf("%d written, %d kept as they are: %s", r.Written, len(r.Kept), strings.Join(kept, "; "))
}
