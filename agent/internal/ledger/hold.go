// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// A View is the committed log at one moment. It stays as it is while the log grows.
type View struct {
	State  State
	Head   evidence.LogHead
	PCR    uint32
	Values []pcr.Digest // what the log makes of the PCR, in every active bank, ascending

	log published
}

// Hold calls f with the log while nothing is appended, after it has checked that the PCR
// matches the log. If it does not, Hold fails with [ErrDesynchronised] and does not call f.
func (l *Ledger) Hold(ctx context.Context, f func(View) error) error {
	if err := l.take(ctx); err != nil {
		return err
	}
	defer l.give()
	if err := l.compare(ctx); err != nil {
		return fmt.Errorf("hold the measurement log: %w", err)
	}
	return f(l.View())
}

// compare checks that the PCR matches the log.
func (l *Ledger) compare(ctx context.Context) error {
	if err := l.usable(); err != nil {
		return err
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	now, err := l.read(ctx)
	if err != nil {
		return err
	}
	if pcr.Equal(now, l.replay.Values()) {
		return nil
	}
	if now, err = l.read(ctx); err != nil { // once more, see "Reading twice"
		return err
	}
	if !pcr.Equal(now, l.replay.Values()) {
		return l.mismatch(ctx)
	}
	return nil
}

// View returns the log as it was last committed, without waiting and without reading the
// PCR: to show it to people, not to attest to it.
func (l *Ledger) View() View {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.pub
	return View{State: p.state, Head: p.head(uint64(len(p.heads))), PCR: l.c.PCR, Values: p.values, log: p}
}

// Log returns the records from number start on; start may be one after the last, which
// gives none. The bytes are shared and must not be changed.
func (v View) Log(start uint64) (evidence.Log, error) {
	if start > v.Head.Count {
		return evidence.Log{}, fmt.Errorf("log from record %d: it has %d", start, v.Head.Count)
	}
	from := len(v.log.log)
	if start < v.Head.Count {
		from = v.log.offsets[start]
	}
	return evidence.Log{
		Start:    start,
		Previous: v.log.head(start).Digest,
		Records:  slices.Clip(v.log.log[from:]),
	}, nil
}

// sorted returns d ascending by bank.
func sorted(d []pcr.Digest) []pcr.Digest {
	d = slices.Clone(d)
	slices.SortFunc(d, func(a, b pcr.Digest) int { return cmp.Compare(a.Algorithm, b.Algorithm) })
	return d
}
