// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// IMAListPath is the kernel's list of IMA.
const IMAListPath = "/sys/kernel/security/ima/binary_runtime_measurements"

// Errors about the kernel's list of IMA, besides those of reading it.
var (
	// ErrIMANotQuoted is returned if PCR 10 is not quoted, so that nothing would bind the list.
	ErrIMANotQuoted = errors.New("PCR 10 is not quoted, and only its value binds the list of IMA")
	// ErrIMAUnavailable is returned if the kernel shows no list, or what it shows cannot be read.
	ErrIMAUnavailable = errors.New("the kernel's list of IMA is not available")
	// ErrIMATooLong is returned if more follows the asked index than evidence can contain.
	ErrIMATooLong = errors.New("evidence cannot contain the list of IMA from there on")
	// ErrIMAStart is returned if the list has no such entry yet.
	ErrIMAStart = errors.New("imaStart is after the end of the list of IMA")
)

// imaPatience is how long one request reads the list. The kernel takes the longer for a piece, the
// further back it is, so that the first reading of a very long list may take some requests.
const imaPatience = 20 * time.Second

// IMAList reads the kernel's list of IMA. The list only grows, so each entry is read once, however
// many ask: the file stays open where the last request left it. The end of the list stays in memory,
// as much as evidence can contain, and as much again. A list of any length takes no more memory.
//
// The kernel adds an entry before it extends PCR 10. So what [IMAList.From] returns after a quote
// passes through the quoted value.
type IMAList struct {
	open  func() (io.ReadCloser, error)
	most  int         // bytes of an answer
	turns *turn.Queue // of one reader; the one that has the turn uses what is below

	file  io.ReadCloser // nil before the first request, and after an error
	tail  []byte        // end of the list; entries that do not fit are still before head
	head  int           // where entry first begins in tail
	whole int           // where the last whole entry ends in tail
	first uint64        // number of the first entry that fits
	next  uint64        // number of the entry after the last whole one
}

// NewIMAList returns the list that open opens. Opening and reading happen when a request asks.
func NewIMAList(open func() (io.ReadCloser, error)) *IMAList {
	return &IMAList{open: open, most: evidence.MaxIMA, turns: turn.New(turn.Options{Capacity: 1})}
}

// OpenIMAList opens the list of a file, see [IMAListPath].
func OpenIMAList(path string) (io.ReadCloser, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, durable.Cause(err))
	}
	return f, nil
}

// From returns the list from entry start on, up to its end now. Start may be the number of entries.
// One caller reads at a time, in turn of the parties of ctx; after a deadline the next one goes on.
func (l *IMAList) From(ctx context.Context, start uint64) (*evidence.IMA, error) {
	leave, err := l.turns.Enter(ctx, 1)
	if err != nil {
		return nil, fmt.Errorf("wait for the list of IMA: %w", err)
	}
	defer leave()
	if err := l.read(ctx); err != nil {
		return nil, err
	}
	at, err := l.offset(start)
	if err != nil {
		return nil, err
	}
	return &evidence.IMA{Start: start, Entries: bytes.Clone(l.tail[at:l.whole])}, nil
}

// offset returns where an entry is in tail.
func (l *IMAList) offset(start uint64) (at int, err error) {
	switch {
	case start > l.next:
		return 0, fmt.Errorf("%w: entry %d was asked for, the list has %d", ErrIMAStart, start, l.next)
	case start < l.first:
		return 0, fmt.Errorf("%w: entry %d was asked for, of %d, and the last %d bytes begin with entry %d", ErrIMATooLong, start, l.next, l.most, l.first)
	}
	at = l.head
	for range start - l.first {
		size, err := ima.Size(l.tail[at:l.whole])
		if err != nil || size == 0 { // it was read before
			return 0, fmt.Errorf("%w: %w", ErrIMAUnavailable, errors.Join(err, ima.ErrCut))
		}
		at += size
	}
	return at, nil
}

// read reads on to the end of the list. After an error of the file it begins anew with the next
// request; after a deadline it goes on.
func (l *IMAList) read(ctx context.Context) (err error) {
	if l.file == nil {
		if l.file, err = l.open(); err != nil {
			l.file = nil
			return fmt.Errorf("%w: %w", ErrIMAUnavailable, err)
		}
	}
	buffer := make([]byte, 64<<10)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the list of IMA, at entry %d: %w", l.next, context.Cause(ctx))
		}
		n, err := l.file.Read(buffer)
		l.tail = append(l.tail, buffer[:n]...)
		fault := l.split()
		switch {
		case fault != nil:
			return l.drop(fault)
		case errors.Is(err, io.EOF) && l.whole < len(l.tail):
			return l.drop(ima.ErrCut)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return l.drop(err)
		}
	}
}

// split finds the entries that have become whole, and forgets the oldest that do not fit.
func (l *IMAList) split() error {
	for {
		size, err := ima.Size(l.tail[l.whole:])
		if err != nil || size == 0 {
			l.forget()
			return err
		}
		l.whole += size
		l.next++
	}
}

// forget passes over entries until the rest fits into evidence. It moves the rest only after as
// many bytes, so that the time grows with the bytes of the list.
func (l *IMAList) forget() {
	for l.whole-l.head > l.most {
		size, err := ima.Size(l.tail[l.head:l.whole])
		if err != nil || size == 0 { // it was read before
			return
		}
		l.head += size
		l.first++
	}
	if l.head > l.most {
		l.tail = l.tail[:copy(l.tail, l.tail[l.head:])]
		l.head, l.whole = 0, l.whole-l.head
	}
}

// drop forgets everything, after an error about an entry or of the file.
func (l *IMAList) drop(err error) error {
	err = fmt.Errorf("%w: entry %d: %w", ErrIMAUnavailable, l.next, durable.Cause(err))
	l.file.Close()
	l.file, l.tail, l.head, l.whole, l.first, l.next = nil, nil, 0, 0, 0, 0
	return err
}

// imaList returns the list for evidence. Its deadline is its own: other callers of the batch wait for
// the same reading.
func (a *Attester) imaList(ctx context.Context, start uint64) (*evidence.IMA, error) {
	if a.c.IMA == nil {
		return nil, ErrIMAUnavailable
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), imaPatience)
	defer cancel()
	return a.c.IMA.From(ctx, start)
}
