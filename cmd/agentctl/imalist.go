// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxIMAList is the longest list of IMA that is read, in bytes. It is read in pieces: the limit is
// for files that do not end.
const maxIMAList = 1 << 30

// imaList is a list of IMA in a file, which is read while it is replayed.
type imaList struct {
	name string
	from io.ReadCloser
	err  error // why the file could not be read
}

// openIMAList opens a list; "-" is standard input.
func (t *terminal) openIMAList(name string) (*imaList, error) {
	switch {
	case name == "-" && t.consumed:
		return nil, misuse(errors.New("- is given twice, but standard input can be read only once"))
	case name == "-":
		t.consumed = true
		return &imaList{name: name, from: io.NopCloser(t.in)}, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, misuse(err).withHint("the kernel shows its list to root: copy it as root, after the evidence was made")
	}
	return &imaList{name: name, from: f}, nil
}

// pieces returns the list in pieces.
func (l *imaList) pieces() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		buffer := make([]byte, 256<<10)
		for total := 0; ; {
			n, err := l.from.Read(buffer)
			if total += n; total > maxIMAList {
				err = fmt.Errorf("%w: more than %d bytes", errTooLarge, maxIMAList)
			}
			switch {
			case n > 0 && !yield(buffer[:n], nil):
				return
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				l.err = misuse(fmt.Errorf("read %s: %w", l.name, durable.Cause(err)))
				yield(nil, l.err)
				return
			}
		}
	}
}

// close closes the file. The error says why it could not be read.
func (l *imaList) close() error {
	if l == nil {
		return nil
	}
	l.from.Close()
	return l.err
}

// drawIMA shows the list of IMA in b, and the values that it leads to.
func drawIMA(n *node, b []byte) {
	r := ima.NewReplay(pcr.SHA1, pcr.SHA256)
	drawIMAEntries(n, 0, b, r.Extend)
	p := n.add("PCR 10 after these entries")
	p.add("%x in bank sha1", r.Value(pcr.SHA1, ima.Own))
	p.add("%x in bank sha256", r.Value(pcr.SHA256, ima.Own))
	p.add("%x in bank sha256 of kernels before Linux 5.8", r.Value(pcr.SHA256, ima.Padded))
}

// drawIMAOf shows the list of IMA in evidence.
func drawIMAOf(top *node, list *evidence.IMA) {
	if list == nil {
		return
	}
	n := top.add("list of IMA from entry %d, %d bytes: what the kernel measured; the quoted PCR 10 alone binds it", list.Start, len(list.Entries))
	drawIMAEntries(n, list.Start, list.Entries, func(*ima.Entry) {})
}

// drawIMAEntries shows the entries in b, of which the first has this number.
func drawIMAEntries(n *node, first uint64, b []byte, each func(*ima.Entry)) {
	for e, err := range ima.EntriesFrom(first, ima.Whole(b)) {
		if err != nil {
			n.add("the rest cannot be read: %v", err)
			break
		}
		each(e)
		at := ""
		if e.PCR != ima.PCR {
			at = fmt.Sprintf(" in PCR %d", e.PCR)
		}
		x, err := e.Fields()
		switch {
		case err != nil:
			n.add("%d%s: %s cannot be read: %v", e.Number, at, text.Excerpt(e.Template), err)
		case e.Violation():
			n.add("%d%s: violation: %q was written while it was used; no hash covers the name", e.Number, at, x.Path)
		default:
			with := ""
			if len(x.Signature) > 0 {
				with = fmt.Sprintf(", with a signature of %d bytes", len(x.Signature))
			}
			n.add("%d%s: %q %s%s", e.Number, at, x.Path, x.Digest, with)
		}
	}
}
