// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// errLost ends the attempts to bring a connection back.
var errLost = errors.New("the connection is broken and cannot be opened again")

// fail marks the device as down and starts to bring it back. The caller holds the turn.
// Running is the channel of a command that has not returned, nil if there is none.
func (d *Device) fail(reason error, running chan response) {
	d.dirty = true
	d.setDown(reason)
	d.options.Log.Warn("TPM is down", "address", d.source.address, "reason", reason)
	go d.bringBack(d.link, reason, running)
}

// bringBack waits until the old connection is quiet, then opens a new one or uses the old
// one again, and cleans it. There is never more than one bringBack, and never more than one
// abandoned command: a device that is busy with a command would hang on the next.
func (d *Device) bringBack(old *link, reason error, running chan response) {
	inStep := false // the next response on old will be the one to the next command
	for pause := d.options.ReopenMin; ; pause = min(2*pause, d.options.ReopenMax) {
		if !d.source.once {
			old.close()
		}
		if running != nil {
			select {
			case r := <-running:
				inStep = r.err == nil
			case <-d.life.Done():
				old.close()
				return
			}
		}
		select {
		case <-d.life.Done():
			return
		case <-time.After(pause):
		}
		// The link belongs to the holder of the turn: the sequence that failed still
		// holds it for a moment.
		if d.turn.Acquire(d.life, 1) != nil {
			d.shut()
			return
		}
		var err error
		running, err = d.attempt(inStep)
		old = d.link
		if err == nil {
			d.dirty = false
			d.setReady()
			d.release()
			d.options.Log.Info("TPM is back", "address", d.source.address)
			return
		}
		d.note(fmt.Sprintf("%v; last attempt to bring it back: %v", reason, err))
		d.release()
		if errors.Is(err, errLost) {
			d.options.Log.Error("TPM is lost", "address", d.source.address, "reason", reason)
			return
		}
	}
}

// note replaces the reason why the device is down.
func (d *Device) note(reason string) {
	d.mu.Lock()
	d.state.Reason = reason
	d.mu.Unlock()
}

// attempt tries once to get a clean connection. If the attempt itself hangs, it returns
// the command that is still running.
func (d *Device) attempt(inStep bool) (running chan response, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), d.options.CommandTimeout)
	defer cancel()
	if d.source.once {
		if !inStep {
			return nil, errLost
		}
	} else {
		conn, err := d.source.open(ctx)
		if err != nil {
			return nil, err
		}
		d.link = newLink(conn)
	}
	p := &prober{link: d.link, ctx: ctx}
	err = flushTransient(p)
	if rc := tpm2.TPMRC(0); err != nil && d.source.once && p.running == nil && !errors.As(err, &rc) {
		err = fmt.Errorf("%w: %w", errLost, err) // no command is running, and what came was not an answer
	}
	return p.running, err
}

// prober is a transport over a link outside of any sequence. A failure in it must not
// start a second bringBack.
type prober struct {
	link    *link
	ctx     context.Context
	running chan response
}

func (p *prober) Send(command []byte) ([]byte, error) {
	name, err := checkCommand(command)
	if err != nil {
		return nil, err
	}
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		out := p.link.start(command)
		select {
		case r := <-out:
			if r.err != nil || !putOff(responseCode(r.bytes)) {
				return r.bytes, r.err
			}
		case <-p.ctx.Done():
			p.running = out
			return nil, fmt.Errorf("%s: %w", name, ErrTimedOut)
		}
		select {
		case <-time.After(pause):
		case <-p.ctx.Done():
			return nil, fmt.Errorf("%s: %w", name, ErrTimedOut)
		}
	}
}

// clean frees what an interrupted sequence or an earlier user left in the TPM. A
// device of the kernel is opened again, because only the kernel knows which sessions
// were ours.
func (d *Device) clean(s *sequence) error {
	if d.source.managed && d.link.used {
		d.link.close()
		conn, err := d.source.open(s.ctx)
		if err != nil {
			err = fmt.Errorf("open TPM %s again: %w", d.source.address, err)
			d.fail(err, nil)
			s.err = err
			return err
		}
		d.link = newLink(conn)
	}
	if err := flushTransient(s); err != nil {
		return fmt.Errorf("clean the TPM: %w", err)
	}
	d.dirty = false
	return nil
}
