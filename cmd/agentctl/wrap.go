// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// Widths of lines, in columns.
const (
	usualWidth = 80 // of what goes to a file or a pipe
	leastWidth = 20 // of a terminal that says it is narrower
)

// width returns how wide a line may be.
func (t *terminal) width() int {
	if t.columns == 0 {
		return usualWidth
	}
	return max(t.columns, leastWidth)
}

// room returns how wide a line of an answer may be: as wide as a terminal. Elsewhere lines stay
// whole, for programs that look for words in them.
func (t *terminal) room() int {
	if !t.screen && t.columns == 0 {
		return math.MaxInt32
	}
	return t.width()
}

// tell prints lead and text, which may be of strangers, on a terminal in lines that fit. The lines
// after the first are indented by hang columns.
func (t *terminal) tell(lead, text string, hang int) {
	for _, line := range fold(lead, cleanLine(text), strings.Repeat(" ", hang), t.room()) {
		fmt.Fprintln(t.out, line)
	}
}

// say prints lead and text in lines that fit, also in a file. The lines after the first are indented by hang
// columns, so that text of strangers never begins a line.
func (t *terminal) say(lead mark, text string, hang int) {
	for i, line := range fold(lead.text, cleanLine(text), strings.Repeat(" ", hang), t.width()) {
		if i == 0 && t.colour() && lead.colour != "" {
			line = strings.Replace(line, lead.word, lead.colour+lead.word+"\x1b[0m", 1)
		}
		fmt.Fprintln(t.out, line)
	}
}

// fold returns lead and text as lines of at most width columns, with indent before each line
// but the first. It breaks at spaces. A word that is wider than a line is cut, unless it is a
// number that a reader may copy.
func fold(lead, text, indent string, width int) []string {
	hang := min(utf8.RuneCountInString(indent), width/3)
	indent = string([]rune(indent)[:hang])
	var lines []string
	line, used := lead, columns(lead)
	joint := "" // before the next word of this line
	for _, word := range strings.Split(text, " ") {
		for _, piece := range pieces(word, width-hang) {
			if used+len(joint)+columns(piece) > width && strings.TrimSpace(line) != "" {
				lines = append(lines, strings.TrimRight(line, " "))
				line, used, joint = indent, hang, ""
			}
			line += joint + piece
			used += len(joint) + columns(piece)
			joint = ""
		}
		joint = " "
	}
	if line = strings.TrimRight(line, " "); line == "" && len(lines) > 0 {
		return lines // the text ends with spaces
	}
	return append(lines, line)
}

// pieces cuts a word into pieces of at most width columns.
func pieces(word string, width int) []string {
	if columns(word) <= width || isNumber(word) {
		return []string{word}
	}
	var out []string
	start, used := 0, 0
	for at, r := range word {
		n := columns(string(r))
		if used+n > width {
			out = append(out, word[start:at])
			start, used = at, 0
		}
		used += n
	}
	return append(out, word[start:])
}

// isNumber reports whether a word consists of hexadecimal digits, and of what may be around
// them. A terminal that wraps such a word shows nothing that looks like a verdict.
func isNumber(word string) bool {
	return !strings.ContainsFunc(word, func(r rune) bool { return !strings.ContainsRune(`0123456789abcdef",.;:()`, r) })
}

// columns returns how many columns a text takes at most. Characters from U+1100 on may take
// two, except those that trees are drawn with.
func columns(s string) int {
	n := utf8.RuneCountInString(s)
	for _, r := range s {
		if r >= 0x1100 && (r < 0x2500 || r > 0x257f) {
			n++
		}
	}
	return n
}
