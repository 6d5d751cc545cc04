// SPDX-License-Identifier: Apache-2.0

// Package snp asks the AMD security processor for reports and derived keys through
// /dev/sev-guest of Linux (Documentation/virt/coco/sev-guest.rst,
// include/uapi/linux/sev-guest.h).
//
// A guest that asks wrongly, or too often, loses: hosts allow about one report in two
// seconds, and after a message that it cannot account for, the kernel wipes the key that it
// shares with the processor, until the next boot. So all requests wait in one queue, one at a
// time and spaced. Each is checked before it is sent. None is sent again, except once if the
// host asked for more room for its certificates.
package snp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// Options of a [Device].
type Options struct {
	// VMPL is the privilege level, 0 to 3, to ask at and to find in the answers.
	VMPL uint32
	// Spacing is the least time from one answer to the next request. Hosts allow
	// about one request in two seconds; what comes earlier waits in the kernel,
	// and cannot be called back.
	Spacing time.Duration
	// Timeout bounds the wait for an answer, as the caller's context does; 0 is
	// [DefaultTimeout].
	Timeout time.Duration
	// WithoutKeys says that the transport derives no keys.
	WithoutKeys bool
}

// DefaultTimeout is a little more than Linux tries against a host that throttles: 60 s.
const DefaultTimeout = 75 * time.Second

// Device is the one user of a [Transport]. All its requests wait in one queue, in the order of
// package turn. It is a [platform.Platform] with keys.
type Device struct {
	transport Transport
	options   Options

	turn *turn.Queue // of one; guards transport and last
	last time.Time   // of the last answer

	open  context.Context // ended by Close
	close context.CancelFunc

	room  atomic.Uint32 // bytes for the host's table, whole pages; grows as the host asks
	table lastTable

	mu      sync.Mutex // guards the two below, and the ends of open and transport
	wiped   error      // ErrKeyWiped, for good
	stapled [][]byte
}

var _ platform.Platform = (*Device)(nil)

var errClosed = errors.New("report device is closed")

// floor is how many requests of higher classes may pass over a lower one. Each takes seconds
// if the host delays requests: with the usual 16, reports would wait for keys beyond their
// deadline.
const floor = 1

// New returns a device over t, which it closes.
func New(t Transport, o Options) (*Device, error) {
	if o.VMPL > 3 {
		return nil, fmt.Errorf("report device: VMPL %d, want 0 to 3: %w", o.VMPL, platform.ErrVMPL)
	}
	o.Timeout = cmp.Or(max(o.Timeout, 0), DefaultTimeout)
	d := &Device{transport: t, options: o, turn: turn.New(turn.Options{Floor: floor})}
	d.room.Store(firstTable)
	d.open, d.close = context.WithCancel(context.Background())
	return d, nil
}

// Kind returns [evidence.ReportSNP].
func (d *Device) Kind() evidence.ReportKind { return evidence.ReportSNP }

// Close ends the device. An exchange that is under way cannot be called back: then
// the transport is closed when it answers.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return nil
	}
	d.close()
	return d.finish()
}

// finish closes the transport of a closed device if no request has the turn, which it takes
// for good. Else the request does so when it passes the turn. The caller holds mu.
func (d *Device) finish() error {
	if d.isClosed() && d.turn.Try(context.Background(), 1) != nil {
		return d.transport.Close()
	}
	return nil
}

func (d *Device) isClosed() bool { return d.open.Err() != nil }

// exchange waits its turn, has fill complete m unless it is nil, sends m, and waits for the
// answer, as long as ctx and the timeout allow. Afterwards the caller may use m unless err is a
// timeout: then the kernel may still write to it.
func (d *Device) exchange(ctx context.Context, m *Message, fill func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	if err := d.failure(); err != nil {
		return err
	}
	leave, err := d.take(ctx)
	if err != nil {
		return err
	}
	if err := d.prepare(ctx, fill); err != nil {
		d.pass(leave) // nothing was sent, so the next request need not wait longer
		return err
	}
	answers, abandoned := make(chan error), make(chan struct{})
	go func() {
		exitInfo, err := d.transport.Exchange(m)
		if err = classify(exitInfo, err); errors.Is(err, platform.ErrKeyWiped) {
			d.wipe(err)
		}
		d.last = time.Now()
		d.pass(leave)
		select {
		case answers <- err:
		case <-abandoned:
			clear(m.Response) // may contain a key that no caller waits for
		}
	}()
	select {
	case err := <-answers:
		return err
	case <-ctx.Done():
		close(abandoned)
		return waited(ctx, "for the host's answer")
	}
}

// prepare does what comes between getting the turn and using it.
func (d *Device) prepare(ctx context.Context, fill func(context.Context) error) error {
	if err := d.failure(); err != nil { // of the request before
		return err
	}
	if err := d.space(ctx); err != nil || fill == nil {
		return err
	}
	if err := fill(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return waited(ctx, "for the data of the report")
	}
	return d.failure() // the device may have been closed meanwhile
}

// Turns returns what the queue of requests counts.
func (d *Device) Turns() turn.Stats { return d.turn.Stats() }

// take waits for the turn, until ctx ends or the device is closed. Its caller hands leave to
// pass.
func (d *Device) take(ctx context.Context) (leave func(), err error) {
	either, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.open, cancel)()
	if leave, err = d.turn.Enter(either, 1); err == nil {
		return leave, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		_ = d.finish() // the turn may have come too late, and be free again
		return nil, errClosed
	}
	return nil, waited(ctx, "for its turn: an earlier request has no answer yet")
}

// pass gives the turn to the next request, or ends a device that was closed meanwhile.
func (d *Device) pass(leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		_ = d.transport.Close()
		return // no request gets the turn any more
	}
	leave()
}

// space waits until the host may be asked again.
func (d *Device) space(ctx context.Context) error {
	wait := time.Until(d.last.Add(d.options.Spacing))
	if d.last.IsZero() || wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-d.open.Done():
		return errClosed
	case <-ctx.Done():
		return waited(ctx, "for the spacing of requests")
	}
}

// waited returns the error of a wait that ended with ctx: the caller's own if it left, else a
// timeout.
func waited(ctx context.Context, what string) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("report device: waited %s: %w", what, ctx.Err())
	}
	return fmt.Errorf("report device: waited %s: %w", what, with(platform.ErrTimedOut, ctx.Err()))
}

// wipe remembers that the guest's message key is gone. No later request is sent: it could
// only fail, and status shows why.
func (d *Device) wipe(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wiped = cmp.Or(d.wiped, err)
}

// failure returns why no request is sent any more, nil while requests are sent.
func (d *Device) failure() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isClosed() {
		return errClosed
	}
	return d.wiped
}
