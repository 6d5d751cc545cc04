// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	headerSize = 10   // tag 2, size 4, code 4, big-endian: TPM 2.0 Part 1, section 18
	maxSize    = 4096 // bytes of a command or response: TPM_BUFSIZE of the Linux driver
)

// response is the result of one command.
type response struct {
	bytes []byte
	err   error
}

// link is one open connection with at most one command on its way. If the exchange takes long, it
// runs in a goroutine: a read from a TPM device cannot be interrupted, and a caller must not
// wait for ever.
type link struct {
	conn io.ReadWriteCloser
	busy atomic.Bool // whether a command is running
	used bool        // whether a command was sent; written by the holder of the turn
}

// start sends command. The response arrives on the channel, which has room for it, so that
// a caller that leaves blocks no goroutine.
func (l *link) start(command []byte) chan response {
	return l.startWithin(0, command)
}

// startWithin does what start does. On a socket it first waits for the response itself, for as
// long as it is told and until one of the contexts ends: that takes no other goroutine, whose
// waking up takes about as long as a quick command.
func (l *link) startWithin(most time.Duration, command []byte, until ...context.Context) chan response {
	out := make(chan response, 1)
	if !l.busy.CompareAndSwap(false, true) {
		out <- response{err: fmt.Errorf("%w: an earlier command is still running", ErrDegraded)}
		return out
	}
	l.used = true
	x := &exchange{conn: l.conn, command: command}
	finish := func() {
		b, err := x.run()
		l.busy.Store(false)
		out <- response{b, err}
	}
	c, ok := l.conn.(socket)
	if most <= 0 || !ok {
		go finish()
		return out
	}
	b, err := x.runWithin(most, c, until)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		go finish()
		return out
	}
	l.busy.Store(false)
	out <- response{b, err}
	return out
}

// close closes the connection, which ends a running exchange on a socket at once and
// on a device when the driver lets go.
func (l *link) close() error { return l.conn.Close() }

// A socket is a connection through the kernel, whose reads and writes end at a deadline. Those of a
// TPM device do not: they last until the TPM has done its work.
type socket interface {
	net.Conn
	syscall.Conn
}

// An exchange is one command and its response on the way. After [os.ErrDeadlineExceeded] it can
// go on.
type exchange struct {
	conn    io.ReadWriter
	command []byte
	sent    int    // bytes of command
	buf     []byte // of the response, nil before the command was sent
	got     int    // bytes in buf
}

// runWithin does what run does, until most has passed or a context ends.
func (x *exchange) runWithin(most time.Duration, c socket, until []context.Context) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(most)); err != nil {
		return nil, os.ErrDeadlineExceeded // run says what is wrong
	}
	var ended sync.WaitGroup
	var stops []func() bool
	for _, ctx := range until {
		ended.Add(1)
		stops = append(stops, context.AfterFunc(ctx, func() {
			defer ended.Done()
			_ = c.SetDeadline(time.Unix(1, 0))
		}))
	}
	b, err := x.run()
	for _, stop := range stops {
		if stop() {
			ended.Done()
		}
	}
	ended.Wait() // no deadline of this command ends the next
	if reset := c.SetDeadline(time.Time{}); err == nil && reset != nil {
		return nil, reset
	}
	return b, err
}

// run writes the command and reads one response by the length in its header.
// Each read offers the whole buffer: a device hands out a response in one piece and
// older kernels throw away what does not fit.
func (x *exchange) run() ([]byte, error) {
	if x.buf == nil {
		n, err := x.conn.Write(x.command[x.sent:])
		x.sent += n
		if err != nil {
			return nil, fmt.Errorf("send %d bytes: %w", len(x.command), err)
		} else if x.sent != len(x.command) {
			return nil, fmt.Errorf("send %d bytes: %w", len(x.command), io.ErrShortWrite)
		}
		x.buf = make([]byte, maxSize)
	}
	if err := x.fill(headerSize); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(x.buf[2:]))
	if size < headerSize || size > maxSize {
		return nil, fmt.Errorf("%w: its header says %d bytes, want %d to %d", ErrFraming, size, headerSize, maxSize)
	}
	if tag := binary.BigEndian.Uint16(x.buf); tag != uint16(tpm2.TPMSTSessions) && tag != uint16(tpm2.TPMSTNoSessions) {
		return nil, fmt.Errorf("%w: tag 0x%04x", ErrFraming, tag)
	}
	if err := x.fill(size); err != nil {
		return nil, err
	}
	if x.got > size {
		return nil, fmt.Errorf("%w: %d bytes after the %d of its header", ErrFraming, x.got-size, size)
	}
	return x.buf[:size:size], nil
}

// fill reads until there are at least want bytes of the response.
func (x *exchange) fill(want int) error {
	for x.got < want {
		n, err := x.conn.Read(x.buf[x.got:])
		x.got += n
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && x.got < want {
			return fmt.Errorf("%w: cut off after %d of %d bytes: %w", ErrFraming, x.got, want, err)
		}
	}
	return nil
}

// checkCommand refuses what is not one command, and names it for errors.
func checkCommand(command []byte) (string, error) {
	if len(command) < headerSize || len(command) > maxSize {
		return "", fmt.Errorf("TPM command of %d bytes, want %d to %d", len(command), headerSize, maxSize)
	}
	if n := binary.BigEndian.Uint32(command[2:]); int64(n) != int64(len(command)) {
		return "", fmt.Errorf("TPM command of %d bytes whose header says %d", len(command), n)
	}
	return commandName(commandCode(command)), nil
}

func commandCode(command []byte) tpm2.TPMCC {
	return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:]))
}

// responseCode returns the code in the header of a response that exchange has checked.
func responseCode(rsp []byte) tpm2.TPMRC {
	return tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:]))
}

// commandNames are the commands that this program sends, for errors and logs (TPM
// 2.0 Part 2, section 6.5.2).
var commandNames = map[tpm2.TPMCC]string{
	tpm2.TPMCCActivateCredential: "TPM2_ActivateCredential",
	tpm2.TPMCCCreate:             "TPM2_Create",
	tpm2.TPMCCCreatePrimary:      "TPM2_CreatePrimary",
	tpm2.TPMCCEvictControl:       "TPM2_EvictControl",
	tpm2.TPMCCFlushContext:       "TPM2_FlushContext",
	tpm2.TPMCCGetCapability:      "TPM2_GetCapability",
	tpm2.TPMCCLoad:               "TPM2_Load",
	tpm2.TPMCCNVDefineSpace:      "TPM2_NV_DefineSpace",
	tpm2.TPMCCNVIncrement:        "TPM2_NV_Increment",
	tpm2.TPMCCNVRead:             "TPM2_NV_Read",
	tpm2.TPMCCNVReadPublic:       "TPM2_NV_ReadPublic",
	tpm2.TPMCCNVWrite:            "TPM2_NV_Write",
	tpm2.TPMCCPCRExtend:          "TPM2_PCR_Extend",
	tpm2.TPMCCPCRRead:            "TPM2_PCR_Read",
	tpm2.TPMCCPolicySecret:       "TPM2_PolicySecret",
	tpm2.TPMCCQuote:              "TPM2_Quote",
	tpm2.TPMCCReadPublic:         "TPM2_ReadPublic",
	tpm2.TPMCCStartAuthSession:   "TPM2_StartAuthSession",
	tpm2.TPMCCUnseal:             "TPM2_Unseal",
}

func commandName(cc tpm2.TPMCC) string {
	if n, ok := commandNames[cc]; ok {
		return n
	}
	return fmt.Sprintf("TPM command 0x%03x", uint32(cc))
}
