// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// GivenUp says what [Store.GiveUp] ended.
type GivenUp struct {
	Returned bool // the store of this image, which a successor had replaced in this folder, is in force again
	Answered bool // a successor got the roots: it may have taken them over
}

// GiveUp ends an upgrade on the side of the old agent: a preparation, or a store that was handed
// over. If a successor took the store over in this very folder, its predecessor goes back to the
// state of before, and what was stored since is lost.
func (s *Store) GiveUp(ctx context.Context) (GivenUp, error) {
	ctx, err := s.begin(ctx)
	if err != nil {
		return GivenUp{}, err
	}
	defer s.end()
	var out GivenUp
	if s.locked != nil {
		if err := s.goBack(ctx); err != nil {
			return GivenUp{}, err
		}
		out.Returned = true
	}
	u, lost, err := s.ownRecord(ctx)
	if err != nil {
		return GivenUp{}, err
	}
	if out.Answered = len(u.Answered) > 0; u.Prepared == nil && !out.Answered && !lost {
		if out.Returned {
			return out, nil
		}
		return GivenUp{}, &sealing.Error{Code: api.CodeNothingToDo, Detail: "give an upgrade up: none is prepared here"}
	}
	if out.Answered {
		if err := s.dropSuccessor(ctx); err != nil {
			return GivenUp{}, err
		}
	}
	u.Prepared, u.Answered = nil, nil
	return out, s.keepRecord(ctx, u)
}

// goBack puts the manifest of before an upgrade back, if this machine opens it and the counter
// says that it is the newest of this image.
func (s *Store) goBack(ctx context.Context) error {
	raw, err := s.config.Files.Read(beforeFile, sealing.MaxBlob)
	if errors.Is(err, fs.ErrNotExist) || s.refused != nil || !locksOut(s.locked) {
		return s.locked
	}
	if err != nil {
		return &sealing.Error{Code: api.CodeRootUnavailable, Detail: "read " + beforeFile, Err: err}
	}
	o, err := s.openManifest(raw, s.roots.opener(ctx))
	if err != nil {
		return fmt.Errorf("go back to before the upgrade: %w", err)
	}
	defer o.key.wipe()
	if tpm := s.roots.tpm; len(o.manifest.Counter) > 0 {
		if tpm == nil {
			return &sealing.Error{Code: api.CodeCounterLost, Detail: "a TPM counted the manifest of before the upgrade, and this machine has none"}
		}
		c, err := tpm.ReadCounter(ctx, o.manifest.Counter)
		if err != nil {
			return coded(askCounter, err)
		}
		if err := compareCounter(o.manifest, c); err != nil {
			return err
		}
	}
	s.unsure = true
	if err := s.config.Files.WriteDurable(manifestFile, raw); err != nil {
		return &sealing.Error{Code: api.CodeInterrupted, Detail: "write the manifest of before the upgrade", Err: err}
	}
	s.load(ctx)
	return s.locked
}

// dropSuccessor removes what a successor left in this folder and this TPM: its counter, without
// which its manifests open no more, and the copy of the manifest.
func (s *Store) dropSuccessor(ctx context.Context) error {
	record, err := s.config.Files.Read(plannedFile, sealing.MaxRecord)
	if err == nil && s.roots.tpm != nil && !bytes.Equal(record, s.manifest.Counter) {
		err := s.roots.tpm.RemoveCounter(ctx, record)
		if err != nil && sealing.CodeOf(err) != api.CodeCounterLost {
			return coded("remove the counter of the successor", err)
		}
		_ = s.config.Files.Remove(plannedFile) // what it plans exists no more
	}
	_ = s.config.Files.Remove(beforeFile)
	return nil
}

// Finish removes what the predecessor left in this folder and in the TPM: from then on its image
// opens nothing here any more. The files go first, so that a crash leaves something to finish.
func (s *Store) Finish(ctx context.Context) error {
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	e := s.manifest.Find(upgradeKey(pastName))
	if e == nil {
		return &sealing.Error{Code: api.CodeNothingToDo, Detail: "finish an upgrade: this folder has nothing of a predecessor"}
	}
	_, payload, err := s.openEntry(*e, s.roots.opener(ctx))
	if err != nil {
		return err
	}
	defer payload.Wipe()
	var past transfer.Past
	if err := payload.Use(func(b []byte) (err error) { past, err = transfer.ParsePast(b); return err }); err != nil {
		return err
	}
	defer clear(past.Counter)
	s.removePast(past)
	return s.changeAlways(ctx, func(t *writing) error {
		if len(past.Counter) > 0 && s.roots.tpm != nil {
			t.next.Retired = bytes.Clone(past.Counter)
		}
		t.replace(e.Key)
		return nil
	})
}

// removePast removes files of the predecessor that this store does not use.
func (s *Store) removePast(past transfer.Past) {
	_ = s.config.Files.Remove(beforeFile)
	used := map[sealing.ID]bool{}
	for _, e := range s.manifest.Entries {
		used[e.ID] = true
	}
	for _, id := range past.Blobs {
		if !used[id] {
			_ = s.config.Files.Remove(blobFile(id))
		}
	}
	if len(past.TPMSecret) > 0 && !bytes.Equal(past.TPMSecret, s.header.TPMSecret) {
		_ = s.config.Files.Remove(secretFile(past.TPMSecret))
	}
	_ = s.countOrphans(s.manifest)
}
