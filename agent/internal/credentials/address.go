// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/unitname"
)

// A Kind is what systemd asks for.
type Kind string

const (
	Credential Kind = "credential" // LoadCredential= of a unit
	Volume     Kind = "volume"     // key file of a line of crypttab(5)
)

// Asked is what the address of a peer asks for. Only the checks of [Server] make it more than a
// claim.
type Asked struct {
	Kind Kind
	Unit string // whose process asks; of a volume that of its systemd-cryptsetup@.service
	Name string // of the credential, or of the volume
	PID  int    // of the process that asks; it is looked at again before the first byte is sent
}

// String names what is asked for in messages.
func (a Asked) String() string {
	if a.Kind == "" {
		return "a connection"
	}
	return fmt.Sprintf("%s %s of unit %s", a.Kind, a.Name, a.Unit)
}

// maxVolume is the longest name of a volume: that of a mapping of the device mapper, DM_NAME_LEN
// less its zero byte.
const maxVolume = 127

// parse reads the address that systemd gives its end of the connection, in the abstract
// namespace:
//
//	NUL random "/unit/" UNIT "/" CREDENTIAL      (systemd.exec(5), LoadCredential=)
//	NUL random "/cryptsetup/" VOLUME             (crypttab(5), AF_UNIX key files)
//
// Random is a number of 64 bits in hexadecimal digits.
func parse(address []byte) (Asked, error) {
	rest, abstract := bytes.CutPrefix(address, []byte{0})
	if !abstract {
		return Asked{}, errors.New("the other end has no abstract address, as systemd gives it for LoadCredential= and for key files of crypttab")
	}
	random, path, _ := strings.Cut(string(rest), "/")
	if random == "" || len(random) > 16 || strings.Trim(random, "0123456789abcdef") != "" {
		return Asked{}, errors.New("the address of the other end does not begin with a number as systemd chooses it")
	}
	if volume, ok := strings.CutPrefix(path, "cryptsetup/"); ok {
		return ofVolume(volume)
	}
	of, ok := strings.CutPrefix(path, "unit/")
	unit, name, two := strings.Cut(of, "/")
	if !ok || !two {
		return Asked{}, errors.New("the address of the other end names neither a unit with a credential nor a volume")
	}
	if _, err := unitname.Running(unit); err != nil {
		return Asked{}, fmt.Errorf("the address of the other end: %w", err)
	}
	if err := unitname.CheckCredential(name); err != nil {
		return Asked{}, fmt.Errorf("the credential of unit %s: %w", unit, err)
	}
	return Asked{Kind: Credential, Unit: unit, Name: name}, nil
}

func ofVolume(volume string) (Asked, error) {
	if len(volume) == 0 || len(volume) > maxVolume || strings.Contains(volume, "/") || !text.Shown(volume) {
		return Asked{}, fmt.Errorf("the address of the other end names a volume of %d bytes, want 1 to %d that print, and no slash", len(volume), maxVolume)
	}
	unit := "systemd-cryptsetup@" + unitname.Escape(volume) + ".service"
	if _, err := unitname.Running(unit); err != nil {
		return Asked{}, fmt.Errorf("the volume of the other end: %w", err)
	}
	return Asked{Kind: Volume, Unit: unit, Name: volume}, nil
}

// addressOf returns the address of the other end as the kernel has it. The standard library cuts
// it at a zero byte, and shows an abstract address like the name of a file.
func addressOf(c *net.UnixConn) (address []byte, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var errno unix.Errno
	err = raw.Control(func(fd uintptr) {
		var sa unix.RawSockaddrUnix
		size := uint32(unsafe.Sizeof(sa))
		if _, _, errno = unix.RawSyscall(unix.SYS_GETPEERNAME, fd, uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size))); errno != 0 {
			return
		}
		for _, b := range sa.Path[:max(0, min(int(size)-2, len(sa.Path)))] { // the family comes first
			address = append(address, byte(b))
		}
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return address, err
}
