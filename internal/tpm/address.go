// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// source opens connections to the TPM.
type source struct {
	address   string
	open      func(context.Context) (io.ReadWriteCloser, error) // opens a connection; nil for New
	once      bool                                              // whether it cannot be opened a second time
	managed   bool                                              // whether it is a device of the kernel, which frees what a descriptor used when it is closed
	warnings  []string
	exclusive bool // whether this program is the only client, without a resource manager in between
}

// maxSocketPath is the room in struct sockaddr_un, less the zero byte at its end: unix(7).
const maxSocketPath = 107

// CheckAddress refuses what [Open] cannot read as an address, without opening anything.
func CheckAddress(address string) error {
	_, err := parseAddress(address)
	return err
}

// parseAddress reads an address of [Open].
func parseAddress(address string) (source, error) {
	s := source{address: address}
	switch {
	case strings.HasPrefix(address, "unix:"):
		p := strings.TrimPrefix(address, "unix:")
		if !path.IsAbs(p) {
			return s, fmt.Errorf("TPM address %q: the path of a socket must be absolute", address)
		}
		if len(p) > maxSocketPath {
			return s, fmt.Errorf("TPM address %q: the path has %d bytes, and that of a socket at most %d", address, len(p), maxSocketPath)
		}
		s.exclusive = true
		s.open = func(ctx context.Context) (io.ReadWriteCloser, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", p)
		}
	case strings.HasPrefix(address, "fd:"):
		n, err := strconv.ParseUint(strings.TrimPrefix(address, "fd:"), 10, 31)
		if err != nil || n < 3 {
			return s, fmt.Errorf("TPM address %q: want fd:N with N at least 3", address)
		}
		s.exclusive, s.once = true, true
		s.open = func(context.Context) (io.ReadWriteCloser, error) { return inherited(int(n)) }
	case path.IsAbs(address):
		s.managed = true
		s.open = func(context.Context) (io.ReadWriteCloser, error) { return openDevice(address) }
		if base := path.Base(address); strings.HasPrefix(base, "tpm") && !strings.HasPrefix(base, "tpmrm") {
			s.exclusive = true // the kernel lets one program open it at a time, and frees nothing when that ends
			s.warnings = append(s.warnings, fmt.Sprintf("%s has no resource manager: it and other programs that use it break each other: use /dev/tpmrm0", address))
		}
	default:
		return s, fmt.Errorf("TPM address %q: want /dev/tpmrm0, unix:/path or fd:N", address)
	}
	return s, nil
}

// openDevice opens a character device in blocking mode. In non-blocking mode the
// driver answers a read that comes early with zero bytes, which reads as end of
// file.
func openDevice(name string) (io.ReadWriteCloser, error) {
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		err = &os.PathError{Op: "open", Path: name, Err: err}
		switch {
		case errors.Is(err, os.ErrPermission):
			return nil, fmt.Errorf("%w: the user must be in the device's group (tss)", err)
		case errors.Is(err, os.ErrNotExist):
			return nil, fmt.Errorf("%w: is there a TPM, and its driver loaded?", err)
		case errors.Is(err, unix.EBUSY):
			return nil, fmt.Errorf("%w: another program has it open", err)
		}
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
		unix.Close(fd)
		return nil, fmt.Errorf("open %s: not a character device", name)
	}
	return os.NewFile(uintptr(fd), name), nil // a blocking descriptor stays out of the poller
}

// inherited takes over descriptor n. A socket becomes a connection that Close ends at
// once even while it is read from.
func inherited(n int) (io.ReadWriteCloser, error) {
	var st unix.Stat_t
	if err := unix.Fstat(n, &st); err != nil {
		return nil, fmt.Errorf("descriptor %d: %w: was it inherited?", n, err)
	}
	unix.CloseOnExec(n)
	f := os.NewFile(uintptr(n), "fd:"+strconv.Itoa(n))
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return f, nil
	}
	defer f.Close() // FileConn works on a duplicate
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d: %w", n, err)
	}
	return conn, nil
}
