// SPDX-License-Identifier: Apache-2.0

// Package ledger owns the measurement log and its PCR: one event at a time goes into
// both, and neither is reported without the other. If events of applications have a PCR of their
// own, the log has both PCRs, and each event goes into one of them.
//
// # On disk
//
// The log file measurements.cel in the log directory contains the records as CEL-TLV, one
// after the other. The state file ledger.json in the state directory contains what must
// outlive the log: which boot the log is of, and the log head.
//
// An event is recorded in three durable steps:
//
//  1. intent: the record is appended to the log file and synced. A record in the
//     file says that the PCR was extended with it, or is about to be.
//  2. extend: one TPM2_PCR_Extend, then each PCR of the log is read back.
//  3. completion: the state file is replaced by one with the new log head.
//
// The PCR shows which steps were taken, so that no crash leaves a doubt. Of two PCRs a record
// changes one, so that both together show it:
//
//	log file                             PCR              after a start
//	a torn record after whole ones       as before it     the torn record is cut off; it was never extended
//	one record beyond the completion     as before it     it is synced and extended now: its program may have run
//	one record beyond the completion     as after it      completed
//	all records completed                as after them    clean
//	missing, and none was completed      anything         a new log, which states the value of the PCR
//	anything else                                         desynchronised
//
// # Two PCRs
//
// The first record of the log says which PCRs it has. That stays so until the next boot: the log
// goes on as it began if the configuration asks for another PCR for events, or for none, and the
// state says so. The time of a record is later than that of the record before it if that is in the
// other PCR: each PCR shows the order of its own records, and the times show the order of both.
//
// # Boots
//
// A PCR is only reset by a reset of the TPM, which counts them. The state names the
// boot by AK name and reset count as the AK shows it (the count is obfuscated with the
// key, so it compares only under one key). The same boot without its log, or with a shorter
// or different one, is desynchronised: that distinguishes a deleted log, and a kexec, from
// a new boot. So is a TPM that was reset under the same running kernel, if the kernel's
// boot id is known. The state remembers that it is desynchronised, until the next boot,
// because only that repairs a PCR.
//
// The state is on a disk, and an attacker who writes the disk can put an earlier one back. So
// a log in a directory that no boot outlives (Config.Volatile) is of this boot by itself,
// whatever the state says: if the PCR does not match it, the ledger is desynchronised. Only
// an empty directory begins a new log.
//
// # Failing closed
//
// A step that fails makes Append fail. The ledger then knows, or finds out before it does
// anything else, which of the steps took effect: it reads the PCR after a failed extend,
// cuts the log file back after a failed intent, and writes the state again after a failed
// completion. Nothing is appended before that is settled, and the log in memory is always
// exactly what the PCR was read to contain.
//
// # Reading twice
//
// A PCR that contradicts the log does so until the next boot. So a value that does not match
// is read once more before the ledger is found desynchronised, which outlives restarts: one
// wrong answer on the way from the TPM must not cost a reboot.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// Names of the files.
const (
	LogFile   = "measurements.cel" // in the log directory
	StateFile = "ledger.json"      // in the state directory
)

// Errors, for errors.Is.
var (
	// ErrDesynchronised is returned if log and PCR do not explain each other; only a boot
	// repairs that.
	ErrDesynchronised = errors.New("measurement log and PCR are desynchronised until the next boot")
	// ErrFull is returned if the log takes nothing more in this boot.
	ErrFull = errors.New("measurement log is full until the next boot")
	// ErrReserved is returned for an event of an application if the rest of the log is kept for what
	// the agent itself has to record. The log takes such records.
	ErrReserved = errors.New("the rest of the measurement log is kept for records of the agent")
	// ErrTPM is returned if the TPM did not do what it was asked for, so that log and PCR
	// cannot be compared now. Nothing is concluded from that.
	ErrTPM = errors.New("the TPM failed")
	// ErrLocked is returned if another daemon has the log directory.
	ErrLocked = errors.New("measurement log belongs to another process")
)

// Config is what a ledger works with.
type Config struct {
	Log    LogStore   // the log directory; locked by Open until its owner closes it
	State  StateStore // the state directory
	TPM    TPM
	PCR    uint32 // register to extend, 0 to 23; checked by the caller to be one that software cannot reset
	Events uint32 // register of events of applications, if a log begins; 0: PCR. Likewise checked
	Limit  int    // bytes the log may have; 0 is evidence.MaxLog, which is also the most
	Kernel string // boot id of the running kernel, empty if it cannot be read

	// Volatile says that the log directory ends with the boot, as one in memory does: what it
	// contains is of this boot.
	Volatile bool

	Now func() uint64 // time of records: milliseconds since the kernel started
}

// A Ledger is the one owner of log and PCR in this process. Its methods may be called by
// many goroutines; events are recorded in the order in which Append got its turn.
//
// Records and quotes take turns by package turn, all in class [turn.Ledger] or above: other
// work waits for a record of any class, so that no record waits for the clients of a lower one.
type Ledger struct {
	c     Config
	banks []pcr.Algorithm // active banks, ascending
	pcrs  []uint32        // of the log; a second one is that of events of applications
	turn  *turn.Queue     // of one; used by Append and Hold

	// Guarded by turn.
	boot    Boot
	replay  *pcr.Replayer // over the committed records
	saved   *saved        // last known content of the state file
	pending *pending      // an intent whose extend is not known to have taken effect or not
	dirty   bool          // the log file may contain more than the committed records
	stale   bool          // the state file may not contain the committed head

	mu  sync.RWMutex // guards pub, which its writer, the holder of turn, replaces and never changes
	pub published
}

// pending is a record whose intent is durable.
type pending struct {
	record pcr.Record
	after  []pcr.Register // PCRs once it is extended
}

// published is the committed log. Slices are only ever appended to.
type published struct {
	log       []byte            // all records
	offsets   []int             // where each record begins in log
	heads     []evidence.Digest // log head digest after each record
	registers []pcr.Register    // replayed
	time      uint64            // of the last record
	agent     []byte            // key of the agent that runs, by the records; nil if none does
	start     int               // bytes of the longest record that lists the declarations
	state     State
}

// State is what the ledger says of itself.
type State struct {
	Synchronised bool   // log and PCR explained each other when last compared
	Reason       string // why not, for people
	Full         bool   // the log takes nothing more
	Pending      string // what the configuration asks for, and only a boot changes; for people
	Aside        string // which damaged state file is kept, under which name, and why; for people
	Failure      string // why the last event was not recorded, empty after one that was
	Records      uint64
	Bytes        int64
	Limit        int64  // bytes at which the log is full
	Refused      uint64 // events that were not recorded because it is, since this process began
}

// State returns the state of the ledger, at most one operation old, without waiting.
func (l *Ledger) State() State {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.pub.state
}

// Turns returns what the queue of records and quotes counts.
func (l *Ledger) Turns() turn.Stats { return l.turn.Stats() }

// take waits for the turn. Its caller passes the turn on by leave.
func (l *Ledger) take(ctx context.Context) (leave func(), err error) {
	if leave, err = l.turn.Enter(turn.AtLeast(ctx, turn.Ledger), 1); err != nil {
		return nil, fmt.Errorf("wait for the measurement log: %w", context.Cause(ctx))
	}
	return leave, nil
}

// head returns the committed log head.
func (l *Ledger) head() evidence.LogHead { return l.pub.head(uint64(len(l.pub.heads))) }

// head returns the log head after the first n records.
func (p *published) head(n uint64) evidence.LogHead {
	if n == 0 {
		return evidence.LogHead{}
	}
	return evidence.LogHead{Count: n, Digest: p.heads[n-1]}
}

// commit adds a record to the published log. The replay has followed it already.
func (l *Ledger) commit(record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.pub
	p.offsets = append(p.offsets, len(p.log))
	p.log = append(p.log, record...)
	p.heads = append(p.heads, l.replay.Head().Digest)
	p.registers, p.time, p.agent = l.replay.Registers(), l.replay.Time(), l.replay.AgentKey()
	if l.replay.Event().Agent != nil {
		p.start = max(p.start, len(record))
	}
	p.state.Records, p.state.Bytes = uint64(len(p.heads)), int64(len(p.log))
	p.state.Full = l.replay.Full()
}

// desynchronise makes the ledger refuse from now on, and the next start in this boot too.
func (l *Ledger) desynchronise(format string, a ...any) error {
	reason := text.Fit(fmt.Sprintf(format, a...), pcr.MaxReason)
	l.mu.Lock()
	l.pub.state.Synchronised, l.pub.state.Reason = false, reason
	l.mu.Unlock()
	err := fmt.Errorf("%w: %s", ErrDesynchronised, reason)
	// The next start finds again that what is on disk is wrong, so that a failure here
	// changes only the reason that people will read.
	return errors.Join(err, l.save(reason))
}

func (l *Ledger) failed(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pub.state.Failure = ""
	if err != nil {
		l.pub.state.Failure = err.Error()
	}
	if errors.Is(err, ErrFull) {
		l.pub.state.Refused++
	}
	return err
}

// TPM is the part of the TPM that the ledger uses. No other user of the device may come
// between the commands of one call.
type TPM interface {
	// Banks lists the active banks. One that cannot be hashed is an error.
	Banks(ctx context.Context) ([]pcr.Algorithm, error)
	// Read returns the value of one PCR in every active bank.
	Read(ctx context.Context, index uint32) ([]pcr.Digest, error)
	// Extend extends one PCR in every active bank with one command. After an error it may
	// have taken effect.
	Extend(ctx context.Context, index uint32, digests []pcr.Digest) error
	// Boot returns which boot this is.
	Boot(ctx context.Context) (Boot, error)
}

// Boot names a boot of the TPM as a quote by the AK shows it.
type Boot struct {
	AKName       []byte
	ResetCount   uint32 // TPMS_CLOCK_INFO.resetCount, obfuscated: compares only under one AK
	RestartCount uint32 // TPMS_CLOCK_INFO.restartCount, likewise
}

// StateStore keeps small files durably.
type StateStore interface {
	// Read returns a file of at most limit bytes. The error is fs.ErrNotExist if there is
	// none, and syscall.EFBIG if it is larger.
	Read(name string, limit int64) ([]byte, error)
	// Replace gives a file new content and returns when that is durable. A reader finds the
	// old or the new content, also after a crash; after an error it may be either.
	Replace(name string, data []byte) error
	// KeepAside gives a file another name, which it returns when that is durable.
	KeepAside(name string) (string, error)
}

// LogStore keeps the log durably.
type LogStore interface {
	StateStore
	// Append writes data at the end of a file of exactly at bytes, made if at is 0, and
	// returns when it is durable. After an error or a crash, any part of data may be there.
	Append(name string, at int64, data []byte) error
	// Truncate cuts a file to size bytes and returns when that is durable. It fails if
	// the file is shorter.
	Truncate(name string, size int64) error
	// Lock keeps other processes off the directory until the store is closed. The error is
	// syscall.EWOULDBLOCK if one has it.
	Lock() error
}

// A View is the committed log at one moment. It stays as it is while the log grows.
type View struct {
	State State
	Head  evidence.LogHead
	Time  uint64 // of the last record, in milliseconds

	// Registers are the PCRs with what the log makes of them: that of the log, and that of events
	// of applications if there is a second one. They must not be changed.
	Registers []pcr.Register

	AgentKey []byte // of the agent that started last and has not stopped; nil if there is none

	log published
}

// Hold calls f with the log while nothing is appended, after it has checked that the PCR
// matches the log. If it does not, Hold fails with [ErrDesynchronised] and does not call f.
func (l *Ledger) Hold(ctx context.Context, f func(View) error) error {
	leave, err := l.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := l.compare(ctx); err != nil {
		return fmt.Errorf("hold the measurement log: %w", err)
	}
	return f(l.View())
}

// Quote calls f as Hold does. But f compares log and PCR itself, by a quote, and reports whether it
// did, each PCR in one bank at least. The attestation key signs what a quote shows, so that reading the same
// register before would tell nothing more. If f fails, Quote reads it to find out whether that is
// why: then the error is [ErrDesynchronised]. Banks that are not quoted are compared by Append
// and Confirm.
func (l *Ledger) Quote(ctx context.Context, f func(View) (compared bool, err error)) error {
	leave, err := l.take(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if err := l.settle(ctx); err != nil {
		return fmt.Errorf("hold the measurement log: %w", err)
	}
	compared, err := f(l.View())
	if compared && err == nil {
		return nil
	}
	if differs := l.compare(ctx); differs != nil && (err == nil || errors.Is(differs, ErrDesynchronised)) {
		return fmt.Errorf("hold the measurement log: %w", differs)
	}
	return err
}

// Confirm checks that the PCR matches the log in all banks that are active now. The error is that
// of [Ledger.Hold].
func (l *Ledger) Confirm(ctx context.Context) error {
	return l.Hold(ctx, func(View) error { return l.sameBanks(ctx) })
}

// sameBanks checks that the banks of the log are those that are active. Read may know them from
// before a reset of the TPM, and only that changes them: a bank that was added would be missing in
// its answer. One that the agent never extended would let an attacker claim that nothing ran.
func (l *Ledger) sameBanks(ctx context.Context) error {
	for range 2 { // see "Reading twice"
		banks, err := l.c.TPM.Banks(ctx)
		if err != nil {
			return fmt.Errorf("list PCR banks: %w: %w", ErrTPM, err)
		}
		if slices.Equal(slices.Sorted(slices.Values(banks)), l.banks) {
			return nil
		}
	}
	return l.mismatch(ctx, nil)
}

// compare checks that the PCR matches the log.
func (l *Ledger) compare(ctx context.Context) error {
	if err := l.settle(ctx); err != nil {
		return err
	}
	now, err := l.readEither(ctx, l.replay.Registers())
	if err == nil && !pcr.EqualRegisters(now, l.replay.Registers()) {
		return l.mismatch(ctx, now, l.replay.Registers())
	}
	return err
}

// View returns the log as it was last committed, without waiting and without reading the
// PCR: to show it to people, not to attest to it.
func (l *Ledger) View() View {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p := l.pub
	return View{State: p.state, Head: p.head(uint64(len(p.heads))), Time: p.time, Registers: p.registers, AgentKey: p.agent, log: p}
}

// Record returns record n.
func (v View) Record(n uint64) (pcr.Record, error) {
	if n >= v.Head.Count {
		return pcr.Record{}, fmt.Errorf("record %d: the log has %d", n, v.Head.Count)
	}
	end := len(v.log.log)
	if n+1 < v.Head.Count {
		end = v.log.offsets[n+1]
	}
	records, err := pcr.DecodeLog(v.log.log[v.log.offsets[n]:end], n)
	if err != nil {
		return pcr.Record{}, err
	}
	return records[0], nil
}

// HeadAfter returns the log head after the first n records, and false if there are fewer.
func (v View) HeadAfter(n uint64) (evidence.LogHead, bool) {
	if n > v.Head.Count {
		return evidence.LogHead{}, false
	}
	return v.log.head(n), true
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
