// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// History is what is known of the log of one machine, by its attestation key.
type History struct {
	State   *verify.LogState `json:"state"`            // of the last accepted evidence with a log
	Earlier []string         `json:"earlier,omitzero"` // names of boots that another one followed, at most 64, the last at the end
	Changed time.Time        `json:"changed"`          // time at which this became known, by the clock of the service

	// Version is for the store that returned this history: it tells whether another one took its
	// place. It is not part of the history.
	Version uint64 `json:"-"`
}

// maxEarlier is how many earlier boots of a machine are known.
const maxEarlier = 64

// errBootEnded says that evidence is of a boot that another one followed. A boot that ended makes no
// evidence, so two machines use one attestation key.
var errBootEnded = errors.New("relying: another boot with this attestation key was accepted after this one")

// changedSince reports whether this became known after a time.
func (h *History) changedSince(t time.Time) bool { return h != nil && h.Changed.After(t) }

// next returns the history after evidence with these claims was accepted, h itself if it says nothing
// new.
func (h *History) next(claims *verify.Claims, now time.Time) (*History, error) {
	boot := bootOf(claims)
	switch {
	case h == nil && claims.Log == nil:
		return nil, nil
	case h == nil:
		return &History{State: claims.Log, Changed: now}, nil
	case slices.Contains(h.Earlier, boot):
		return nil, errBootEnded
	case claims.Log == nil: // the policy lets it be left out
		return h, nil
	}
	same, err := equal(h.State, claims.Log)
	if err != nil || same {
		return h, err
	}
	out := &History{State: claims.Log, Earlier: h.Earlier, Changed: now}
	if ended := bootIn(h.State); ended != boot {
		out.Earlier = append(slices.Clone(h.Earlier), ended)
		out.Earlier = out.Earlier[max(0, len(out.Earlier)-maxEarlier):]
	}
	return out, nil
}

// bootOf returns the name of the boot that evidence is of, empty if nothing in it says that.
func bootOf(claims *verify.Claims) string {
	switch {
	case claims.Log != nil:
		return bootIn(claims.Log)
	case claims.Machine.SNP != nil:
		return claims.Machine.SNP.ReportID
	}
	return ""
}

// bootIn returns the name of the boot that a log is of: REPORT_ID, which the processor signs. If the
// report shows none, the vTPM's count of resets has to do, by the word of the vTPM.
func bootIn(s *verify.LogState) string {
	if s.ReportID != "" {
		return s.ReportID
	}
	return fmt.Sprintf("reset %d", s.ResetCount)
}

// equal reports whether two states are the same, also if one was read from a database.
func equal(one, other *verify.LogState) (bool, error) {
	a, err := strictjson.Encode(one)
	if err != nil {
		return false, fmt.Errorf("known log: %w", err)
	}
	b, err := strictjson.Encode(other)
	return bytes.Equal(a, b), err
}

// Logs keeps what is known of each machine's log. Several processes may share one.
type Logs interface {
	// Known returns what is known under the name of an attestation key, nil if nothing is.
	Known(ctx context.Context, ak keys.Name) (*History, error)
	// Advance replaces known, which Known returned, by next. If another call replaced it meanwhile,
	// it changes nothing and the error is ErrMoved. It must be one atomic step.
	Advance(ctx context.Context, ak keys.Name, known, next *History) error
}

// ErrMoved is returned if what was known of a log changed since it was read.
var ErrMoved = errors.New("relying: what is known of the log changed meanwhile")

// MemoryLogs is Logs of one process, in memory.
type MemoryLogs struct {
	most int

	mu    sync.Mutex
	known map[string]*History // by the name of an attestation key; with mu
}

// NewMemoryLogs returns MemoryLogs for up to a number of machines.
func NewMemoryLogs(most int) *MemoryLogs {
	return &MemoryLogs{most: most, known: make(map[string]*History)}
}

// Known returns what is known. It is shared: do not change it.
func (m *MemoryLogs) Known(_ context.Context, ak keys.Name) (*History, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.known[string(ak)], nil
}

// Advance replaces what is known. One machine more than the store keeps is an error: to forget one
// would let its log be turned back.
func (m *MemoryLogs) Advance(_ context.Context, ak keys.Name, known, next *History) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known[string(ak)] != known {
		return ErrMoved
	}
	if known == nil && len(m.known) >= m.most {
		return errors.New("relying: the logs of too many machines are known")
	}
	m.known[string(ak)] = next
	return nil
}
