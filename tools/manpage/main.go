// SPDX-License-Identifier: Apache-2.0

// Manpage writes a manual page: of a program from its help texts, or of a file format from
// its description in Markdown.
//
//	manpage -program ./agentctl -commands -name agentctl -section 1 -title "…" -date 2026-01-31
//	manpage -markdown docs/apps.md -name agentd-apps.d -section 5 -title "…" -date 2026-01-31
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

// heading of the page, as go-md2man reads it: name, section, date, source, and manual.
const heading = "%% %s %s %q %q %q\n\n## NAME\n\n%s - %s\n\n"

func main() {
	program := flag.String("program", "", "program whose help becomes the page")
	commands := flag.Bool("commands", false, "the program has commands, and offers them to shells that complete")
	markdown := flag.String("markdown", "", "Markdown file that becomes the page")
	name := flag.String("name", "", "name of the page")
	section := flag.String("section", "", "section of the manual")
	title := flag.String("title", "", "title in one line")
	date := flag.String("date", "", "date of the page")
	version := flag.String("version", "", "version of the program")
	see := flag.String("see", "", "other pages to refer to")
	flag.Parse()
	body, err := text(*program, *commands, *markdown)
	if err != nil {
		fmt.Fprintln(os.Stderr, "manpage:", err)
		os.Exit(1)
	}
	page := fmt.Sprintf(heading, strings.ToUpper(*name), *section, *date, "agentd "+*version, "agentd", *name, *title) + body
	if *see != "" {
		page += "\n## SEE ALSO\n\n**" + strings.Join(strings.Fields(strings.ReplaceAll(*see, "(", "**(")), ", **") + "\n"
	}
	os.Stdout.Write(md2man.Render([]byte(page)))
}

// text returns the page below its name, in Markdown.
func text(program string, commands bool, markdown string) (body string, err error) {
	if program != "" {
		if body, err = fromHelp(program, commands); err != nil {
			return "", err
		}
	}
	if markdown == "" {
		return body, nil
	}
	b, err := os.ReadFile(markdown)
	if body == "" {
		body = "## DESCRIPTION\n\n"
	}
	return body + adapt(string(b)), err
}

// link is a link of Markdown. A manual page keeps its text only: the other end is a file.
var link = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)

// adapt makes a manual page of a document. It leaves out the first heading, since the page has
// its own name, and turns tables into lists.
func adapt(text string) string {
	var b strings.Builder
	var head []string // of the table that the line is in
	for line := range strings.Lines(link.ReplaceAllString(text, "$1")) {
		switch {
		case strings.HasPrefix(line, "# ") && b.Len() == 0:
		case strings.HasPrefix(line, "## ") && !strings.HasPrefix(line, "## `["): // the name of a TOML table stays as it is
			b.WriteString(strings.ToUpper(line))
		case strings.HasPrefix(line, "|---"):
		case strings.HasPrefix(line, "|") && head == nil:
			head = cells(line)
		case strings.HasPrefix(line, "|"):
			b.WriteString(item(head, cells(line)))
		default:
			head = nil
			b.WriteString(line)
		}
	}
	return b.String()
}

func cells(row string) []string {
	parts := strings.Split(strings.Trim(strings.TrimSpace(row), "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// item returns a row of a table as an item of a list. Its term is the first column. The other
// columns follow, with their names except for the last.
func item(head, row []string) string {
	var rest []string
	for i, cell := range row[1:] {
		if cell != "" && i < len(row)-2 {
			cell = head[i+1] + ": " + cell + "."
		}
		rest = append(rest, cell)
	}
	return row[0] + "\n: " + strings.TrimSpace(strings.Join(rest, " ")) + "\n\n"
}

// fromHelp returns the help of a program and of its commands, as the program prints it.
func fromHelp(program string, commands bool) (string, error) {
	main, err := help(program)
	if err != nil {
		return "", err
	}
	usage, rest, _ := strings.Cut(main, "\n\n")
	var b strings.Builder
	fmt.Fprintf(&b, "## SYNOPSIS\n%s## DESCRIPTION\n%s", literal(strings.TrimPrefix(usage, "Usage: ")), literal(rest))
	if !commands {
		return b.String(), nil
	}
	below, err := subcommands(program, nil)
	if err != nil {
		return "", err
	}
	if len(below) == 0 {
		return "", fmt.Errorf("%s offers no command", program)
	}
	b.WriteString("## COMMANDS\n\n")
	for _, c := range below {
		text, err := help(program, c...)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "### %s\n%s", strings.Join(c, " "), literal(text))
	}
	return b.String(), nil
}

// literal returns the text with its lines unchanged.
func literal(text string) string { return "\n```\n" + strings.TrimRight(text, "\n") + "\n```\n\n" }

func help(program string, command ...string) (string, error) {
	out, err := exec.Command(program, append(command, "--help")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s --help: %w: %s", program, strings.Join(command, " "), err, out)
	}
	return string(out), nil
}

// subcommands asks the program for its commands, like a shell that completes. What it
// offers after a command that has none are words, and not commands: they have the help of
// that command.
func subcommands(program string, above []string) ([][]string, error) {
	args := append(append([]string{"__completeNoDesc"}, above...), "")
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w: the program does not say which commands it has", program, args, err)
	}
	parent, err := help(program, above...)
	if err != nil {
		return nil, err
	}
	var all [][]string
	for line := range strings.Lines(string(out)) {
		name := strings.TrimSpace(line)
		if name == "" || strings.HasPrefix(name, ":") || strings.HasPrefix(name, "-") {
			continue
		}
		c := append(append([]string{}, above...), name)
		text, err := help(program, c...)
		if err != nil {
			return nil, err
		}
		if text == parent {
			continue
		}
		all = append(all, c)
		below, err := subcommands(program, c)
		if err != nil {
			return nil, err
		}
		all = append(all, below...)
	}
	return all, nil
}
