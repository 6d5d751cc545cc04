// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

const pythonHead = "# SPDX-License-Identifier: Apache-2.0\n# Generated: `go test ./test/generate -update` writes this file.\n"

// PythonTypes returns the module agentd.types: a class for each object that an answer contains, or
// that a request has inside.
func (g *Generator) PythonTypes() (string, error) {
	g.line("%s%q\n", pythonHead, "What the agent answers, as classes: the schemas of api/openapi.json, and the statement.")
	g.line("from __future__ import annotations\n\nfrom dataclasses import dataclass\nfrom typing import Any, ClassVar, Literal\n\nfrom ._secret import Secret\nfrom ._wire import Member, Members")
	requests := g.requests()
	for _, n := range sorted(g.Components.Schemas) {
		s := g.Components.Schemas[n]
		if n == "Code" || requests[n] {
			continue
		}
		if err := g.pythonClass(n, s); err != nil {
			return "", fmt.Errorf("%s: %w", n, err)
		}
	}
	return g.take(), nil
}

func (g *Generator) pythonClass(n string, s schema) error {
	description, _ := s["description"].(string)
	g.line("\n\n@dataclass(frozen=True, kw_only=True)\nclass %s(Members):", n)
	g.docstring("    ", description)
	g.line("")
	var table []string
	for _, m := range membersOf(s) {
		typ, err := pythonType(m.schema, "")
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		kind, err := kindOf(m.schema)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		if !m.required {
			typ += " | None = None"
		}
		g.line("    %s: %s", pythonName(m.name), typ)
		g.docstring("    ", m.description)
		table = append(table, fmt.Sprintf("        Member(%q, %q, %s, %s),", pythonName(m.name), m.name, python(kind), truth(m.required)))
	}
	g.line("\n    MEMBERS: ClassVar[tuple[Member, ...]] = (\n%s\n    )", strings.Join(table, "\n"))
	return nil
}

// PythonCalls returns the module agentd._calls: the table of operations, and a method for each.
func (g *Generator) PythonCalls() (string, error) {
	g.line("%s%q\n", pythonHead, "One method for each operation of api/openapi.json.")
	g.line("from __future__ import annotations\n\nfrom typing import Literal\n\nfrom . import types\nfrom ._secret import Octets, Secret\nfrom ._wire import Caller, Member, Operation\n\nOPERATIONS: dict[str, Operation] = {")
	err := g.each(func(method, path string, o operation) error {
		input, err := g.inputOf(o)
		if err != nil {
			return err
		}
		g.line("    %q: Operation(\n        %q,\n        %q,\n        %q,\n        %q,\n        %g,\n        %d,\n        (", o.OperationID, o.OperationID, strings.ToUpper(method), path, o.Socket, o.Seconds, maxOf(o))
		for _, m := range input {
			kind, err := kindOf(m.schema)
			if err != nil {
				return fmt.Errorf("%s: %w", m.name, err)
			}
			g.line("            Member(%q, %q, %s, %s, %q),", pythonName(m.name), m.name, python(kind), truth(m.required), m.in)
		}
		g.line("        ),\n    ),")
		return nil
	})
	if err != nil {
		return "", err
	}
	g.line("}")
	for _, c := range []struct{ class, docs, socket string }{
		{"BothCalls", "What both sockets serve.", "both"},
		{"ClientCalls", "What the client socket serves besides.", "client"},
		{"AdminCalls", "What the admin socket serves besides.", "admin"},
	} {
		g.line("\n\nclass %s(Caller):", c.class)
		g.docstring("    ", c.docs)
		err := g.each(func(_, _ string, o operation) error {
			if o.Socket != c.socket {
				return nil
			}
			return g.pythonMethod(o)
		})
		if err != nil {
			return "", err
		}
	}
	return g.take(), nil
}

func (g *Generator) pythonMethod(o operation) error {
	input, err := g.inputOf(o)
	if err != nil {
		return err
	}
	answer, err := answerName(o)
	if err != nil {
		return err
	}
	var required, others, values, docs []string
	for _, m := range input {
		if o.OperationID == "log" && m.name == "format" {
			continue // log_cel_json has the other spelling
		}
		typ, err := pythonType(m.schema, "types.")
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		switch typ {
		case "bytes":
			typ = "Octets"
		case "Secret":
			typ = "Octets | Secret"
		}
		p := pythonName(m.name)
		if m.required {
			required = append(required, p+": "+typ)
		} else {
			others = append(others, p+": "+typ+" | None = None")
		}
		values = append(values, fmt.Sprintf("%q: %s", p, p))
		docs = append(docs, p+": "+m.description)
	}
	others = append([]string{"*"}, append(others, "timeout: float | None = None")...)
	result := "bytes"
	if answer != "" {
		result = "types." + answer
	}
	signature := strings.Join(append(append([]string{"self"}, required...), others...), ",\n        ")
	g.line("\n    def %s(\n        %s,\n    ) -> %s:", pythonName(o.OperationID), signature, result)
	g.docstring("        ", append([]string{o.Summary}, docs...)...)
	arguments := fmt.Sprintf("OPERATIONS[%q], {%s}, timeout", o.OperationID, strings.Join(values, ", "))
	if answer == "" {
		g.line("        return self._raw(%s)", arguments)
	} else {
		g.line("        return self._answer(types.%s, %s)", answer, arguments)
	}
	return nil
}

// PythonCodes returns the module agentd.codes: names of the codes, and what is known of each.
func PythonCodes() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s%q\n\nfrom __future__ import annotations\n\nfrom enum import StrEnum\n\n\nclass Code(StrEnum):\n    \"\"\"A kind of failure. Later versions may add codes: a problem can have one that is not here.\"\"\"\n\n", pythonHead, "The codes of docs/api.md.")
	for _, c := range api.Codes() {
		fmt.Fprintf(&out, "    %s = %q\n", strings.ToUpper(strings.ReplaceAll(string(c.Code), "-", "_")), c.Code)
	}
	fmt.Fprintf(&out, "\n\n# What is known of a code: class of the exception, title, and what to do.\nKNOWN: dict[str, tuple[str, str, str]] = {\n")
	for _, c := range api.Codes() {
		fmt.Fprintf(&out, "    %s: (\n        %s,\n        %s,\n        %s,\n    ),\n", literal(c.Code), literal(exceptionOf(c)), literal(c.Title), literal(c.Hint))
	}
	out.WriteString("}\n")
	return out.String()
}

// exceptionOf returns the class of errors that have the code: by the exit code of agentctl.
func exceptionOf(c api.CodeInfo) string {
	return map[int]string{1: "Misuse", 2: "Forged", 6: "Unavailable", 7: "NotPermitted", 8: "Sealed"}[c.Exit]
}

// pythonType returns the type of a schema. The module in which classes are comes before their names.
func pythonType(s schema, module string) (string, error) {
	if reference, ok := s["$ref"].(string); ok {
		if name(reference) == "Code" {
			return "str", nil
		}
		return module + name(reference), nil
	}
	if list, ok := s["enum"].([]any); ok {
		return "Literal[" + strings.ReplaceAll(strings.Trim(literal(list), "[]"), ",", ", ") + "]", nil
	}
	if list, ok := s["anyOf"].([]any); ok {
		var out []string
		for _, a := range list {
			alternative, _ := a.(map[string]any)
			typ, err := pythonType(alternative, module)
			if err != nil {
				return "", err
			}
			out = append(out, typ)
		}
		return strings.Join(out, " | "), nil
	}
	kind, err := kindOf(s)
	if err != nil {
		return "", err
	}
	switch {
	case s["type"] == "array":
		items, _ := s["items"].(map[string]any)
		of, err := pythonType(items, module)
		return "list[" + of + "]", err
	case s["type"] == "integer":
		return "int", nil
	}
	return map[string]string{`"text"`: "str", `"flag"`: "bool", `"number"`: "float", `"bytes"`: "bytes", `"digest"`: "bytes", `"secret"`: "Secret"}[kind], nil
}

// pythonName returns the name of a member in Python.
func pythonName(n string) string {
	switch s := snake(n); s {
	case "from", "in", "is", "class", "import", "global", "pass", "return", "with", "as", "not", "or", "and", "if", "for", "del", "def",
		"bytes", "str", "int", "bool", "float", "list", "dict":
		return s + "_"
	default:
		return s
	}
}

// python returns a kind as tuples.
func python(kind string) string {
	return strings.NewReplacer("[", "(", "]", ")", ", ", ", ", ",", ", ").Replace(kind)
}

func truth(b bool) string { return map[bool]string{true: "True", false: "False"}[b] }

// docstring writes paragraphs as one string.
func (g *Generator) docstring(indent string, paragraphs ...string) {
	var out []string
	for _, p := range paragraphs {
		if p = strings.ReplaceAll(strings.ReplaceAll(p, `\`, `\\`), `"""`, `'''`); p != "" {
			out = append(out, wrap(p, indent, 96-len(indent)))
		}
	}
	text := strings.TrimPrefix(strings.Join(out, "\n\n"), indent)
	switch {
	case text == "":
	case strings.Contains(text, "\n"):
		g.line("%s\"\"\"%s\n%s\"\"\"", indent, text, indent)
	default:
		if strings.HasSuffix(text, `"`) {
			text += " "
		}
		g.line("%s\"\"\"%s\"\"\"", indent, text)
	}
}

// wrap breaks a text into lines of at most width characters, if its words allow that.
func wrap(text, indent string, width int) string {
	var lines []string
	line := ""
	for _, w := range strings.Fields(text) {
		if line != "" && len(line)+1+len(w) > width {
			lines, line = append(lines, indent+line), ""
		}
		line = strings.TrimPrefix(line+" "+w, " ")
	}
	return strings.Join(append(lines, indent+line), "\n")
}
