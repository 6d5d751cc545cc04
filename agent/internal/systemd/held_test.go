// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/test/simulated"
)

// connected returns the two ends of a connection.
func connected(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	theirs.SetReadDeadline(time.Now().Add(time.Minute))
	if ours, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	return ours, theirs
}

// TestHeld: a connection that is held outlives the process, so that its other end sees no end. The
// next process answers it. One that was released is not there, nor is what is not a connection.
func TestHeld(t *testing.T) {
	m, err := simulated.NewManager(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	t.Setenv("NOTIFY_SOCKET", "")
	one, unit := connected(t)
	if _, err := Hold(one); !errors.Is(err, ErrNoStore) {
		t.Errorf("without a manager: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", m.Address)
	two, _ := connected(t)
	receive := func(want string) {
		t.Helper()
		if state, err := m.Receive(); err != nil || !strings.HasPrefix(state, want) {
			t.Fatalf("%q, %v; want %s", state, err, want)
		}
	}
	for _, c := range []*net.UnixConn{one, two} {
		release, err := Hold(c)
		if err != nil {
			t.Fatal(err)
		}
		receive("FDSTORE=1\nFDNAME=connection-")
		if c == two {
			release()
			receive("FDSTOREREMOVE=1\nFDNAME=connection-")
		}
	}
	one.Close() // the process is killed

	next := start(t, m).kept
	if len(next) != 1 || !isHeld(next[0].Name()) || isKept(next[0].Name()) {
		t.Fatalf("kept: %v", next)
	}
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	datagrams, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	strange := []*os.File{os.NewFile(uintptr(fd), heldName+"memory"), os.NewFile(uintptr(datagrams), heldName+"other")}
	open, release, err := Passed{held: append(strange, next...)}.Interrupted()
	if len(open) != 1 || err == nil || !strings.Contains(err.Error(), heldName+"memory") || !strings.Contains(err.Error(), heldName+"other: it is not a unix socket") {
		t.Fatalf("%d connections, %v", len(open), err)
	}
	if _, err := open[0].Write([]byte("refused")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(open[0].CloseWrite(), open[0].Close()); err != nil {
		t.Error(err)
	}
	release()
	for range 3 {
		receive("FDSTOREREMOVE=1\nFDNAME=connection-")
	}
	if left := start(t, m).kept; len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if got, err := io.ReadAll(unit); err != nil || string(got) != "refused" {
		t.Errorf("the other end got %q, %v", got, err)
	}
}

// TestStoreHasRoomForAll: systemd drops a descriptor that its store has no room for, and says
// nothing. The unit has room for all connections and for the documents, in each of their two slots
// while one replaces the other.
func TestStoreHasRoomForAll(t *testing.T) {
	unit, err := os.ReadFile("../../../systemd/agentd.service")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("\nFileDescriptorStoreMax=%d\n", MostHeld+2*len(slots)); !strings.Contains(string(unit), want) {
		t.Errorf("agentd.service does not have %q", want)
	}
	if maxPassed < 3+MostHeld+2*len(slots) {
		t.Errorf("at most %d descriptors are taken over", maxPassed)
	}
}
