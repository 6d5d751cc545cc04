// SPDX-License-Identifier: Apache-2.0

// Package tpm is the one owner of the TPM: it opens the device, lets one sequence
// of commands run at a time, gives each command a deadline, and brings the
// device back after it hung.
//
// A TPM is slow, single-threaded, and sometimes says "not now" or nothing at all.
// None of that may stop the daemon. A caller gets its answer or a typed error within the
// deadline, and the state says what is wrong. The next caller finds a clean device, or
// learns at once that the device is down.
//
// # Contexts and sequences
//
// [Device.Do] waits for its turn as long as its context allows, in the order of package turn:
// units that start come before clients, and clients take turns. When the context ends
// during a command, the caller returns at once. The TPM still finishes the command, because
// no command can be taken back. The device is then cleaned of what the interrupted sequence
// left, before the next sequence has its turn.
package tpm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/turn"
)

// Errors of a device, told apart with errors.Is. Each comes wrapped with what was
// attempted.
var (
	// ErrTimedOut means that a command got no usable answer within its deadline.
	ErrTimedOut = errors.New("TPM did not answer in time")
	// ErrDegraded means that the device hung or broke before and is not back yet.
	ErrDegraded = errors.New("TPM is unavailable")
	// ErrLockout means that the TPM refuses authorizations after too many failures
	// (TPM_RC_LOCKOUT); it recovers by itself after its lockout interval.
	ErrLockout = errors.New("TPM is in dictionary attack lockout: wait for its recovery time, or run `tpm2_dictionarylockout --clear-lockout`")
	// ErrFraming means that the answer is not one response of the TPM.
	ErrFraming = errors.New("answer is not a TPM response")
	// ErrClosed means that this program closed the device.
	ErrClosed = errors.New("TPM device is closed")
)

// Options of a device; the zero value is usable.
type Options struct {
	// CommandTimeout is how long the TPM may take to answer, and how long it may go on
	// answering "not now"; 30 s if zero. The slowest common command, making an RSA
	// key, takes up to 20 s on discrete TPMs.
	CommandTimeout time.Duration
	// ReopenMin and ReopenMax bound the pause between attempts to bring the device
	// back, which doubles each time; 500 ms and 60 s if zero.
	ReopenMin, ReopenMax time.Duration
	// Log gets a line when the device degrades and when it is back; none if nil.
	Log *slog.Logger
}

func (o Options) withDefaults() Options {
	o.CommandTimeout = cmp.Or(max(o.CommandTimeout, 0), 30*time.Second)
	o.ReopenMin = cmp.Or(max(o.ReopenMin, 0), 500*time.Millisecond)
	if o.ReopenMax < o.ReopenMin {
		o.ReopenMax = max(o.ReopenMin, time.Minute)
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// State is the present condition of the device, for status and health checks.
type State struct {
	Address  string    // as given to Open, "" for New
	Ready    bool      // whether commands are accepted
	Reason   string    // reason why not; "" when ready
	Since    time.Time // time of the last change of Ready
	Warnings []string  // what is wrong with the use of the device, though it works
	Hangs    uint64    // number of commands that ended in ErrTimedOut since Open
}

// Device is the owner of one TPM. Its methods may be called from any goroutine.
type Device struct {
	options Options
	source  source
	turn    *turn.Queue     // of one; its holder owns link, dirty, strays and leave
	life    context.Context // ended by end, which only Close calls
	end     context.CancelFunc
	once    sync.Once

	leave  func() // passes the turn on
	link   *link
	dirty  bool                // whether a sequence was interrupted: clean before the next
	strays map[uint32]struct{} // sessions that the current sequence started

	mu     sync.Mutex // guards the two below
	state  State
	counts Counts
}

// Open opens the TPM at address:
//
//	/dev/tpmrm0   the kernel's resource manager: the one to use
//	/dev/tpm0     the bare device; works, with a warning, while no other program uses it
//	unix:/path    a stream socket that speaks raw TPM commands, such as swtpm's
//	fd:N          descriptor N, inherited; such a connection cannot be opened again
//
// Transient objects left by earlier users of the connection are flushed. If there is no
// resource manager, loaded sessions are too: see flush. Open fails if the TPM does not answer.
func Open(ctx context.Context, address string, o Options) (*Device, error) {
	src, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	conn, err := src.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open TPM %s: %w", address, err)
	}
	d := newDevice(conn, src, o)
	if err := d.Do(ctx, func(transport.TPM) error { return nil }); err != nil {
		d.Close()
		return nil, fmt.Errorf("open TPM %s: %w", address, err)
	}
	return d, nil
}

// New owns a TPM at an open connection, as its only client. Transient objects and sessions
// are flushed before the first sequence runs. The connection cannot be opened again. If a command hangs
// and is answered later, the connection is used again.
func New(rw io.ReadWriteCloser, o Options) *Device {
	return newDevice(rw, source{once: true, exclusive: true}, o)
}

func newDevice(conn io.ReadWriteCloser, s source, o Options) *Device {
	d := &Device{
		options: o.withDefaults(), source: s,
		link: &link{conn: conn}, dirty: true,
		turn:  turn.New(turn.Options{}),
		state: State{Address: s.address, Warnings: s.warnings, Ready: true, Since: time.Now()},
	}
	d.life, d.end = context.WithCancel(context.Background())
	return d
}

// Do runs f with the TPM to itself. The transport is valid until f returns. Errors
// of the TPM pass through, so that errors.Is finds a tpm2.TPMRC. A lockout carries
// [ErrLockout] too, and what the state of the TPM prevents is a [StateError]. Do must not be
// called from within f.
func (d *Device) Do(ctx context.Context, f func(t transport.TPM) error) error {
	if err := d.take(ctx); err != nil {
		return err
	}
	seq := &sequence{d: d, ctx: ctx}
	defer seq.finish() // also if f panics: the turn must not be lost
	if d.dirty {
		if err := d.clean(seq); err != nil {
			return err
		}
	}
	d.strays = make(map[uint32]struct{})
	return explain(seq, f(seq))
}

// take waits for the turn, and fails at once while the device is down.
func (d *Device) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for the TPM: %w", err)
	}
	// A caller that comes while the device is down must not wait for the repair.
	if err := d.Down(); err != nil {
		return err
	}
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.life, cancel)()
	leave, err := d.turn.Enter(wait, 1)
	if err != nil {
		if d.life.Err() != nil {
			d.shut()
			return ErrClosed
		}
		return fmt.Errorf("wait for the TPM: %w", ctx.Err())
	}
	d.leave = leave
	if err := d.Down(); err != nil { // it may have broken, or been closed, meanwhile
		d.release()
		return err
	}
	return nil
}

// Down returns why the next sequence would fail at once: an [ErrDegraded] while the device is
// down, and [ErrClosed]. It returns nil if the device takes commands.
func (d *Device) Down() error {
	if d.life.Err() != nil {
		return ErrClosed
	}
	if s := d.State(); !s.Ready {
		return fmt.Errorf("%w: %s", ErrDegraded, s.Reason)
	}
	return nil
}

// Turns returns what the queue of sequences counts.
func (d *Device) Turns() turn.Stats { return d.turn.Stats() }

// Counts are what happened to commands since the device was opened.
type Counts struct {
	Commands uint64 // sent, each attempt of one that the TPM put off included
	PutOff   uint64 // answered "not now"
	Refused  uint64 // answered with another error
	Failed   uint64 // without a usable answer within their deadline
}

// Counts returns what happened to commands.
func (d *Device) Counts() Counts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts
}

// count counts one attempt of a command. One whose caller left is none of the others.
func (d *Device) count(rsp []byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts.Commands++
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case err != nil:
		d.counts.Failed++
	case putOff(responseCode(rsp)):
		d.counts.PutOff++
	case responseCode(rsp) != tpm2.TPMRCSuccess:
		d.counts.Refused++
	}
}

// State returns what the device is like.
func (d *Device) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// update changes the state.
func (d *Device) update(f func(*State)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.state)
}

// Close closes the connection. A sequence that is running fails.
func (d *Device) Close() error {
	err := os.ErrClosed
	d.once.Do(func() {
		d.end()
		err = d.shut()
	})
	return err
}

// release passes the turn on.
func (d *Device) release() {
	leave := d.leave
	d.leave = nil
	leave()
	d.shut()
}

// shut closes the link of a device that was closed. If another goroutine holds the turn or
// waits for it, that one calls shut when it is done.
func (d *Device) shut() (err error) {
	if d.life.Err() == nil {
		return nil
	}
	leave := d.turn.Try(d.life, 1)
	if leave == nil {
		return nil
	}
	defer leave()
	if d.link != nil {
		err = d.link.close()
	}
	return err
}
