// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
)

// sockets returns both ends of a connection through the kernel.
func sockets(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: t.TempDir() + "/s"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// message is a command or a response of n bytes.
func message(n int) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTNoSessions))
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, bytes.Repeat([]byte{byte(n)}, n-len(b))...)
}

// TestInterrupted: a context that ends, or a time that passes, while a command is under way ends
// the waiting, wherever the response is cut. The response is complete nevertheless, and the next
// command is not disturbed.
func TestInterrupted(t *testing.T) {
	for _, cut := range []int{0, 1, headerSize, headerSize + 1, 99, 100} {
		for _, timeout := range []bool{false, true} {
			ours, theirs := sockets(t)
			l := &link{conn: ours}
			ctx, cancel := context.WithCancel(t.Context())
			most := time.Minute
			if timeout {
				most = time.Millisecond
			}
			command, answer := message(50), message(100)
			begun := make(chan struct{}) // the answer, up to the cut
			go func() {
				defer close(begun)
				_, _ = io.ReadFull(theirs, make([]byte, len(command)))
				_, _ = theirs.Write(answer[:cut])
				if !timeout {
					cancel()
				}
			}()
			out := l.startWithin(most, command, t.Context(), ctx)
			cancel()
			if cut < len(answer) {
				select {
				case r := <-out:
					t.Errorf("cut at %d, timeout %t: answered before all was there: %x, %v", cut, timeout, r.bytes, r.err)
					continue
				default:
				}
				if r := <-l.startWithin(most, command); r.err == nil {
					t.Errorf("cut at %d, timeout %t: a command is sent while another is running", cut, timeout)
				}
			}
			<-begun
			if _, err := theirs.Write(answer[cut:]); err != nil {
				t.Fatal(err)
			}
			if r := <-out; r.err != nil || !bytes.Equal(r.bytes, answer) {
				t.Errorf("cut at %d, timeout %t: %x, %v", cut, timeout, r.bytes, r.err)
			}
			for n := range 3 { // of one that waits itself, and of one that does not
				answer := message(60 + n)
				go func() {
					_, _ = io.ReadFull(theirs, make([]byte, len(command)))
					_, _ = theirs.Write(answer)
				}()
				r := <-l.startWithin(time.Duration(n%2)*time.Minute, command, t.Context())
				if r.err != nil || !bytes.Equal(r.bytes, answer) {
					t.Errorf("cut at %d, timeout %t: next command %d: %x, %v", cut, timeout, n, r.bytes, r.err)
				}
			}
		}
	}
}
