// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Append records e: in the log, in the PCR, in the log head, and returns when all that is
// durable. It sets the time of e, and the member "previous" of an agent event.
//
// After an error nothing may be claimed from e. The event may be recorded nevertheless, if a
// step after the extend failed; the log then says so.
//
// After a record was begun, the end of ctx does not stop it.
func (l *Ledger) Append(ctx context.Context, e pcr.Event) (pcr.Record, error) {
	if e.Type == pcr.EventStart || e.Type == pcr.EventFull {
		return pcr.Record{}, fmt.Errorf("append event %q: the ledger itself records these", e.Type)
	}
	leave, err := l.take(ctx)
	if err != nil {
		return pcr.Record{}, err
	}
	defer leave()
	ctx = context.WithoutCancel(ctx)
	r, err := l.append(ctx, e)
	if err != nil {
		err = fmt.Errorf("append event %q: %w", e.Type, err)
	}
	if errors.Is(err, ErrReserved) {
		return r, err // nothing failed that the agent has to record
	}
	return r, l.failed(err)
}

func (l *Ledger) append(ctx context.Context, e pcr.Event) (pcr.Record, error) {
	if err := l.settle(ctx); err != nil {
		return pcr.Record{}, err
	}
	if err := l.tidy(); err != nil {
		return pcr.Record{}, err
	}
	if l.replay.Full() {
		return pcr.Record{}, ErrFull
	}
	e.Time = l.now(e.Type)
	if e.Agent != nil {
		agent := *e.Agent
		agent.Previous = l.head()
		e.Agent = &agent
	}
	r, err := pcr.NewRecord(l.head().Count, l.replay.PCROf(e.Type), l.banks, &e)
	if err != nil {
		return pcr.Record{}, err
	}
	// Room for the longest record "full" is always kept, whatever its number and time are. What
	// does not fit closes the log, even if the next event would fit: a log with a hole in it must
	// say so.
	longest, err := pcr.NewRecord(r.Number, l.c.PCR, l.banks, &pcr.Event{Type: pcr.EventFull, Time: pcr.MaxTime})
	if err != nil {
		return pcr.Record{}, err
	}
	if len(l.pub.log)+len(r.Encode())+l.kept(e.Type)+len(longest.Encode()) > l.c.Limit {
		if e.Type == pcr.EventEmitted {
			return pcr.Record{}, ErrReserved
		}
		full, err := pcr.NewRecord(r.Number, l.c.PCR, l.banks, &pcr.Event{Type: pcr.EventFull, Time: l.now(pcr.EventFull)})
		if err != nil {
			return pcr.Record{}, err
		}
		return pcr.Record{}, errors.Join(ErrFull, l.record(ctx, full))
	}
	if err := l.record(ctx, r); err != nil {
		return pcr.Record{}, err
	}
	return r, nil
}

// Room that is kept back for records of an agent that stops, and of the next that starts.
const (
	stopRoom  = 512     // bytes; a record of a stop has fewer than 400
	startRoom = 4 << 10 // bytes, at least, if the log may have four times as many
)

// kept returns how many bytes an event of type t must leave. Without the room for a start, an
// agent that is restarted while the log is nearly full could not make evidence until a reboot:
// no record would name its key.
func (l *Ledger) kept(t pcr.EventType) int {
	start := min(max(2*l.pub.start, startRoom), l.c.Limit/4) // twice: more may be declared by then
	switch t {
	case pcr.EventAgent:
		return 0
	case pcr.EventStop:
		return start
	case pcr.EventEmitted:
		return max(start+stopRoom, l.c.Limit/4) // what the agent has to say comes first
	}
	return start + stopRoom
}

// now returns the time of the next record, in milliseconds. It is never before that of the last,
// and later if that is in another PCR: see "Two PCRs".
func (l *Ledger) now(t pcr.EventType) uint64 {
	last := l.replay.Event()
	if last != nil && l.replay.PCROf(last.Type) != l.replay.PCROf(t) {
		return max(l.c.Now(), l.replay.Time()+1)
	}
	return max(l.c.Now(), l.replay.Time())
}

// usable returns an error if the ledger is desynchronised.
func (l *Ledger) usable() error {
	if s := l.State(); !s.Synchronised {
		return fmt.Errorf("%w: %s", ErrDesynchronised, s.Reason)
	}
	return nil
}

// record does the three steps of one record: intent, extend and completion.
func (l *Ledger) record(ctx context.Context, r pcr.Record) error {
	next, err := r.ExtendIn(l.replay.Registers())
	if err != nil {
		return err
	}
	// What no reader accepts at this place must not reach the PCR.
	trial := *l.replay
	if err := trial.Next(r); err != nil {
		return err
	}
	if err := l.c.Log.Append(LogFile, int64(len(l.pub.log)), r.Encode()); err != nil {
		// It may be there in whole or in part. It is not in the PCR, so cut it off, now or later.
		l.dirty = true
		return errors.Join(fmt.Errorf("write the intent: %w", err), l.clean())
	}
	l.pending = &pending{record: r, after: next}
	err = l.c.TPM.Extend(ctx, r.PCR, r.Digests)
	if err := l.resolve(ctx, err); err != nil {
		return err
	}
	return l.save("")
}

// resolve reads from the PCR whether the pending record was extended: only then it belongs
// to the log. Extend is the answer of the TPM.
func (l *Ledger) resolve(ctx context.Context, extend error) error {
	p := l.pending
	now, err := l.readEither(ctx, p.after)
	if err != nil {
		return errors.Join(extend, fmt.Errorf("it is not known whether the PCR was extended: %w", err))
	}
	switch {
	case pcr.EqualRegisters(now, p.after):
		l.pending = nil
		if err := l.replay.Next(p.record); err != nil {
			return l.desynchronise("a record that was extended does not follow the log: %v", err)
		}
		l.commit(p.record.Encode())
		l.stale = true
		return nil
	case pcr.EqualRegisters(now, l.replay.Registers()):
		l.pending, l.dirty = nil, true
		return errors.Join(fmt.Errorf("extend PCR %d: %w: %w", p.record.PCR, ErrTPM, cmp.Or(extend, errUnmoved)), l.clean())
	default:
		return l.mismatch(ctx, now, p.after, l.replay.Registers())
	}
}

// settle resolves what an earlier call had to leave open, and returns an error if the ledger
// is desynchronised. That the record was not extended is an answer too: its caller got an error.
func (l *Ledger) settle(ctx context.Context) error {
	if err := l.usable(); err != nil || l.pending == nil {
		return err
	}
	err := l.resolve(ctx, errUnanswered)
	if l.pending != nil || l.usable() != nil {
		return err
	}
	return nil
}

// errUnmoved is the error of an extend that the TPM answered with success and did not do.
var errUnmoved = errors.New("the TPM answered with success, and the PCR did not change")

var errUnanswered = errors.New("an earlier extend was not answered")

// tidy makes the files contain what is committed, if an earlier failure left a doubt.
func (l *Ledger) tidy() error {
	if err := l.clean(); err != nil {
		return err
	}
	if l.stale {
		return l.save("")
	}
	return nil
}

// clean makes the log file contain the committed records and nothing else.
func (l *Ledger) clean() error {
	if !l.dirty {
		return nil
	}
	err := l.c.Log.Truncate(LogFile, int64(len(l.pub.log)))
	if err != nil {
		// Shorter than we wrote it, or absent: what is in memory was in the PCR, so put it back.
		if again := l.c.Log.Replace(LogFile, l.pub.log); again != nil {
			return fmt.Errorf("bring the log file back to %d records: %w", l.head().Count, errors.Join(err, again))
		}
	}
	l.dirty = false
	return nil
}

// read returns the PCRs of the log, each in every bank of the ledger, in their order.
func (l *Ledger) read(ctx context.Context) (out []pcr.Register, err error) {
	for _, index := range l.pcrs {
		now, err := l.c.TPM.Read(ctx, index)
		if err != nil {
			return nil, fmt.Errorf("read PCR %d: %w: %w", index, ErrTPM, err)
		}
		values := slices.SortedFunc(slices.Values(now), func(a, b pcr.Digest) int { return cmp.Compare(a.Algorithm, b.Algorithm) })
		out = append(out, pcr.Register{PCR: index, Values: values})
	}
	return out, nil
}

// readEither reads the PCRs, which should contain the committed log or, with one record more,
// after. If they contain neither, they are read once more: see "Reading twice".
func (l *Ledger) readEither(ctx context.Context, after []pcr.Register) ([]pcr.Register, error) {
	now, err := l.read(ctx)
	if err != nil || pcr.EqualRegisters(now, after) || pcr.EqualRegisters(now, l.replay.Registers()) {
		return now, err
	}
	return l.read(ctx)
}

// mismatch makes the ledger desynchronised: a PCR contains what no record explains. Now is what
// was read, and wanted what it might have been; without them, the reason names the PCR of the log.
func (l *Ledger) mismatch(ctx context.Context, now []pcr.Register, wanted ...[]pcr.Register) error {
	b, err := l.c.TPM.Boot(ctx)
	if err == nil && (b.ResetCount != l.boot.ResetCount || b.RestartCount != l.boot.RestartCount) {
		l.boot = b // so that the next start knows that this boot is not repaired
		return l.desynchronise("the TPM was reset or restarted while the agent was running")
	}
	index := l.c.PCR
	for i, r := range now {
		if !slices.ContainsFunc(wanted, func(w []pcr.Register) bool { return pcr.Equal(r.Values, w[i].Values) }) {
			index = r.PCR
			break
		}
	}
	return l.desynchronise("PCR %d does not contain what the log of %s makes it: something else extended or reset it", index, text.Count(l.head().Count, "record"))
}
