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
	if l.c.Events != 0 {
		if err := pcr.CheckEventsPCR(l.c.Events, l.c.PCR); err != nil {
			return fmt.Errorf("PCR of events: %w", err)
		}
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
		if err := l.ask(ctx); err != nil {
			return err
		}
		f, err := l.find()
		if err != nil {
			return err
		}
		if l.pcrs = f.pcrs(l.c.PCR); l.pcrs == nil {
			l.pcrs = l.configured()
		}
		now, err := l.readActive(ctx)
		if err != nil {
			return err
		}
		f.hold(now, l.c.PCR)
		if what, _ := f.judge(); what != refuse || tries == 2 { // see "Reading twice"
			return l.act(ctx, f)
		}
	}
}

// configured returns the PCRs of a log that begins.
func (l *Ledger) configured() []uint32 {
	if l.c.Events == 0 {
		return []uint32{l.c.PCR}
	}
	return []uint32{l.c.PCR, l.c.Events}
}

// later says which PCR for events the configuration asks for, if the log of this boot has another
// one; empty if it has that.
func (l *Ledger) later() string {
	in := func(pcrs []uint32) string {
		if len(pcrs) == 1 {
			return fmt.Sprintf("in PCR %d, with all others", pcrs[0])
		}
		return fmt.Sprintf("in PCR %d", pcrs[1])
	}
	if slices.Equal(l.pcrs, l.configured()) {
		return ""
	}
	return fmt.Sprintf("the log of this boot has events of apps %s; the configuration asks for them %s: that takes effect with the next boot", in(l.pcrs), in(l.configured()))
}

// ask asks the TPM for banks and boot.
func (l *Ledger) ask(ctx context.Context) error {
	banks, err := l.c.TPM.Banks(ctx)
	if err != nil {
		return fmt.Errorf("list PCR banks: %w: %w", ErrTPM, err)
	}
	l.banks = slices.Sorted(slices.Values(banks))
	if l.boot, err = l.c.TPM.Boot(ctx); err != nil {
		return fmt.Errorf("ask which boot this is: %w: %w", ErrTPM, err)
	}
	return nil
}

// readActive reads the PCRs, which must answer in all active banks. A bank that is missing would
// never be extended, and one too many not be noticed.
func (l *Ledger) readActive(ctx context.Context) ([]pcr.Register, error) {
	now, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	for _, r := range now {
		// Without nil, which would mean zeros, it is also checked against what a replay takes.
		if _, err := pcr.NewReplayer(l.banks, append([]pcr.Digest{}, r.Values...)); err != nil {
			return nil, fmt.Errorf("read PCR %d: %w: it answered with other banks than are active, which are %v: %w", r.PCR, ErrTPM, l.banks, err)
		}
	}
	return now, nil
}

// act does what judge decided.
func (l *Ledger) act(ctx context.Context, f *found) error {
	l.pub.state.Synchronised = true
	what, reason := f.judge()
	if what == begin {
		return l.begin(ctx, f)
	}
	l.pub.state.Pending = l.later()
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
// what the PCRs were.
func (l *Ledger) adopt(records []pcr.Record, start []pcr.Register) error {
	if start == nil {
		for _, index := range l.pcrs {
			start = append(start, pcr.Register{PCR: index, Values: pcr.Zero(l.banks)})
		}
	}
	var err error
	if l.replay, err = pcr.NewRegisterReplayer(start); err != nil {
		return err
	}
	l.pub.registers = start
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
	after, err := r.ExtendIn(l.replay.Registers())
	if err != nil {
		return err
	}
	// That we can read it does not make it durable: that process may have died before it
	// was synced. A kernel that crashes without resetting the TPM would take it back.
	if err := l.c.Log.Replace(LogFile, slices.Concat(l.pub.log, r.Encode())); err != nil {
		return fmt.Errorf("make the intent of record %d durable: %w", r.Number, err)
	}
	extend := l.c.TPM.Extend(ctx, r.PCR, r.Digests)
	now, err := l.readEither(ctx, after)
	if err != nil {
		return errors.Join(extend, err)
	}
	switch {
	case pcr.EqualRegisters(now, after):
		if err := l.replay.Next(r); err != nil {
			return err
		}
		l.commit(r.Encode())
		l.stale = true
		_ = l.failed(l.tidy())
		return nil
	case pcr.EqualRegisters(now, l.replay.Registers()):
		return fmt.Errorf("extend PCR %d with record %d, which an earlier process left behind: %w: %w", r.PCR, r.Number, ErrTPM, cmp.Or(extend, errUnmoved))
	default:
		_ = l.mismatch(ctx, now, after, l.replay.Registers())
		return nil
	}
}

// begin starts the log of a new boot, in the PCRs of the configuration. The state names the boot
// before anything is extended: otherwise the next start after a crash would take the rest for a
// new boot too.
func (l *Ledger) begin(ctx context.Context, f *found) error {
	l.pcrs = l.configured() // and not those of the log of an earlier boot
	now, err := l.readActive(ctx)
	if err != nil {
		return err
	}
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
	if l.replay, err = pcr.NewRegisterReplayer(now); err != nil {
		return err
	}
	l.pub.registers = now
	start, err := pcr.NewStart(now)
	if err != nil {
		return err
	}
	start.Previous = previous
	r, err := pcr.NewRecord(0, l.c.PCR, l.banks, &pcr.Event{Type: pcr.EventStart, Time: l.now(pcr.EventStart), Start: start})
	if err != nil {
		return err
	}
	err = l.failed(l.record(ctx, r))
	if l.head().Count == 0 && l.usable() == nil {
		return err
	}
	return nil
}
