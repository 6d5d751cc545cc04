// SPDX-License-Identifier: Apache-2.0

// Manpage writes a manual page: of a program from its help texts, or of a file format from
// its description in Markdown.
//
//	manpage -program ./agentctl -name agentctl -section 1 -title "…" -date 2026-01-31
//	manpage -markdown docs/apps.md -name agentd-apps.d -section 5 -title "…" -date 2026-01-31
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// page contains the head and foot of a manual page.
type page struct {
	name, section, title, date, version, see string
}

func main() {
	var p page
	program := flag.String("program", "", "program whose help becomes the page")
	markdown := flag.String("markdown", "", "Markdown file that becomes the page")
	flag.StringVar(&p.name, "name", "", "name of the page")
	flag.StringVar(&p.section, "section", "", "section of the manual")
	flag.StringVar(&p.title, "title", "", "title in one line")
	flag.StringVar(&p.date, "date", "", "date of the page")
	flag.StringVar(&p.version, "version", "", "version of the program")
	flag.StringVar(&p.see, "see", "", "other pages to refer to")
	flag.Parse()
	body, err := "", error(nil)
	if *program != "" {
		body, err = fromHelp(*program)
	}
	if err == nil && *markdown != "" {
		var b []byte
		if b, err = os.ReadFile(*markdown); err == nil {
			if body == "" {
				body = ".SH DESCRIPTION\n"
			}
			body += translate(string(b))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manpage:", err)
		os.Exit(1)
	}
	fmt.Print(p.head(), body, p.foot())
}

func (p page) head() string {
	return fmt.Sprintf(".TH %s %s %s %s %s\n.SH NAME\n%s \\- %s\n",
		quote(strings.ToUpper(p.name)), p.section, quote(p.date), quote("agentd "+p.version), quote("agentd"), escape(p.name), escape(p.title))
}

func (p page) foot() string {
	if p.see == "" {
		return ""
	}
	var refs []string
	for _, s := range strings.Fields(p.see) {
		name, section, _ := strings.Cut(strings.TrimSuffix(s, ")"), "(")
		refs = append(refs, fmt.Sprintf(".BR %s (%s)", escape(name), section))
	}
	return ".SH SEE ALSO\n" + strings.Join(refs, " ,\n") + "\n"
}

// fromHelp returns the help of a program and of its commands, as the program prints it.
func fromHelp(program string) (string, error) {
	var b strings.Builder
	text, err := help(program)
	if err != nil {
		return "", err
	}
	usage, rest, _ := strings.Cut(text, "\n\n")
	fmt.Fprintf(&b, ".SH SYNOPSIS\n%s.SH DESCRIPTION\n%s", literal(strings.TrimPrefix(usage, "Usage: ")), literal(rest))
	commands, err := subcommands(program, nil)
	if err != nil {
		return "", err
	}
	if len(commands) > 0 {
		b.WriteString(".SH COMMANDS\n")
	}
	for _, c := range commands {
		text, err := help(program, c...)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, ".SS %s\n%s", quote(strings.Join(c, " ")), literal(text))
	}
	return b.String(), nil
}

func help(program string, command ...string) (string, error) {
	out, err := exec.Command(program, append(command, "--help")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s %s --help: %w: %s", program, strings.Join(command, " "), err, out)
	}
	return string(out), nil
}

// subcommands asks the program for its commands, like a shell that completes. A program
// without completion does not have commands. A command with the same help as the group
// above it is left out.
func subcommands(program string, above []string) ([][]string, error) {
	out, err := exec.Command(program, append(append([]string{"__complete"}, above...), "")...).Output()
	if err != nil {
		return nil, nil
	}
	parent, err := help(program, above...)
	if err != nil {
		return nil, err
	}
	var all [][]string
	for line := range strings.Lines(string(out)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
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

// literal returns the text with its lines unchanged.
func literal(text string) string {
	return ".nf\n" + lines(strings.TrimRight(text, "\n")) + ".fi\n"
}

func lines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text + "\n") {
		b.WriteString(guard(escape(strings.TrimRight(line, "\n"))) + "\n")
	}
	return b.String()
}

// guard returns a line that roff does not read as a request.
func guard(s string) string {
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return `\&` + s
	}
	return s
}

// escape replaces the characters that have a meaning in roff.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`, "…", "...").Replace(s)
}

// quote returns an argument of a request.
func quote(s string) string { return `"` + strings.ReplaceAll(escape(s), `"`, `\(dq`) + `"` }
