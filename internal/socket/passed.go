// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"
)

// firstPassed is the number of the first descriptor that systemd passes (SD_LISTEN_FDS_START).
const firstPassed = 3

// CountPassed refuses a number in LISTEN_FDS (sd_listen_fds(3)) above most, which no unit of ours
// leads to, and descriptors that are not open. The library makes a file for each number, up to 2^31.
func CountPassed(most int) error {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil // they are not for this process
	}
	text := os.Getenv("LISTEN_FDS")
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n > uint64(most) {
		return fmt.Errorf("LISTEN_FDS is %.20q, want a number of at most %d: start this program by its units, without that variable", text, most)
	}
	for fd := firstPassed; fd < firstPassed+int(n); fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return fmt.Errorf("LISTEN_FDS is %d, and descriptor %d is not open: %w", n, fd, err)
		}
	}
	return nil
}

// Passed returns the listening sockets that systemd opened for this process, at most so many. There
// are none if systemd passed none. Each must be a stream socket that listens, of TCP or a unix
// socket: any other is an error, since nothing would serve it.
func Passed(most int) (all []net.Listener, err error) {
	if err := CountPassed(most); err != nil {
		return nil, err
	}
	for _, f := range activation.Files(true) {
		l, bad := listener(f)
		err = errors.Join(err, bad, f.Close()) // l has a descriptor of its own
		if bad == nil {
			all = append(all, l)
		}
	}
	if err != nil {
		for _, l := range all {
			l.Close()
		}
		return nil, err
	}
	return all, nil
}

// listener returns the listener of a descriptor.
func listener(f *os.File) (net.Listener, error) {
	for _, x := range []struct {
		option int
		what   string
		want   []int
	}{
		{unix.SO_TYPE, "a stream socket", []int{unix.SOCK_STREAM}},
		{unix.SO_DOMAIN, "a socket of TCP or a unix socket", []int{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX}},
		{unix.SO_ACCEPTCONN, "a socket that listens (Accept=no)", []int{1}},
	} {
		got, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, x.option)
		if err != nil {
			return nil, fmt.Errorf("systemd passed descriptor %d, want sockets: %w", f.Fd(), err)
		}
		found := false
		for _, w := range x.want {
			found = found || got == w
		}
		if !found {
			return nil, fmt.Errorf("systemd passed descriptor %d, which is not %s", f.Fd(), x.what)
		}
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take descriptor %d from systemd: %w", f.Fd(), err)
	}
	return l, nil
}
