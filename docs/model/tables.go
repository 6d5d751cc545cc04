// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// boundaryTable returns the claimed boundaries as a table for README.md.
func boundaryTable() string {
	var text strings.Builder
	text.WriteString("| property |")
	for _, name := range modeNames {
		fmt.Fprintf(&text, " %s |", name)
	}
	text.WriteString("\n|" + strings.Repeat("---|", int(modes)+1) + "\n")
	for p := range properties {
		fmt.Fprintf(&text, "| %s |", propertyNames[p].name)
		for m := range modes {
			fmt.Fprintf(&text, " %s |", cell(m, p))
		}
		text.WriteString("\n")
	}
	return text.String()
}

// cell says which capabilities break a property under a policy.
func cell(m mode, p property) string {
	if !applies(m, p) {
		return ""
	}
	if len(claims[m][p]) == 0 {
		return "holds"
	}
	var sets []string
	for _, need := range claims[m][p] {
		sets = append(sets, need.String())
	}
	return strings.Join(sets, "; ")
}

// applies reports whether documents under a policy have what a property is about.
func applies(m mode, p property) bool {
	switch p {
	case young:
		return m.onAnchor()
	case prefixed:
		return m.onAnchor() && m.withLog()
	case complete, honest, continues:
		return m.withLog()
	}
	return true
}

// removalTable returns what the removals claim as a table for README.md.
func removalTable() string {
	var text strings.Builder
	text.WriteString("| without | breaks | under | by | alone it breaks nothing, because |\n|---|---|---|---|---|\n")
	for _, r := range removals {
		broken, under, by := propertyNames[r.breaks].name, modeNames[r.mode], r.by.String()
		if r.by == nothing {
			broken, under, by = "nothing", "", ""
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s | %s |\n", only(r.item)|r.with, broken, under, by, r.why)
	}
	return text.String()
}

// propertyTable returns the properties as a table for README.md.
func propertyTable() string {
	var text strings.Builder
	text.WriteString("| property | what an accepted document shows |\n|---|---|\n")
	for _, p := range propertyNames {
		fmt.Fprintf(&text, "| %s | %s |\n", p.name, p.says)
	}
	return text.String()
}

// indent indents lines.
func indent(text string) string {
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}
