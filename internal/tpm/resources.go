// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The kernel's resource manager (/dev/tpmrm0) keeps the objects of each descriptor, and loads their
// contexts before each command (tpm2_prepare_space in drivers/char/tpm/tpm2-space.c). A write fails
// with EINVAL, and the TPM gets no command,
//
//   - if a context does not load any more, since the TPM was cleared. Then every command of that
//     descriptor fails, until it is closed.
//   - if the command names an object that this descriptor has not, such as a key that was loaded
//     before the device was opened again. A TPM without resource manager answers
//     TPM_RC_REFERENCE_H0 to that.

// unmanaged reports whether err is such a failure.
func (d *Device) unmanaged(err error) bool {
	return d.source.managed && !d.source.exclusive && errors.Is(err, unix.EINVAL)
}

// notLoaded is the response that names an object which is not loaded: TPM_RC_REFERENCE_H0 (TPM 2.0
// Part 2, section 6.6.3).
var notLoaded = []byte{0x80, 0x01, 0, 0, 0, headerSize, 0, 0, 0x09, 0x10}

// exchange sends one command and waits for its response. If the resource manager fails as above,
// it opens the device again and sends the command once more: no command has reached the TPM. If
// only that command fails then, it names an object that is not loaded.
func (s *sequence) exchange(command []byte, name string) ([]byte, error) {
	rsp, err := s.once(command, name)
	if err == nil || !s.d.unmanaged(err) {
		return rsp, err
	}
	if running, err := s.renew(); err != nil {
		err = fmt.Errorf("%s: open TPM %s again: %w", name, s.d.source.address, err)
		s.d.fail(err, running)
		return nil, err
	}
	if rsp, err = s.once(command, name); err != nil && s.d.unmanaged(err) {
		return notLoaded, nil
	}
	return rsp, err
}

// renew opens the device again, and has it answer. The kernel frees what the old descriptor had.
// If the device hangs, renew returns the command that is still running.
func (s *sequence) renew() (running chan response, err error) {
	ctx, cancel := context.WithTimeout(s.ctx, s.d.options.CommandTimeout)
	defer cancel()
	s.d.link.close()
	conn, err := s.d.source.open(ctx)
	if err != nil {
		return nil, err
	}
	s.d.link = &link{conn: conn}
	p := &prober{link: s.d.link, ctx: ctx}
	err = s.d.flush(p)
	return p.running, err
}
