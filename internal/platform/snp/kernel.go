// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform"
)

// messageVersion is the only one there is (include/uapi/linux/sev-guest.h).
const messageVersion = 1

// guestRequest is struct snp_guest_request_ioctl: 32 bytes.
type guestRequest struct {
	version  uint8          // at 0, 7 bytes of padding after it
	request  unsafe.Pointer // at 8
	response unsafe.Pointer // at 16
	exitInfo uint64         // at 24
}

// extendedRequest is struct snp_ext_report_req: 112 bytes.
type extendedRequest struct {
	report [reportRequestSize]byte
	table  unsafe.Pointer // at 96
	length uint32         // at 104, in and out
}

// kernel is the device of Linux.
type kernel struct {
	fd    int
	ioctl func(fd int, command Command, arg *guestRequest) error
}

// Open opens the device of Linux, /dev/sev-guest. The error is [platform.ErrAbsent] if there is
// none.
func Open(path string) (Transport, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		return nil, fmt.Errorf("open %s: %w: this machine is not an SEV-SNP guest, or module sev-guest is not loaded", path, with(platform.ErrAbsent, err))
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open %[1]s: %[2]w: as root, `udevadm trigger --action=change %[1]s` gives it to the user of the agent by the package's rule; then restart the agent",
			path, with(platform.ErrDenied, err))
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	var s unix.Stat_t
	if err := unix.Fstat(fd, &s); err != nil || s.Mode&unix.S_IFMT != unix.S_IFCHR {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("%s is not a character device, want the guest device of SEV-SNP: %w", path, platform.ErrAbsent)
	}
	return &kernel{fd: fd, ioctl: ioctl}, nil
}

func ioctl(fd int, command Command, arg *guestRequest) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(command), uintptr(unsafe.Pointer(arg))); errno != 0 {
		return errno
	}
	return nil
}

// Exchange follows [Transport]. The kernel reads and writes through the pointers in
// arg, which Go does not know of during the call: all are pinned.
func (k *kernel) Exchange(m *Message) (uint64, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	arg := &guestRequest{version: messageVersion, response: pinned(&pin, m.Response)}
	pin.Pin(arg)
	if m.Command != GetExtendedReport {
		arg.request = pinned(&pin, m.Request)
		err := k.ioctl(k.fd, m.Command, arg)
		return arg.exitInfo, err
	}
	x := &extendedRequest{report: [reportRequestSize]byte(m.Request), table: pinned(&pin, m.Table), length: uint32(len(m.Table))}
	pin.Pin(x)
	arg.request = unsafe.Pointer(x)
	err := k.ioctl(k.fd, m.Command, arg)
	m.TableSize = x.length
	return arg.exitInfo, err
}

func pinned(p *runtime.Pinner, b []byte) unsafe.Pointer {
	if len(b) == 0 {
		return nil
	}
	p.Pin(&b[0])
	return unsafe.Pointer(&b[0])
}

func (k *kernel) Close() error { return unix.Close(k.fd) }

// Message is one exchange with the processor, in the layout of Linux.
type Message struct {
	Command  Command
	Request  []byte // 96 bytes for a report, 32 for a key
	Response []byte // filled with the answer: 4000 bytes, or 64

	// Table is filled with the host's certificate table, extended report only; its
	// length is a multiple of 4096. If it is too small, TableSize says what the
	// host wants.
	Table     []byte
	TableSize uint32

	// What follows is for transports that can do more than the device of Linux. TableError says
	// why there is no table although the report is good. Service asks an SVSM for the report of
	// one of its services, and Manifest is that service's. A transport may replace Table.
	TableError error
	Service    *Service
	Manifest   []byte
}

// A Service is a service of an SVSM (Secure VM Service Module for SEV-SNP Guests, publication
// 58019, "Attestation protocol").
type Service struct {
	GUID    string
	Version uint32 // of the manifest that is wanted
}

// PutReport writes MSG_REPORT_RSP with a report into a response.
func PutReport(response, report []byte) {
	clear(response)
	binary.LittleEndian.PutUint32(response[4:], uint32(len(report)))
	copy(response[answerHeader:], report)
}

// A Transport carries messages: the kernel's device, or a software platform that
// behaves like it.
type Transport interface {
	// Exchange sends a message and waits for its answer, forever if the host
	// gives none. ExitInfo is the kernel's exitinfo2: firmware status in the
	// lower 32 bits, hypervisor's in the upper. Err is a [syscall.Errno].
	Exchange(m *Message) (exitInfo uint64, err error)
	Close() error
}
