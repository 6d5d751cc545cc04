// SPDX-License-Identifier: Apache-2.0

// Package sevguest serves /dev/sev-guest in a virtual machine that has no SEV-SNP: a
// character device in user space (CUSE), answered by the software platform. The kernel
// copies between the caller's memory and this process. So the daemon opens the device,
// asks and reads as on real hardware.
//
// The protocol is FUSE (include/uapi/linux/fuse.h). All numbers have the byte order of the
// machine:
//
//	in header   len 4, opcode 4, unique 8, nodeid 8, uid 4, gid 4, pid 4, padding 4
//	out header  len 4, error 4, unique 8
package sevguest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/snp"
)

// Operations of a character device.
const (
	opOpen      = 14
	opRelease   = 18
	opFlush     = 25
	opInterrupt = 36
	opIoctl     = 39
	opInit      = 4096
)

const (
	inHeader  = 40
	outHeader = 16
	ioctlIn   = 32 // fh 8, flags 4, command 4, argument 8, in size 4, out size 4
	ioctlOut  = 16 // result 4, flags 4, in iovecs 4, out iovecs 4

	ioctlRetry       = 1 << 2
	initUnrestricted = 1 << 0 // the device says which memory of the caller it reads and writes

	// bufferSize is enough for one request: the largest data of an ioctl, and its headers.
	bufferSize = 256 << 10
)

var order = binary.NativeEndian

// Serve makes the device called name, and answers on it until an error ends it.
func Serve(name string, t snp.Transport, ready func()) error {
	f, err := os.OpenFile("/dev/cuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("character device in user space: %w", err)
	}
	defer f.Close()
	d := &device{fd: int(f.Fd()), name: name, transport: t, ready: ready}
	for {
		b := make([]byte, bufferSize)
		n, err := unix.Read(d.fd, b)
		if errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if n < inHeader {
			return fmt.Errorf("request of %d bytes", n)
		}
		if err := d.answer(b[:n]); err != nil {
			return err
		}
	}
}

type device struct {
	fd        int
	name      string
	transport snp.Transport
	ready     func()
}

func (d *device) answer(b []byte) error {
	unique := order.Uint64(b[8:])
	body := b[inHeader:]
	switch order.Uint32(b[4:]) {
	case opInit:
		// major, minor, unused, flags, max_read, max_write, device numbers, 40 spare bytes
		out := make([]byte, 72)
		order.PutUint32(out, order.Uint32(body))
		order.PutUint32(out[4:], order.Uint32(body[4:]))
		order.PutUint32(out[12:], initUnrestricted)
		order.PutUint32(out[16:], 128<<10)
		order.PutUint32(out[20:], 128<<10)
		if err := d.reply(unique, 0, append(out, "DEVNAME="+d.name+"\x00"...)); err != nil {
			return err
		}
		d.ready()
		return nil
	case opOpen:
		return d.reply(unique, 0, make([]byte, 16))
	case opRelease, opFlush:
		return d.reply(unique, 0, nil)
	case opInterrupt:
		return nil // the request is answered later
	case opIoctl:
		go d.ioctl(unique, body)
		return nil
	}
	return d.reply(unique, unix.ENOSYS, nil)
}

func (d *device) reply(unique uint64, errno unix.Errno, body []byte) error {
	b := make([]byte, outHeader, outHeader+len(body))
	order.PutUint32(b, uint32(outHeader+len(body)))
	order.PutUint32(b[4:], uint32(-int32(errno)))
	order.PutUint64(b[8:], unique)
	_, err := unix.Write(d.fd, append(b, body...))
	if errors.Is(err, unix.ENOENT) {
		return nil // the caller has gone
	}
	if err != nil {
		return fmt.Errorf("write an answer: %w", err)
	}
	return nil
}
