// SPDX-License-Identifier: Apache-2.0

package sevguest

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/snp"
)

// Sizes of the driver's structures (include/uapi/linux/sev-guest.h).
const (
	outerSize    = 32  // version 1, padding 7, request 8, response 8, exitinfo2 8
	extendedSize = 112 // report request 96, address of the table 8, its length 4, padding 4
	reportSize   = 96
	answerSize   = 4000
	keySize      = 32
	keyAnswer    = 64
	maxTable     = 64 << 10
)

// part is a range of the caller's memory.
type part struct{ address, length uint64 }

// ioctl answers one request in up to three rounds. It asks for the outer structure, then
// for the request that it points to, then for the address of the table. After that it has
// the memory to read and to write.
func (d *device) ioctl(unique uint64, b []byte) {
	if len(b) < ioctlIn {
		d.reply(unique, unix.EINVAL, nil)
		return
	}
	command := snp.Command(order.Uint32(b[12:]))
	outer := part{order.Uint64(b[16:]), outerSize}
	in, outSize := b[ioctlIn:], order.Uint32(b[28:])
	if len(in) == 0 {
		d.again(unique, []part{outer}, nil)
		return
	}
	if len(in) < outerSize {
		d.reply(unique, unix.EINVAL, nil)
		return
	}
	requestAt, responseAt := order.Uint64(in[8:]), order.Uint64(in[16:])
	var request, response part
	switch command {
	case snp.GetReport:
		request, response = part{requestAt, reportSize}, part{responseAt, answerSize}
	case snp.GetExtendedReport:
		request, response = part{requestAt, extendedSize}, part{responseAt, answerSize}
	case snp.GetDerivedKey:
		request, response = part{requestAt, keySize}, part{responseAt, keyAnswer}
	default:
		d.reply(unique, unix.ENOTTY, nil)
		return
	}
	reads, writes := []part{outer, request}, []part{outer, response}
	if command != snp.GetExtendedReport {
		if outSize == 0 {
			d.again(unique, reads, writes)
			return
		}
		d.exchange(unique, command, in, request.length, response.length, 0)
		return
	}
	if len(in) < outerSize+extendedSize {
		d.again(unique, reads, nil)
		return
	}
	inner := in[outerSize:]
	table := part{order.Uint64(inner[96:]), uint64(order.Uint32(inner[104:]))}
	if table.length > maxTable {
		d.reply(unique, unix.EINVAL, nil)
		return
	}
	if outSize == 0 {
		writes = append(writes, request)
		if table.length > 0 {
			writes = append(writes, table)
		}
		d.again(unique, reads, writes)
		return
	}
	d.exchange(unique, command, in, request.length, response.length, table.length)
}

// again asks the kernel to repeat the call with these parts of the caller's memory.
func (d *device) again(unique uint64, reads, writes []part) {
	out := make([]byte, ioctlOut)
	order.PutUint32(out[4:], ioctlRetry)
	order.PutUint32(out[8:], uint32(len(reads)))
	order.PutUint32(out[12:], uint32(len(writes)))
	for _, p := range append(reads, writes...) {
		out = order.AppendUint64(out, p.address)
		out = order.AppendUint64(out, p.length)
	}
	d.reply(unique, 0, out)
}

// exchange asks the platform, and writes the outer structure and the response. For an
// extended request it also writes the table, and the structure with the table's length.
func (d *device) exchange(unique uint64, command snp.Command, in []byte, request, response, table uint64) {
	if uint64(len(in)) < outerSize+request {
		d.reply(unique, unix.EINVAL, nil)
		return
	}
	asked := in[outerSize : outerSize+request]
	m := &snp.Message{Command: command, Request: asked, Response: make([]byte, response)}
	if command == snp.GetExtendedReport {
		m.Request, m.Table = asked[:reportSize], make([]byte, table)
	}
	exitInfo, err := d.transport.Exchange(m)
	result := int32(0)
	if err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			errno = syscall.EIO
		}
		result = -int32(errno)
	}
	out := make([]byte, ioctlOut, ioctlOut+outerSize+response+request+table)
	order.PutUint32(out, uint32(result))
	outer := append([]byte{}, in[:outerSize]...)
	order.PutUint64(outer[24:], exitInfo)
	out = append(append(out, outer...), m.Response...)
	if command == snp.GetExtendedReport {
		order.PutUint32(asked[104:], m.TableSize)
		out = append(append(out, asked...), m.Table...)
	}
	d.reply(unique, 0, out)
}
