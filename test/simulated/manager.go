// SPDX-License-Identifier: Apache-2.0

package simulated

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A Manager is the service manager of one service, as far as descriptors go: it keeps those that
// a process sends, and gives them to the next (sd_pid_notify_with_fds(3)).
type Manager struct {
	Address string // of its socket, for NOTIFY_SOCKET

	c     *net.UnixConn
	mu    sync.Mutex // guards store
	store map[string][]*os.File
}

// NewManager returns a manager with a socket in dir.
func NewManager(dir string) (*Manager, error) {
	m := &Manager{Address: filepath.Join(dir, "notify"), store: make(map[string][]*os.File)}
	var err error
	m.c, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.Address, Net: "unixgram"})
	return m, err
}

// Close ends the manager.
func (m *Manager) Close() error {
	m.Empty()
	return m.c.Close()
}

// Run receives messages until the manager is closed.
func (m *Manager) Run() error {
	for {
		if _, err := m.Receive(); errors.Is(err, net.ErrClosed) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Receive waits for one message, does what it says of descriptors, and returns it.
func (m *Manager) Receive() (string, error) {
	b, oob := make([]byte, 4096), make([]byte, 4096)
	size, rights, _, _, err := m.c.ReadMsgUnix(b, oob)
	if err != nil {
		return "", err
	}
	state := string(b[:size])
	_, name, _ := strings.Cut(state, "FDNAME=")
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case strings.HasPrefix(state, "FDSTORE=1\n"):
		fds, err := descriptors(oob[:rights])
		if err != nil {
			return state, fmt.Errorf("message %q: %w", state, err)
		}
		for _, fd := range fds {
			m.store[name] = append(m.store[name], os.NewFile(uintptr(fd), name))
		}
	case strings.HasPrefix(state, "FDSTOREREMOVE=1\n"):
		closeAll(m.store[name])
		delete(m.store, name)
	}
	return state, nil
}

func descriptors(oob []byte) ([]int, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	return unix.ParseUnixRights(&messages[0])
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Empty forgets all descriptors, as systemd does if the service is stopped.
func (m *Manager) Empty() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, files := range m.store {
		closeAll(files)
	}
	clear(m.store)
}

// Kept returns copies of the descriptors that it keeps, ordered by their names. The caller closes
// them.
func (m *Manager) Kept() ([]*os.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*os.File
	for _, name := range slices.Sorted(maps.Keys(m.store)) {
		for _, f := range m.store[name] {
			fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				closeAll(out)
				return nil, err
			}
			out = append(out, os.NewFile(uintptr(fd), name))
		}
	}
	return out, nil
}

// Documents returns the contents of the descriptors that it keeps.
func (m *Manager) Documents() ([][]byte, error) {
	files, err := m.Kept()
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	var out [][]byte
	for _, f := range files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		b := make([]byte, st.Size())
		if _, err := f.ReadAt(b, 0); err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// pass makes cmd a service of the manager, which gets what is kept. The function that it returns
// is to be called once cmd has started.
func (m *Manager) pass(cmd *exec.Cmd) (started func(), err error) {
	files, err := m.Kept()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	cmd.ExtraFiles = files // from number 3 on, as in sd_listen_fds(3)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+m.Address, "LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	// Only the process itself knows its number.
	cmd.Path, err = exec.LookPath("sh")
	cmd.Args = append([]string{"sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh"}, cmd.Args...)
	return func() { closeAll(files) }, err
}
