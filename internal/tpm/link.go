// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"

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

// link is one open connection with at most one command on its way. The exchange runs
// in a goroutine: a read from a TPM device cannot be interrupted, and a caller must not
// wait for ever.
type link struct {
	conn io.ReadWriteCloser
	busy atomic.Bool // whether a command is running
	used bool        // whether a command was sent; written by the holder of the turn
}

// start sends command. The response arrives on the channel, which has room for it, so that
// a caller that leaves blocks no goroutine.
func (l *link) start(command []byte) chan response {
	out := make(chan response, 1)
	if !l.busy.CompareAndSwap(false, true) {
		out <- response{err: fmt.Errorf("%w: an earlier command is still running", ErrDegraded)}
		return out
	}
	l.used = true
	go func() {
		b, err := exchange(l.conn, command)
		l.busy.Store(false)
		out <- response{b, err}
	}()
	return out
}

// close closes the connection, which ends a running exchange on a socket at once and
// on a device when the driver lets go.
func (l *link) close() error { return l.conn.Close() }

// exchange writes one command and reads one response by the length in its header.
// Each read offers the whole buffer: a device hands out a response in one piece and
// older kernels throw away what does not fit.
func exchange(conn io.ReadWriter, command []byte) ([]byte, error) {
	if n, err := conn.Write(command); err != nil {
		return nil, fmt.Errorf("send %d bytes: %w", len(command), err)
	} else if n != len(command) {
		return nil, fmt.Errorf("send %d bytes: %w", len(command), io.ErrShortWrite)
	}
	buf := make([]byte, maxSize)
	got, err := fill(conn, buf, 0, headerSize)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(buf[2:]))
	if size < headerSize || size > maxSize {
		return nil, fmt.Errorf("%w: its header says %d bytes, want %d to %d", ErrFraming, size, headerSize, maxSize)
	}
	if tag := binary.BigEndian.Uint16(buf); tag != uint16(tpm2.TPMSTSessions) && tag != uint16(tpm2.TPMSTNoSessions) {
		return nil, fmt.Errorf("%w: tag 0x%04x", ErrFraming, tag)
	}
	if got, err = fill(conn, buf, got, size); err != nil {
		return nil, err
	}
	if got > size {
		return nil, fmt.Errorf("%w: %d bytes after the %d of its header", ErrFraming, got-size, size)
	}
	return buf[:size:size], nil
}

// fill reads until buf, which has got bytes, has at least want, and returns how many it has.
func fill(conn io.Reader, buf []byte, got, want int) (int, error) {
	for got < want {
		n, err := conn.Read(buf[got:])
		got += n
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil && got < want {
			return got, fmt.Errorf("%w: cut off after %d of %d bytes: %w", ErrFraming, got, want, err)
		}
	}
	return got, nil
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
