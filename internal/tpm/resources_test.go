// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"golang.org/x/sys/unix"
)

// A kernel has a TPM behind its resource manager. Its descriptors answer as those of /dev/tpmrm0:
// an object belongs to the descriptor that made it.
type kernel struct {
	opened int
	stuck  map[int]bool // descriptors whose contexts do not load any more
	all    bool         // all are stuck, and those that are opened from now on
}

type descriptor struct {
	k       *kernel
	number  int
	objects []uint32
	answer  bytes.Buffer
}

func (k *kernel) open(context.Context) (io.ReadWriteCloser, error) {
	k.opened++
	return &descriptor{k: k, number: k.opened}, nil
}

func (d *descriptor) Write(command []byte) (int, error) {
	einval := &os.PathError{Op: "write", Path: "/dev/tpmrm0", Err: unix.EINVAL}
	if d.k.all || d.k.stuck[d.number] {
		return 0, einval
	}
	body := []byte{}
	switch commandCode(command) {
	case tpm2.TPMCCGetCapability: // no handles
		body = []byte{0, 0, 0, 0, 1, 0, 0, 0, 0}
	case tpm2.TPMCCGetRandom:
		body = []byte{0, 2, 7, 7}
	case tpm2.TPMCCContextLoad:
		h := uint32(0x80ffffff) - uint32(len(d.objects))
		d.objects = append(d.objects, h)
		body = binary.BigEndian.AppendUint32(nil, h)
	case tpm2.TPMCCReadPublic:
		h := binary.BigEndian.Uint32(command[headerSize:])
		if i := int(0x80ffffff - h); i < 0 || i >= len(d.objects) {
			return 0, einval
		}
	}
	rsp := append([]byte{0x80, 0x01, 0, 0, 0, byte(headerSize + len(body)), 0, 0, 0, 0}, body...)
	d.answer.Write(rsp)
	return len(command), nil
}

func (d *descriptor) Read(b []byte) (int, error) { return d.answer.Read(b) }
func (d *descriptor) Close() error               { return nil }

// device opens the TPM of a kernel.
func (k *kernel) device(t *testing.T, exclusive bool) *Device {
	k.stuck = map[int]bool{}
	conn, _ := k.open(t.Context())
	d := newDevice(conn, source{address: "/dev/tpmrm0", managed: true, exclusive: exclusive, open: k.open}, Options{ReopenMin: time.Hour})
	t.Cleanup(func() { d.Close() })
	return d
}

// command is one without parameters, but for a handle.
func command(code tpm2.TPMCC, handle ...byte) []byte {
	c := binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, byte(headerSize + len(handle))}, uint32(code))
	return append(c, handle...)
}

// send sends one command in a sequence of its own.
func send(t *testing.T, d *Device, c []byte) (rsp []byte, err error) {
	err = d.Do(t.Context(), func(tr transport.TPM) error {
		rsp, err = tr.Send(c)
		return err
	})
	return rsp, err
}

// TestClearedUnderDescriptor: after a clear of the TPM the resource manager refuses each command of
// the descriptor. The device is opened again, and no caller notices.
func TestClearedUnderDescriptor(t *testing.T) {
	k := &kernel{}
	d := k.device(t, false)
	for i := range 3 {
		if _, err := send(t, d, command(tpm2.TPMCCGetRandom)); err != nil || d.Down() != nil {
			t.Fatalf("clear %d: %v, %v", i, err, d.Down())
		}
		k.stuck[k.opened] = true
	}
	if k.opened != 3 {
		t.Errorf("opened %d times, want 3", k.opened)
	}
}

// TestHandleOfOldDescriptor: a key that was loaded before the device was opened again is one that
// is not loaded, and the caller loads it again. Without that the device would be down for ever.
func TestHandleOfOldDescriptor(t *testing.T) {
	k := &kernel{}
	d := k.device(t, false)
	rsp, err := send(t, d, command(tpm2.TPMCCContextLoad))
	if err != nil {
		t.Fatal(err)
	}
	read := command(tpm2.TPMCCReadPublic, rsp[headerSize:]...)
	for _, stuck := range []bool{false, true} {
		if rsp, err := send(t, d, read); err != nil || responseCode(rsp) != tpm2.TPMRCSuccess {
			t.Fatalf("%x, %v", rsp, err)
		}
		d.dirty = !stuck // a sequence that was interrupted has the device opened again
		k.stuck[k.opened] = stuck
		if rsp, err := send(t, d, read); err != nil || !errors.Is(responseCode(rsp), tpm2.TPMRCReferenceH0) || d.Down() != nil {
			t.Fatalf("stuck %v: %x, %v, %v", stuck, rsp, err, d.Down())
		}
		if _, err := send(t, d, command(tpm2.TPMCCContextLoad)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStuckForGood: a device that refuses all commands, opened again too, is down. Nothing is said
// about keys. So is one without resource manager at once.
func TestStuckForGood(t *testing.T) {
	for exclusive, opened := range map[bool]int{false: 2, true: 1} {
		k := &kernel{}
		d := k.device(t, exclusive)
		if _, err := send(t, d, command(tpm2.TPMCCGetRandom)); err != nil {
			t.Fatal(err)
		}
		k.all = true
		if rsp, err := send(t, d, command(tpm2.TPMCCReadPublic, 0x80, 0xff, 0xff, 0xff)); !errors.Is(err, unix.EINVAL) || d.Down() == nil || k.opened != opened {
			t.Errorf("exclusive %v: %x, %v, %v, opened %d times", exclusive, rsp, err, d.Down(), k.opened)
		}
	}
}
