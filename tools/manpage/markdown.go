// SPDX-License-Identifier: Apache-2.0

package main

import (
	"regexp"
	"strings"
)

// translate returns roff for the Markdown of our documents: headings, paragraphs, lists,
// tables, and code. It leaves out the first heading: the page has its own name.
func translate(text string) string {
	var b strings.Builder
	rows := strings.Split(strings.TrimRight(text, "\n"), "\n")
	for i := 0; i < len(rows); {
		row := rows[i]
		switch {
		case strings.HasPrefix(row, "```"):
			end := i + 1
			for end < len(rows) && !strings.HasPrefix(rows[end], "```") {
				end++
			}
			b.WriteString(".PP\n.RS 4\n" + literal(strings.Join(rows[i+1:end], "\n")) + ".RE\n")
			i = end + 1
		case strings.HasPrefix(row, "    "):
			end := i
			for end < len(rows) && strings.HasPrefix(rows[end], "    ") {
				end++
			}
			b.WriteString(".PP\n.RS 4\n" + literal(strings.ReplaceAll(strings.Join(rows[i:end], "\n")[4:], "\n    ", "\n")) + ".RE\n")
			i = end
		case strings.HasPrefix(row, "# "):
			i++
		case strings.HasPrefix(row, "## "):
			title := plain(row[3:])
			if !strings.HasPrefix(title, "[") { // the name of a TOML table stays as it is
				title = strings.ToUpper(title)
			}
			b.WriteString(".SH " + quote(title) + "\n")
			i++
		case strings.HasPrefix(row, "### "):
			b.WriteString(".SS " + quote(plain(row[4:])) + "\n")
			i++
		case strings.HasPrefix(row, "|"):
			end := i
			for end < len(rows) && strings.HasPrefix(rows[end], "|") {
				end++
			}
			b.WriteString(table(rows[i:end]))
			i = end
		case strings.HasPrefix(row, "- "):
			end := i + 1
			for end < len(rows) && strings.HasPrefix(rows[end], "  ") {
				end++
			}
			b.WriteString(".IP \\(bu 3\n" + paragraph(strings.Join(rows[i:end], "\n")[2:]))
			i = end
		case strings.TrimSpace(row) == "":
			i++
		default:
			end := i
			for end < len(rows) && rows[end] != "" && !strings.HasPrefix(rows[end], "|") && !strings.HasPrefix(rows[end], "- ") {
				end++
			}
			b.WriteString(".PP\n" + paragraph(strings.Join(rows[i:end], "\n")))
			i = end
		}
	}
	return b.String()
}

// table returns a table as a list: the first column is the item, and the other columns
// follow with their names.
func table(rows []string) string {
	var b strings.Builder
	head := cells(rows[0])
	for _, row := range rows[2:] {
		c := cells(row)
		b.WriteString(".TP\n" + guard(inline(c[0])) + "\n")
		var rest []string
		for i, cell := range c[1:] {
			switch {
			case cell == "":
			case len(c) > 2 && i < len(c)-2:
				rest = append(rest, plain(head[i+1])+": "+cell+".")
			default:
				rest = append(rest, cell)
			}
		}
		text := strings.Join(rest, " ")
		if text == "" {
			text = `\&`
			b.WriteString(text + "\n")
			continue
		}
		b.WriteString(paragraph(text))
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

func paragraph(text string) string {
	var b strings.Builder
	for _, line := range strings.Split(text, "\n") {
		b.WriteString(guard(inline(strings.TrimSpace(line))) + "\n")
	}
	return b.String()
}

var (
	link   = regexp.MustCompile(`\[([^\]]+)\]\([^)]+\)`)
	marked = regexp.MustCompile("`([^`]+)`|\\*\\*([^*]+)\\*\\*")
)

// plain returns text without marks.
func plain(s string) string {
	s = link.ReplaceAllString(s, "$1")
	return strings.NewReplacer("`", "", "**", "").Replace(s)
}

// inline returns code and strong text in bold, and links as their text.
func inline(s string) string {
	s = link.ReplaceAllString(s, "$1")
	var b strings.Builder
	last := 0
	for _, m := range marked.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(escape(s[last:m[0]]))
		for g := 2; g < 6; g += 2 {
			if m[g] >= 0 {
				b.WriteString(`\fB` + escape(s[m[g]:m[g+1]]) + `\fR`)
			}
		}
		last = m[1]
	}
	b.WriteString(escape(s[last:]))
	return b.String()
}
