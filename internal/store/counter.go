// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/sealing"
)

// checkCounter compares the manifest with the TPM's counter. A manifest that is one
// ahead was being written when the machine went down. It is written once more, because
// it may not have reached the disk, and then the counter follows.
func (s *Store) checkCounter(ctx context.Context, m *sealing.Manifest, raw []byte) error {
	if len(m.Counter) == 0 {
		return nil
	}
	if s.roots.tpm == nil {
		return &sealing.Error{Code: api.CodeCounterLost, Detail: "a TPM counted the manifest, and this machine has none"}
	}
	c, err := s.roots.tpm.ReadCounter(ctx, m.Counter)
	if err != nil {
		return coded(askCounter, err)
	}
	if m.Number-(c+m.Base) == 1 {
		if err := s.config.Files.WriteDurable(manifestFile, raw); err != nil {
			return fmt.Errorf("write the manifest once more: %w", err)
		}
		return s.increment(ctx, m)
	}
	return compareCounter(m, c)
}

// compareCounter compares m with the counter's value. The manifest may be one ahead.
func compareCounter(m *sealing.Manifest, c uint64) error {
	switch ahead := int64(m.Number - (c + m.Base)); {
	case ahead == 0, ahead == 1:
		return nil
	case ahead < 0:
		return &sealing.Error{Code: api.CodeRolledBack, Detail: fmt.Sprintf(
			"the TPM counted %d writings that are not in the manifest (number %d): a snapshot or an attacker put an older state of the files back; bring the newer files back, or let root accept the older state",
			-ahead, m.Number)}
	default:
		return &sealing.Error{Code: api.CodeCounterBehind, Detail: fmt.Sprintf(
			"the manifest (number %d) is %d writings ahead of the TPM's counter: an older state of the TPM was put back; bring its newer state back, or let root accept this one",
			m.Number, ahead)}
	}
}

// increment makes the counter follow m.
func (s *Store) increment(ctx context.Context, m *sealing.Manifest) error {
	c, err := s.roots.tpm.Increment(ctx, m.Counter)
	if err != nil {
		return coded(askCounter, err)
	}
	if c+m.Base != m.Number {
		return &sealing.Error{Code: api.CodeCounterLost, Detail: fmt.Sprintf("after counting, the TPM's counter is %d, want %d: another program counts with it", c, m.Number-m.Base)}
	}
	return nil
}

const askCounter = "ask the TPM for its counter"

// coded returns err, as a temporary error if it has no code.
func coded(detail string, err error) error {
	if err == nil || sealing.CodeOf(err) != "" {
		return err
	}
	return &sealing.Error{Code: api.CodeRootUnavailable, Detail: detail, Err: err}
}

// newCounter gives the manifest that is being made a counter of its own, and a number
// above floor. The plan is on disk before the TPM is changed, so that a crash in between
// leaves no counter whose authorization is lost. Without a TPM there is no counter.
func (t *writing) newCounter(ctx context.Context, floor uint64) error {
	s := t.store
	t.next.Number = max(t.next.Number, floor+1)
	old := t.next.Counter
	t.next.Counter, t.next.Base, t.next.Retired = nil, 0, nil
	if s.roots.tpm == nil {
		return nil
	}
	record, err := s.config.Files.Read(plannedFile, sealing.MaxRecord)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the plan of the counter: %w", err)
	}
	var c uint64
	planned := err == nil && !bytes.Equal(record, old)
	if planned {
		c, err = s.roots.tpm.DefineCounter(ctx, record)
	}
	if !planned || errors.Is(err, api.CodeCounterLost) { // no plan, or another program took its place
		if record, err = s.roots.tpm.PlanCounter(ctx); err != nil {
			return coded(askCounter, err)
		}
		if err = s.config.Files.WriteDurable(plannedFile, record); err != nil {
			return fmt.Errorf("write the plan of the counter: %w", err)
		}
		c, err = s.roots.tpm.DefineCounter(ctx, record)
	}
	if err != nil {
		return coded(askCounter, err)
	}
	t.next.Counter, t.next.Retired = record, old
	t.next.Base = t.next.Number - (c + 1)
	return nil
}
