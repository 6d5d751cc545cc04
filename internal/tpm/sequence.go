// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// Pauses between attempts of a command that the TPM puts off. TPM_RC_RETRY mostly
// means a few milliseconds; a self-test can take seconds.
const (
	retryMin = time.Millisecond
	retryMax = 100 * time.Millisecond
)

// sequence is one turn at the TPM: the transport that f of [Device.Do] gets. It is
// used by one goroutine.
type sequence struct {
	d     *Device
	ctx   context.Context
	err   error         // set when the sequence is over before f returned
	drain chan response // of a command that was still running when the context ended
}

// Send runs one command. After an error of the connection every further command of
// the sequence fails the same way.
func (s *sequence) Send(command []byte) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if err := s.ctx.Err(); err != nil {
		s.d.dirty = true
		s.err = fmt.Errorf("use the TPM: %w", err)
		return nil, s.err
	}
	rsp, err := s.run(command)
	if err != nil {
		s.err = err
		return nil, err
	}
	return rsp, nil
}

// run sends command until the TPM accepts it or has put it off for too long. Each attempt
// has the whole deadline for itself: a TPM that answers at all does not hang.
func (s *sequence) run(command []byte) ([]byte, error) {
	name, err := checkCommand(command)
	if err != nil {
		return nil, err
	}
	enough := time.NewTimer(s.d.options.CommandTimeout)
	defer enough.Stop()
	swept := false
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		rsp, err := s.exchange(command, name)
		s.d.count(rsp, err)
		if err != nil {
			return nil, err
		}
		rc := responseCode(rsp)
		switch {
		case putOff(rc):
		case (rc == tpm2.TPMRCSessionMemory || rc == tpm2.TPMRCSessionHandles) && s.d.source.exclusive && !swept:
			// There is no room for another session. A client that was killed leaves its
			// sessions in the TPM, and no other program would ever free them.
			swept = true
			if err := flushAll(s, firstLoaded, s.d.strays); err != nil {
				return nil, err
			}
			continue
		default:
			s.track(command, rsp)
			return rsp, nil
		}
		select {
		case <-time.After(pause):
		case <-enough.C:
			s.d.dirty = true
			return nil, fmt.Errorf("%s: %w: it still says %w after %s", name, ErrTimedOut, rc, s.d.options.CommandTimeout)
		case <-s.ctx.Done():
			s.d.dirty = true
			return nil, fmt.Errorf("%s: %w: TPM says %w", name, s.ctx.Err(), rc)
		}
	}
}

// once sends one command and waits for its response.
func (s *sequence) once(command []byte, name string) ([]byte, error) {
	deadline := time.NewTimer(s.d.options.CommandTimeout)
	defer deadline.Stop()
	out := s.d.link.startWithin(s.d.options.CommandTimeout, command, s.ctx, s.d.life)
	select {
	case r := <-out:
		if r.err != nil {
			err := fmt.Errorf("%s: %w", name, r.err)
			if !s.d.unmanaged(err) {
				s.d.fail(err, nil)
			}
			return nil, err
		}
		return r.bytes, nil
	case <-deadline.C:
		err := fmt.Errorf("%s: %w: waited %s", name, ErrTimedOut, s.d.options.CommandTimeout)
		s.d.fail(err, out)
		return nil, err
	case <-s.ctx.Done():
		s.drain = out
		return nil, fmt.Errorf("%s: %w", name, s.ctx.Err())
	case <-s.d.life.Done():
		s.drain = out
		return nil, fmt.Errorf("%s: %w", name, ErrClosed)
	}
}

// finish ends the turn. If a command is still running, it does so later in a goroutine of
// its own, so that the caller need not wait.
func (s *sequence) finish() {
	if s.err == nil {
		s.err = errors.New("the turn at the TPM is over")
	}
	if s.drain == nil {
		s.d.release()
		return
	}
	s.d.dirty = true
	go func() {
		timer := time.NewTimer(s.d.options.CommandTimeout)
		defer timer.Stop()
		select {
		case r := <-s.drain:
			if r.err != nil {
				s.d.fail(r.err, nil)
			}
		case <-timer.C:
			s.d.fail(fmt.Errorf("interrupted command: %w: waited %s", ErrTimedOut, s.d.options.CommandTimeout), s.drain)
		case <-s.d.life.Done():
		}
		s.d.release()
	}()
}

// track remembers the sessions that this sequence started and did not flush, so that a
// sweep does not end them.
func (s *sequence) track(command, rsp []byte) {
	if responseCode(rsp) != tpm2.TPMRCSuccess || s.d.strays == nil {
		return
	}
	switch commandCode(command) {
	case tpm2.TPMCCStartAuthSession:
		if len(rsp) >= headerSize+4 {
			s.d.strays[binary.BigEndian.Uint32(rsp[headerSize:])] = struct{}{}
		}
	case tpm2.TPMCCFlushContext:
		if len(command) >= headerSize+4 {
			delete(s.d.strays, binary.BigEndian.Uint32(command[headerSize:]))
		}
	}
}

// putOff reports whether the TPM did nothing and asks for another try.
func putOff(rc tpm2.TPMRC) bool {
	switch rc {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting, tpm2.TPMRCNVRate:
		return true
	}
	return false
}
