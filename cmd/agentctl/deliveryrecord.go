// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// heldRecord is the file of a delivery, which this process alone uses. It has one name: by a second
// one, which a write would leave as it was, a secret could be sent twice.
type heldRecord struct {
	*delivery.Record
	name string
	file *os.File // the file as it was found, locked; nil: there was none
}

// newRecord writes the file of a delivery that begins. There must be none.
func newRecord(name string, r *delivery.Record) (*heldRecord, error) {
	b, err := r.Encode()
	if err == nil {
		err = durable.WriteNew(name, b, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, misuse(fmt.Errorf("%s exists: each delivery has a file of its own", name))
	}
	if err != nil {
		return nil, misuse(err)
	}
	return &heldRecord{Record: r, name: name}, nil
}

// holdRecord reads the file of a delivery, and locks it until it is closed.
func holdRecord(name string) (_ *heldRecord, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, misuse(fmt.Errorf("%s is a link: name the file itself", name))
	}
	if err != nil {
		return nil, misuse(err)
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		return nil, misuse(fmt.Errorf("%s: another command uses this delivery now", name))
	} else if err != nil {
		return nil, misuse(fmt.Errorf("lock %s: %w", name, err))
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, misuse(fmt.Errorf("look at %s: %w", name, err))
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return nil, misuse(fmt.Errorf("%s is not a regular file", name))
	case st.Nlink == 0: // another command wrote it between the opening and the lock
		return nil, misuse(fmt.Errorf("%s: another command used this delivery just now: give yours again", name))
	case st.Nlink > 1:
		return nil, misuse(fmt.Errorf("%s has %d names: remove the others, by which its secret could be sent again", name, st.Nlink))
	}
	b, err := io.ReadAll(io.LimitReader(f, delivery.MaxRecord+1))
	if err != nil {
		return nil, misuse(fmt.Errorf("read %s: %w", name, durable.Cause(err)))
	}
	r, err := delivery.ParseRecord(b)
	if err != nil {
		return nil, misuse(fmt.Errorf("%s: %w", name, err))
	}
	return &heldRecord{Record: r, name: name, file: f}, nil
}

// Close gives up the lock.
func (h *heldRecord) Close() {
	if h.file != nil {
		h.file.Close()
	}
}

// write puts the record into the place of the file. What was found must have no name then.
func (h *heldRecord) write() error {
	b, err := h.Encode()
	if err == nil {
		err = durable.WriteFile(h.name, b, 0o600)
	}
	if err != nil || h.file == nil {
		return misuseIf(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(h.file.Fd()), &st); err != nil {
		return misuse(fmt.Errorf("look at %s: %w", h.name, err))
	}
	if st.Nlink > 0 {
		return misuse(fmt.Errorf("%s got another name meanwhile, by which its secret could be sent again: nothing was sent", h.name))
	}
	return nil
}

// unsent refuses a delivery by which something was sent, or whose challenge is older than that.
func (h *heldRecord) unsent(most time.Duration) error {
	const again = "begin another delivery: `agentctl secret challenge`"
	if h.Sent != nil {
		return misuse(fmt.Errorf("%s: a secret was sent by this delivery, which serves one", h.name)).withHint(again)
	}
	age := time.Since(time.Unix(int64(min(h.Made, 1<<40)), 0))
	if age > most || age < -time.Minute {
		return misuse(fmt.Errorf("%s: the challenge is %v old by the clock here, want at most %v: an old ticket tells nothing of the machine as it is now", h.name, age.Round(time.Second), most)).withHint(again)
	}
	return nil
}
