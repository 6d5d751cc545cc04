// SPDX-License-Identifier: Apache-2.0

package snp

// Message is one exchange with the processor, in the layout of Linux.
type Message struct {
	Command  Command
	Request  []byte // 96 bytes for a report, 32 for a key
	Response []byte // filled with the answer: 4000 bytes, or 64

	// Table is filled with the host's certificate table, extended report only; its
	// length is a multiple of 4096. If it is too small, TableSize says what the
	// host wants.
	Table     []byte
	TableSize uint32
}

// A Transport carries messages: the kernel's device, or a software platform that
// behaves like it.
type Transport interface {
	// Exchange sends a message and waits for its answer, forever if the host
	// gives none. ExitInfo is the kernel's exitinfo2: firmware status in the
	// lower 32 bits, hypervisor's in the upper. Err is a [syscall.Errno].
	Exchange(m *Message) (exitInfo uint64, err error)
	Close() error
}
