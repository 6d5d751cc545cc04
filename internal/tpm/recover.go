// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/turn"
)

// errLost ends the attempts to bring a connection back.
var errLost = errors.New("the connection is broken and cannot be opened again")

// fail marks the device as down and starts to bring it back. The caller holds the turn.
// Running is the channel of a command that has not returned, nil if there is none.
func (d *Device) fail(reason error, running chan response) {
	d.dirty = true
	d.update(func(s *State) {
		if errors.Is(reason, ErrTimedOut) {
			s.Hangs++
		}
		s.Ready, s.Reason, s.Since = false, reason.Error(), time.Now()
	})
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
		leave, err := d.turn.Enter(repairing(d.life), 1)
		if err != nil {
			d.shut()
			return
		}
		d.leave = leave
		running, err = d.attempt(inStep)
		old = d.link
		if err == nil {
			d.dirty = false
			d.update(func(s *State) { s.Ready, s.Reason, s.Since = true, "", time.Now() })
			d.release()
			d.options.Log.Info("TPM is back", "address", d.source.address)
			return
		}
		d.update(func(s *State) { s.Reason = fmt.Sprintf("%v; last attempt to bring it back: %v", reason, err) })
		d.release()
		if errors.Is(err, errLost) {
			d.options.Log.Error("TPM is lost", "address", d.source.address, "reason", reason)
			return
		}
	}
}

// repairing returns the context of a repair, which all others wait for.
func repairing(ctx context.Context) context.Context {
	return turn.With(ctx, turn.Who{Class: turn.Start, Party: "repair"})
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
		d.link = &link{conn: conn}
	}
	p := &prober{link: d.link, ctx: ctx}
	err = d.flush(p)
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
		d.link = &link{conn: conn}
	}
	if err := d.flush(s); err != nil {
		return fmt.Errorf("clean the TPM: %w", err)
	}
	d.dirty = false
	return nil
}

// First handles of a kind (TPM 2.0 Part 2, section 7.2).
const (
	firstIndex     = uint32(tpm2.TPMHTNVIndex) << 24       // 0x01000000
	firstLoaded    = uint32(tpm2.TPMHTHMACSession) << 24   // 0x02000000, loaded sessions
	firstSaved     = uint32(tpm2.TPMHTPolicySession) << 24 // 0x03000000, saved sessions
	firstTransient = uint32(tpm2.TPMHTTransient) << 24     // 0x80000000
)

// maxHandles caps the handles that a TPM may list; the largest have some dozens.
const maxHandles = 254

var errHandles = errors.New("TPM lists handles of another kind than requested")

// flush flushes all transient objects that the connection sees. With the kernel's resource
// manager these are its own. Otherwise they are those of clients that died, and with three
// slots the next load fails unless they are flushed.
//
// Without a resource manager it flushes loaded sessions too: those that this program left
// when it was killed. A program that goes on with a session later has it saved, which frees
// its slot, and saved sessions stay. The resource manager does not virtualise the handles of
// sessions: there, flushing would end those of other programs.
func (d *Device) flush(t transport.TPM) error {
	err := flushAll(t, firstTransient, nil)
	if err == nil && d.source.exclusive {
		err = flushAll(t, firstLoaded, nil)
	}
	return err
}

func flushAll(t transport.TPM, first uint32, keep map[uint32]struct{}) error {
	handles, err := list(t, first)
	if err != nil {
		return err
	}
	for _, h := range handles {
		if _, ok := keep[uint32(h)]; ok {
			continue
		}
		_, err := tpm2.FlushContext{FlushHandle: h}.Execute(t)
		if err != nil && !errors.Is(err, tpm2.TPMRCHandle) { // it is gone already
			return fmt.Errorf("flush handle 0x%08x: %w", uint32(h), err)
		}
	}
	return nil
}

func list(t transport.TPM, first uint32) ([]tpm2.TPMHandle, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: maxHandles}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("list handles from 0x%08x: %w", first, err)
	}
	l, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("list handles from 0x%08x: %w", first, err)
	}
	for _, h := range l.Handle {
		// Sessions of both kinds are listed together: the loaded ones as if all were HMAC
		// sessions, the saved ones as if all were policy sessions.
		kind := uint32(h) >> 24
		session := kind == uint32(tpm2.TPMHTHMACSession) || kind == uint32(tpm2.TPMHTPolicySession)
		if kind != first>>24 && !(session && (first == firstLoaded || first == firstSaved)) {
			return nil, fmt.Errorf("list handles from 0x%08x: %w: 0x%08x", first, errHandles, uint32(h))
		}
	}
	return l.Handle, nil
}
