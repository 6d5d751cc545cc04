// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// floor is how many records of units that start may pass over a quote or another record.
const floor = 4

// Open locks the log, compares log and PCR, repairs what a crash left half done, and begins
// a new log in a new boot. A ledger that is desynchronised is returned like any other and
// says so in its state. An error means that log and PCR could not be compared, because a
// file or the TPM cannot be read, or that a step which must come first failed; Open may be
// tried again.
func Open(ctx context.Context, c Config) (*Ledger, error) {
	l := &Ledger{c: c, turn: turn.New(turn.Options{Floor: floor})}
	if err := l.open(ctx); err != nil {
		return nil, fmt.Errorf("open measurement log: %w", err)
	}
	return l, nil
}

func (l *Ledger) open(ctx context.Context) error {
	if l.c.PCR >= pcr.Count {
		return fmt.Errorf("PCR %d, want 0 to %d", l.c.PCR, pcr.Count-1)
	}
	if l.c.Limit <= 0 || l.c.Limit > evidence.MaxLog {
		l.c.Limit = evidence.MaxLog
	}
	l.pub.state.Limit = int64(l.c.Limit)
	if err := l.c.Log.Lock(); errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("%w: %w", ErrLocked, err)
	} else if err != nil {
		return err
	}
	for tries := 1; ; tries++ {
		now, err := l.ask(ctx)
		if err != nil {
			return err
		}
		f, err := l.find(now)
		if err != nil {
			return err
		}
		if what, _ := f.judge(); what != refuse || tries == 2 { // see "Reading twice"
			return l.act(ctx, f, now)
		}
	}
}

// ask asks the TPM for banks, boot and PCR.
func (l *Ledger) ask(ctx context.Context) ([]pcr.Digest, error) {
	banks, err := l.c.TPM.Banks(ctx)
	if err != nil {
		return nil, fmt.Errorf("list PCR banks: %w: %w", ErrTPM, err)
	}
	l.banks = slices.Sorted(slices.Values(banks))
	if l.boot, err = l.c.TPM.Boot(ctx); err != nil {
		return nil, fmt.Errorf("ask which boot this is: %w: %w", ErrTPM, err)
	}
	now, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	// A bank that is missing here would never be extended, and one too many not be noticed.
	// Without nil, which would mean zeros, it is also checked against what a replay takes.
	if _, err := pcr.NewReplayer(l.banks, append([]pcr.Digest{}, now...)); err != nil {
		return nil, fmt.Errorf("read PCR %d: %w: it answered with other banks than are active, which are %v: %w", l.c.PCR, ErrTPM, l.banks, err)
	}
	return now, nil
}

// act does what judge decided.
func (l *Ledger) act(ctx context.Context, f *found, now []pcr.Digest) error {
	l.pub.state.Synchronised = true
	what, reason := f.judge()
	if what == begin {
		return l.begin(ctx, f, now)
	}
	records := f.records
	if what == finish {
		records = records[:len(records)-1]
	}
	if err := l.adopt(records, f.start); err != nil {
		return err
	}
	switch what {
	case finish:
		return l.finish(ctx, f.records[len(records)])
	case proceed:
		l.dirty, l.stale = f.damage != nil, true
		// A full disk must not prevent evidence over a good log: nothing is appended until
		// this has worked.
		_ = l.failed(l.tidy())
	default:
		_ = l.desynchronise("%s", reason)
	}
	return nil
}

// adopt makes the records of an earlier process its own. Start is nil if no record says
// what the PCR was.
func (l *Ledger) adopt(records []pcr.Record, start []pcr.Digest) error {
	banks := l.banks
	if start != nil {
		banks = banks[:0:0]
		for _, d := range start {
			banks = append(banks, d.Algorithm)
		}
	}
	var err error
	if l.replay, err = pcr.NewReplayer(banks, start); err != nil {
		return err
	}
	for _, r := range records {
		if err := l.replay.Next(r); err != nil {
			return err
		}
		l.commit(r.Encode())
	}
	return nil
}

// finish extends the record that an earlier process left as an intent. Unlike a record
// of our own, it is never dropped: its program may have run.
func (l *Ledger) finish(ctx context.Context, r pcr.Record) error {
	after, err := r.Extend(l.replay.Values())
	if err != nil {
		return err
	}
	// That we can read it does not make it durable: that process may have died before it
	// was synced. A kernel that crashes without resetting the TPM would take it back.
	if err := l.c.Log.Replace(LogFile, slices.Concat(l.pub.log, r.Encode())); err != nil {
		return fmt.Errorf("make the intent of record %d durable: %w", r.Number, err)
	}
	extend := l.c.TPM.Extend(ctx, l.c.PCR, r.Digests)
	now, err := l.readEither(ctx, after)
	if err != nil {
		return errors.Join(extend, err)
	}
	switch {
	case pcr.Equal(now, after):
		if err := l.replay.Next(r); err != nil {
			return err
		}
		l.commit(r.Encode())
		l.stale = true
		_ = l.failed(l.tidy())
		return nil
	case pcr.Equal(now, l.replay.Values()):
		return fmt.Errorf("extend PCR %d with record %d, which an earlier process left behind: %w: %w", l.c.PCR, r.Number, ErrTPM, cmp.Or(extend, errUnmoved))
	default:
		_ = l.mismatch(ctx)
		return nil
	}
}

// begin starts the log of a new boot. The state names the boot before anything is
// extended: otherwise the next start after a crash would take the rest for a new boot too.
func (l *Ledger) begin(ctx context.Context, f *found, now []pcr.Digest) error {
	previous := f.previous()
	// Also if it seems to be absent: a process that put it away may have died before that
	// was durable. After the state names this boot, an old log would be a wrong one.
	if err := l.c.Log.Replace(LogFile, nil); err != nil {
		return fmt.Errorf("put the log of an earlier boot away: %w", err)
	}
	l.saved = &saved{Previous: previous}
	if err := l.save(""); err != nil {
		return err
	}
	var err error
	if l.replay, err = pcr.NewReplayer(l.banks, now); err != nil {
		return err
	}
	l.pub.values = now
	start := &pcr.StartEvent{PCR: l.c.PCR, Previous: previous}
	for _, d := range now {
		start.Values = append(start.Values, pcr.StartValue{Algorithm: d.Algorithm.String(), Value: d.Value})
	}
	r, err := pcr.NewRecord(0, l.c.PCR, l.banks, &pcr.Event{Type: pcr.EventStart, Time: l.now(), Start: start})
	if err != nil {
		return err
	}
	err = l.failed(l.record(ctx, r))
	if l.head().Count == 0 && l.usable() == nil {
		return err
	}
	return nil
}
