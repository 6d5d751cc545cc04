// SPDX-License-Identifier: Apache-2.0

// Package pages reads sessions, files and outputs out of the documents, for the tests that do
// what a reader does.
//
// A document of this project has three kinds of commands: a block between fences, which is a
// session in one shell; indented lines that begin with the name of a program; and code in the
// text that begins with one and goes on.
package pages

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Page is one document.
type Page struct {
	Name   string
	Blocks []Block
	spans  []Block // code in the text
}

// Block is text that a document prints as code.
type Block struct {
	Heading string // the last one before it, of level 2 or 3
	Line    int    // its first line, from 1
	Lang    string // of a fence; empty for indented lines
	Text    string // without fences and indentation
}

// Read reads a document.
func Read(name string) (*Page, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	p := &Page{Name: name}
	return p, p.read(strings.Split(string(b), "\n"))
}

// read splits the lines of p into blocks and text.
func (p *Page) read(lines []string) error {
	heading := ""
	var text []string // of the paragraph
	begins := 0
	flush := func() {
		p.span(heading, begins, strings.Join(text, " "))
		text = nil
	}
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		switch {
		case strings.HasPrefix(line, "```"):
			flush()
			end := slices.Index(lines[i+1:], "```")
			if end < 0 {
				return fmt.Errorf("%s:%d: a block does not end", p.Name, i+1)
			}
			body := strings.Join(lines[i+1:i+1+end], "\n") + "\n"
			p.Blocks = append(p.Blocks, Block{heading, i + 2, strings.TrimPrefix(line, "```"), body})
			i += end + 1
		case len(text) == 0 && strings.HasPrefix(line, "    "):
			n := indented(lines[i:])
			p.Blocks = append(p.Blocks, Block{Heading: heading, Line: i + 1, Text: outdent(lines[i : i+n])})
			i += n - 1
		case strings.HasPrefix(line, "## "), strings.HasPrefix(line, "### "):
			flush()
			heading = strings.TrimLeft(line, "# ")
		case line == "" || strings.HasPrefix(line, "| "): // a row of a table is a paragraph of its own
			flush()
			p.span(heading, i+1, line)
		default:
			if text == nil {
				begins = i + 1
			}
			text = append(text, strings.TrimSpace(line))
		}
	}
	flush()
	return nil
}

// indented returns of how many lines the indented block is that lines begins with.
func indented(lines []string) int {
	n := 0
	for i, line := range lines {
		if strings.HasPrefix(line, "    ") {
			n = i + 1
		} else if line != "" {
			break
		}
	}
	return n
}

// outdent removes the indentation that all lines have.
func outdent(lines []string) string {
	depth := len(lines[0]) - len(strings.TrimLeft(lines[0], " "))
	var out strings.Builder
	for _, line := range lines {
		out.WriteString(line[min(depth, len(line)):] + "\n")
	}
	return out.String()
}

var codeSpan = regexp.MustCompile("`([^`]+)`")

// span adds the code in a paragraph.
func (p *Page) span(heading string, line int, text string) {
	for _, m := range codeSpan.FindAllStringSubmatch(text, -1) {
		p.spans = append(p.spans, Block{Heading: heading, Line: line, Text: m[1]})
	}
}

// programs are the first words of lines and code that are commands.
var programs = regexp.MustCompile(`^(make|apt|dnf|rpm|systemctl|journalctl|agentctl|agentd|agentd-sim|age-keygen|modprobe|tpm2_[a-z]+|ldd)( |$)`)

// IsCommand reports whether a line begins with the name of a program that a reader runs.
func IsCommand(line string) bool { return programs.MatchString(line) }

// Commands returns what a reader of p can type, in its order: each session in full, and each
// other command by its line, without the comment at its end.
func (p *Page) Commands() []Block {
	var out []Block
	for _, b := range p.Blocks {
		switch b.Lang {
		case "sh":
			out = append(out, b)
		case "":
			if strings.HasPrefix(b.Text, "# /") { // it shows files
				continue
			}
			for i, line := range strings.Split(b.Text, "\n") {
				if IsCommand(line) {
					out = append(out, Block{Heading: b.Heading, Line: b.Line + i, Text: withoutComment(line)})
				}
			}
		}
	}
	for _, s := range p.spans {
		if IsCommand(s.Text) && strings.Contains(s.Text, " ") {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Block) int { return a.Line - b.Line })
	return out
}

func withoutComment(line string) string {
	line, _, _ = strings.Cut(line, " #")
	return strings.TrimRight(line, " ")
}

// Under returns the blocks of a language below a heading, which must have some.
func (p *Page) Under(heading, lang string) ([]Block, error) {
	var out []Block
	for _, b := range p.Blocks {
		if b.Heading == heading && b.Lang == lang {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no block of %q below %q", p.Name, lang, heading)
	}
	return out, nil
}

// File returns the contents that p shows of a file: the lines after its name, to the next name
// or the end of the block.
func (p *Page) File(path string) (string, error) {
	for _, b := range p.Blocks {
		_, rest, found := strings.Cut("\n"+b.Text, "\n# "+path+"\n")
		if !found {
			continue
		}
		content, _, _ := strings.Cut(rest, "\n# /")
		return strings.TrimRight(content, "\n") + "\n", nil
	}
	return "", fmt.Errorf("%s does not show %s", p.Name, path)
}

var differs = regexp.MustCompile(`\b(age1[0-9a-z]{58}|[0-9a-f]{64,})\b|\b[0-9]+ files?\b|\b[0-9]+ bytes\b|user "[^"]*"|Pid: [0-9]+`)

// SameEverywhere returns what a command printed without what differs between machines: digests,
// keys, sizes, the user, and the places in which lines are wrapped.
func SameEverywhere(output string) string {
	return strings.Join(strings.Fields(differs.ReplaceAllString(output, "-")), " ")
}

// Session returns all sessions of a document, which are one for its reader.
func Session(name string) (string, error) {
	p, err := Read(name)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, b := range p.Blocks {
		if b.Lang == "sh" {
			out.WriteString(b.Text)
		}
	}
	return out.String(), nil
}

// promised is what a session says of a command that is refused: "# 5: policy.chip".
var promised = regexp.MustCompile(`(?m)# ([0-9]): ([a-z.-]+)$`)

// Promised returns nil if each command of a session that says with which exit code and by which
// check it is refused was refused so. There must be three of them.
func Promised(session, out string) error {
	all := promised.FindAllStringSubmatch(session, -1)
	for _, m := range all {
		before, after, ok := strings.Cut(out, "exit code "+m[1]+"\n")
		if !ok || !strings.Contains(before, "FAIL  "+m[2]) {
			return fmt.Errorf("a command is not refused with code %s by %s", m[1], m[2])
		}
		out = after
	}
	if len(all) < 3 {
		return fmt.Errorf("%d commands are refused", len(all))
	}
	return nil
}
