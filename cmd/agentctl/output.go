// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
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
	copied   bool // the text is a command to copy, which stays one line
	children []*node
}

// add adds a line below n and returns it.
func (n *node) add(format string, args ...any) *node {
	c := &node{text: cleanLine(fmt.Sprintf(format, args...))}
	n.children = append(n.children, c)
	return c
}

// addCommand adds a command line to copy.
func (n *node) addCommand(line string) { n.add("%s", line).copied = true }

// draw writes the tree with its branches, on a terminal in lines that fit.
func (n *node) draw(t *terminal) {
	t.tell("", n.text, 2)
	n.drawBelow(t, "", t.room())
}

// drawBelow draws what is below n in lines of at most width columns.
func (n *node) drawBelow(t *terminal, indent string, width int) {
	for i, c := range n.children {
		branch, below := "├─ ", "│  "
		if i == len(n.children)-1 {
			branch, below = "└─ ", "   "
		}
		lines := []string{indent + branch + c.text}
		if !c.copied {
			lines = fold(indent+branch, c.text, indent+below+"  ", width)
		}
		for _, line := range lines {
			fmt.Fprintln(t.out, line)
		}
		c.drawBelow(t, indent+below, width)
	}
}
