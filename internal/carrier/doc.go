// SPDX-License-Identifier: Apache-2.0

// Package carrier carries the messages of a delivery (package delivery) over an attested connection:
// [Server] is the end on the machine, [Client] that of the relying party. docs/delivery.md specifies
// the protocol.
//
// Neither end is trusted with a secret. The server never has one that it can read: it passes tickets,
// encrypted secrets and receipts on, between the connection and the agent. What protects the secret
// is the ticket, which the relying party verifies, and the receipt, as over any other carrier. The
// connection adds that only listed senders can ask, before anything is made for them, and that the
// names of what is delivered are told to an accepted machine alone.
package carrier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cvm-agentd/agentd/internal/message"
)

// lengthSize is the size of the length before each message, in bytes.
const lengthSize = 4

// errLength is returned for a message that is longer than the one that is due may be.
var errLength = errors.New("a message of a length that none has here")

// write sends a message.
func write(w io.Writer, b []byte) error {
	_, err := w.Write(message.Append(nil, b)) // at once, so that it takes few records of TLS
	return err
}

// read reads a message of at most so many bytes. Memory grows as bytes arrive, not as the length says.
func read(r io.Reader, most int) ([]byte, error) {
	var head [lengthSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || uint64(n) > uint64(most) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errLength, n, most)
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}
