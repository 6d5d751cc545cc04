// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/cvm-agentd/agentd/internal/text"
)

// terminal is what a command reads from and writes to, and how.
type terminal struct {
	in   io.Reader
	out  io.Writer
	err  io.Writer
	json bool // --json: machine-readable output

	screen   bool // out is a terminal
	columns  int  // of that terminal; 0 if it does not say
	follows  bool // err is a terminal, so a person may read what goes on
	consumed bool // standard input was read

	lasts *atomic.Int64 // nanoseconds that the command may take to end when it is interrupted; 0: farewell
}

// attend guards both outputs: a failure to write standard output is remembered, and text
// on standard error cannot control the terminal.
func (t *terminal) attend() *written {
	if f, ok := t.out.(*os.File); ok {
		if t.screen = isTerminal(f); t.screen {
			t.columns, _, _ = term.GetSize(int(f.Fd()))
		}
	}
	if f, ok := t.err.(*os.File); ok {
		t.follows = isTerminal(f)
	}
	w := &written{to: t.out}
	t.out, t.err = w, harmless{t.err}
	return w
}

// written passes on what is written, until a write fails.
type written struct {
	to  io.Writer
	err error
}

func (w *written) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	n, err := w.to.Write(b)
	w.err = err
	return n, err
}

// harmless passes on text without what clean removes.
type harmless struct{ to io.Writer }

func (h harmless) Write(b []byte) (int, error) {
	if _, err := io.WriteString(h.to, clean(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}

// colour reports whether output goes to a terminal, unless its user turned colour off.
func (t *terminal) colour() bool {
	return t.screen && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// clean replaces what could steer a terminal or turn text around: evidence comes
// from strangers, and its text must not be able to print a verdict.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || text.MayShow(r) {
			return r
		}
		return '�'
	}, s)
}

// cleanLine is clean for text that must stay on its line.
func cleanLine(s string) string {
	return text.Line(s)
}

// errBinary is returned instead of bytes that could control the terminal.
var errBinary = errors.New("refusing to write binary data to a terminal: use --out FILE or a pipe")

// printable reports whether clean leaves b as it is.
func printable(b []byte) bool { return utf8.Valid(b) && clean(string(b)) == string(b) }

// onlyPrintable escapes in b, which is JSON, all that does not print. Such runes are only
// in strings, and the escape there means the same.
func onlyPrintable(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for _, r := range string(b) {
		switch {
		case r == '\n' || r == '\t' || text.MayShow(r):
			out = utf8.AppendRune(out, r)
		case r > 0xffff:
			r -= 0x10000
			out = fmt.Appendf(out, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }
