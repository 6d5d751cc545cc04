// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// writeOutput writes a whole file, or standard output for "-" and "". A file appears
// complete or not at all. A device or a pipe is written to and stays what it is. A link that
// another user made is refused.
func (t *terminal) writeOutput(name string, b []byte) error {
	if name == "" || name == "-" {
		return t.writeStandardOutput(b)
	}
	err := durable.Deliver(name, b, 0o666) // less the user's umask
	if errors.Is(err, syscall.EISDIR) {
		return misuse(fmt.Errorf("write %s: it is a directory", name))
	}
	return misuseIf(err)
}

// writeSecretOutput writes b as it is to standard output, or to a file that only its
// owner may read, which appears complete or not at all. It refuses links, devices and
// pipes: an attacker may have put them there.
func (t *terminal) writeSecretOutput(name string, b []byte) error {
	if name == "" || name == "-" {
		return t.writeStandardOutput(b)
	}
	if at, err := os.Lstat(name); err == nil && !at.Mode().IsRegular() {
		return misuse(fmt.Errorf("write %s: it is not a regular file", name)).withHint("use another name, or --out - for standard output")
	}
	return misuseIf(durable.WriteFile(name, b, 0o600))
}

// writeStandardOutput writes bytes as they are. It refuses binary data on a terminal.
func (t *terminal) writeStandardOutput(b []byte) error {
	if t.screen && !printable(b) {
		return misuse(errBinary)
	}
	_, err := t.out.Write(b)
	return err
}

// writeJSON prints v, an object, indented, for programs and people. Byte strings in it are
// hexadecimal, as in text: people compare them. It escapes all that does not print.
func (t *terminal) writeJSON(v any) error {
	b, err := strictjson.EncodeHex(v)
	if err != nil {
		return misuse(err)
	}
	if b, err = strictjson.Indent(b); err != nil {
		return misuse(err)
	}
	_, err = t.out.Write(append(onlyPrintable(b), '\n'))
	return err
}

// present prints an answer of the agent: as JSON, or as text for people.
func present[T any](t *terminal, answer T, err error, text func()) error {
	switch {
	case err != nil:
		return failed(err)
	case t.json:
		return t.writeJSON(answer)
	}
	text()
	return nil
}

// node is a line of a drawn tree and the lines below it.
type node struct {
	text     string
	children []*node
}

// add adds a line below n and returns it.
func (n *node) add(format string, args ...any) *node {
	c := &node{text: cleanLine(fmt.Sprintf(format, args...))}
	n.children = append(n.children, c)
	return c
}

// draw writes the tree with its branches.
func (n *node) draw(w io.Writer) {
	fmt.Fprintln(w, n.text)
	n.drawChildren(w, "")
}

func (n *node) drawChildren(w io.Writer, indent string) {
	for i, c := range n.children {
		branch, below := n.branch(i)
		fmt.Fprintln(w, indent+branch+c.text)
		c.drawChildren(w, indent+below)
	}
}

// branch returns what leads to child i, and what is in front of all below it.
func (n *node) branch(i int) (branch, below string) {
	if i == len(n.children)-1 {
		return "└─ ", "   "
	}
	return "├─ ", "│  "
}

// drawFolded is draw in lines that fit.
func (n *node) drawFolded(t *terminal, indent string) {
	for i, c := range n.children {
		branch, below := n.branch(i)
		for _, line := range fold(indent+branch, c.text, indent+below+"  ", t.width()) {
			fmt.Fprintln(t.out, line)
		}
		c.drawFolded(t, indent+below)
	}
}
