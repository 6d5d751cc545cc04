// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// MaxKept limits a document in the store, in bytes.
const MaxKept = 16 << 20

// slots are the names of a document in the store. A new one goes under the name that the last
// one does not have, which is removed afterwards: a process that is killed in between leaves one
// of them, or both.
var slots = [2]string{"coverage-0", "coverage-1"}

// sealed is what nothing can be done to a descriptor of the store any more (fcntl(2)).
const sealed = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// sendPatience is how long a message waits for room at the service manager.
const sendPatience = 5 * time.Second

// ErrNoStore is returned if no service manager keeps descriptors for this process.
var ErrNoStore = errors.New("no service manager keeps descriptors for this process")

// A Store keeps one document for the next process of this service, in memory, in systemd's
// descriptor store (sd_pid_notify_with_fds(3), FileDescriptorStoreMax= in systemd.service(5)). It
// outlives a restart of the service and a crash, and neither a stop nor a boot. Only systemd
// and root can put anything there. It is read with care nevertheless.
//
// A Store is not for several goroutines at once.
type Store struct{ next int } // index of the slot of the next document

// Kept reads what systemd kept for this process, and closes the files. It returns the documents
// that can be read, and why the others cannot. A sender of descriptors may have been killed in
// the middle: all documents may be old, and several may be there.
func (p Passed) Kept() (s *Store, documents [][]byte, errs error) {
	s = &Store{}
	for _, f := range p.kept {
		b, err := readKept(f)
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("read %s from systemd's descriptor store: %w", f.Name(), err))
		} else {
			documents = append(documents, b)
		}
		if f.Name() == slots[0] {
			s.next = 1
		}
		f.Close() // the store has a descriptor of its own
	}
	return s, documents, errs
}

// Exists reports whether there is a service manager, which may keep documents.
func (s *Store) Exists() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// isKept reports whether a descriptor of that name comes from the store.
func isKept(name string) bool { return slices.Contains(slots[:], name) }

// readKept returns the content of a descriptor of the store. What could still be changed, and
// what is not memory, is refused.
func readKept(f *os.File) ([]byte, error) {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil {
		return nil, fmt.Errorf("it is not a sealed memory file: %w", err)
	}
	if seals&sealed != sealed {
		return nil, fmt.Errorf("its seals are %#x, want %#x", seals, sealed)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() > MaxKept {
		return nil, fmt.Errorf("it has %d bytes, want at most %d", st.Size(), MaxKept)
	}
	b := make([]byte, st.Size())
	if _, err := f.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// Keep replaces the document in the store. The error is [ErrNoStore] without a service manager.
// Systemd does not answer: it ignores a service that has no store.
func (s *Store) Keep(document []byte) error {
	if !s.Exists() {
		return ErrNoStore
	}
	if len(document) > MaxKept {
		return fmt.Errorf("keep %d bytes in systemd's descriptor store: at most %d fit", len(document), MaxKept)
	}
	f, err := memory(document)
	if err != nil {
		return fmt.Errorf("make a memory file for systemd's descriptor store: %w", err)
	}
	defer f.Close()
	name, other := slots[s.next], slots[1-s.next]
	for _, m := range []struct {
		state  string
		rights []byte
	}{
		{"FDSTOREREMOVE=1\nFDNAME=" + name, nil},
		{"FDSTORE=1\nFDNAME=" + name, unix.UnixRights(int(f.Fd()))},
		{"FDSTOREREMOVE=1\nFDNAME=" + other, nil},
	} {
		if err := send(m.state, m.rights); err != nil {
			return fmt.Errorf("tell systemd %q: %w", strings.ReplaceAll(m.state, "\n", " "), err)
		}
	}
	s.next = 1 - s.next
	return nil
}

// memory returns a sealed memory file with that content.
func memory(content []byte) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("agentd", flags|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("agentd", flags)
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "agentd")
	if _, err = f.Write(content); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, sealed)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// send sends one message to the service manager, with descriptors, as sd_notify(3) does.
func send(state string, rights []byte) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	patience := unix.NsecToTimeval(sendPatience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
		return err
	}
	for {
		err := unix.Sendmsg(fd, []byte(state), rights, &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}, 0)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
