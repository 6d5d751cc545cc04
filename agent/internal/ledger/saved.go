// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

const (
	savedType = "agentd/ledger/1"
	maxSaved  = 16 << 10 // bytes of the state file
)

// saved is the content of the state file, as JSON.
type saved struct {
	Type           string            `json:"type"` // savedType
	AKName         evidence.Bytes    `json:"akName"`
	ResetCount     uint32            `json:"resetCount"`
	Kernel         string            `json:"kernel,omitzero"`
	Head           evidence.LogHead  `json:"head"`                    // of the log of this boot, as last completed
	Previous       *evidence.LogHead `json:"previous,omitzero"`       // of the log of the boot before
	Desynchronised string            `json:"desynchronised,omitzero"` // why, if the ledger found this boot so; made by text.Fit
}

// errCorrupt marks a state file that could be read and makes no sense.
var errCorrupt = errors.New("state file is damaged")

// loadSaved reads the state file, and returns nil without an error if there is none.
func loadSaved(s StateStore) (*saved, error) {
	b, err := s.Read(StateFile, maxSaved)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, syscall.EFBIG) {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load the state of the measurement log: %w", err)
	}
	var v saved
	if err := strictjson.Decode(b, maxSaved, &v); err != nil {
		return nil, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if v.Type != savedType {
		return nil, fmt.Errorf("%w: type %q, want %q", errCorrupt, v.Type, savedType)
	}
	return &v, nil
}

// of reports whether s is of boot b.
func (s *saved) of(b Boot) bool {
	return s.sameAK(b) && s.ResetCount == b.ResetCount
}

func (s *saved) sameAK(b Boot) bool { return bytes.Equal(s.AKName, b.AKName) }

// save replaces the state file with the committed head, or, if the ledger is desynchronised,
// with the head that was known before and the reason.
func (l *Ledger) save(reason string) error {
	next := &saved{
		Type:           savedType,
		AKName:         l.boot.AKName,
		ResetCount:     l.boot.ResetCount,
		Kernel:         l.c.Kernel,
		Head:           l.head(),
		Desynchronised: reason,
	}
	if l.saved != nil {
		next.Previous = l.saved.Previous
		if reason != "" && l.saved.Head.Count > next.Head.Count {
			next.Head = l.saved.Head
		}
	}
	b, err := strictjson.Encode(next)
	if err != nil {
		return fmt.Errorf("encode the state of the measurement log: %w", err)
	}
	if err := l.c.State.Replace(StateFile, b); err != nil {
		return fmt.Errorf("save the state of the measurement log: %w", err)
	}
	l.saved, l.stale = next, false
	return nil
}
