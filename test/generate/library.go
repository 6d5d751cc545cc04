// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/api"
)

const typeScriptHead = "// SPDX-License-Identifier: Apache-2.0\n// Generated: `go test ./test/generate -update` writes this file."

// TypeScriptTypes returns the module types of the library in TypeScript: a type for each object,
// with bytes and secrets decoded.
func (g *Generator) TypeScriptTypes() (string, error) {
	g.decoded = true
	defer func() { g.decoded = false }()
	g.line("%s\n\nimport type { Secret } from \"./secret.js\";\n", typeScriptHead)
	requests := g.requests()
	for _, n := range sorted(g.Components.Schemas) {
		s := g.Components.Schemas[n]
		text, err := g.typeOf(s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", n, err)
		}
		description, _ := s["description"].(string)
		g.comment("", description)
		if s["type"] != "object" {
			g.line("export type %s = %s;", n, text)
			continue
		}
		g.line("export interface %s {", n)
		for _, m := range membersOf(s) {
			text, err := g.typeOf(m.schema)
			if err != nil {
				return "", err
			}
			if requests[n] && text == "Secret" {
				text = "Uint8Array | Secret"
			}
			g.comment("  ", m.description)
			g.line("  %s: %s;", optional(m.name, m.required), text)
		}
		g.line("}")
	}
	return g.take(), nil
}

// TypeScriptMembers returns the module members: by what an answer is checked and decoded.
func (g *Generator) TypeScriptMembers() (string, error) {
	g.line("%s\n\nimport type { Member } from \"./wire.js\";\n\n/** The members of each object, by the name of its type. */\nexport const members: { readonly [name: string]: readonly Member[] } = {", typeScriptHead)
	for _, n := range sorted(g.Components.Schemas) {
		if s := g.Components.Schemas[n]; s["type"] == "object" {
			if err := g.table("  "+n, membersOf(s)); err != nil {
				return "", fmt.Errorf("%s: %w", n, err)
			}
		}
	}
	g.line("};")
	return g.take(), nil
}

// table writes the members of an object.
func (g *Generator) table(key string, of []member) error {
	g.line("%s: [", key)
	for _, m := range of {
		kind, err := kindOf(m.schema)
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		g.line("    { name: %q, kind: %s, required: %t, in: %q },", m.name, kind, m.required, m.in)
	}
	g.line("  ],")
	return nil
}

// TypeScriptCalls returns the module calls: a method for each operation.
func (g *Generator) TypeScriptCalls() (string, error) {
	g.decoded = true
	defer func() { g.decoded = false }()
	g.line("%s\n\nimport type * as types from \"./types.js\";\nimport type { Operation } from \"./wire.js\";\n", typeScriptHead)
	g.line("/** What each operation is called by, and its limits. */\nexport const operations = {")
	err := g.each(func(method, path string, o operation) error {
		input, err := g.inputOf(o)
		if err != nil {
			return err
		}
		answer, err := answerName(o)
		if err != nil {
			return err
		}
		g.line("  %s: {\n    name: %q, method: %q, path: %q, socket: %q, seconds: %g, limit: %d, answer: %q,", o.OperationID, o.OperationID, strings.ToUpper(method), path, o.Socket, o.Seconds, maxOf(o), answer)
		if err := g.table("    input", input); err != nil {
			return err
		}
		g.line("  },")
		return nil
	})
	if err != nil {
		return "", err
	}
	g.line("} as const;\n\n/** Options of a call. */\nexport interface Options {\n  /** Milliseconds for the whole call. Default: the time after which the agent gives up, and 15 s. */\n  timeout?: number;\n  /** Ends the call. */\n  signal?: Signal;\n}\n")
	g.line("/** The part of an AbortSignal that the library uses. */\nexport interface Signal {\n  readonly aborted: boolean;\n  addEventListener(type: \"abort\", listener: () => void): void;\n  removeEventListener(type: \"abort\", listener: () => void): void;\n}\n")
	g.line("/** Sends a request, and returns the bytes or the object of the answer. */\nexport type Call = (operation: Operation, input: object, options: Options) => Promise<unknown>;")
	for _, c := range []struct{ class, base, docs, socket string }{
		{"BothCalls", "", "What both sockets serve.", "both"},
		{"ClientCalls", " extends BothCalls", "What the client socket serves.", "client"},
		{"AdminCalls", " extends BothCalls", "What the admin socket serves.", "admin"},
	} {
		g.line("\n/** %s */\nexport abstract class %s%s {", c.docs, c.class, c.base)
		if c.base == "" {
			g.line("  protected abstract readonly call: Call;\n")
		}
		err := g.each(func(_, _ string, o operation) error {
			if o.Socket != c.socket {
				return nil
			}
			return g.typeScriptMethod(o)
		})
		if err != nil {
			return "", err
		}
		g.line("}")
	}
	return g.take(), nil
}

func (g *Generator) typeScriptMethod(o operation) error {
	input, err := g.inputOf(o)
	if err != nil {
		return err
	}
	answer, err := answerName(o)
	if err != nil {
		return err
	}
	body, hasBody := o.RequestBody.Content["application/json"]
	typ, needed := "Record<string, never>", false
	members := map[string]string{}
	for _, m := range input {
		needed = needed || m.required
		if o.OperationID == "log" && m.name == "format" {
			continue // logCELJSON has the other spelling
		}
		if members[optional(m.name, m.required)], err = g.typeOf(m.schema); err != nil {
			return err
		}
	}
	if hasBody {
		reference, _ := body.Schema["$ref"].(string)
		typ = "types." + name(reference)
	} else if len(members) > 0 {
		typ = object(members)
	}
	if !needed {
		typ += " = {}"
	}
	result := "Uint8Array"
	if answer != "" {
		result = "types." + answer
	}
	g.comment("  ", o.Summary)
	g.line("  async %s(input: %s, options: Options = {}): Promise<%s> {", o.OperationID, typ, result)
	g.line("    return (await this.call(operations.%s, input, options)) as %s;\n  }", o.OperationID, result)
	return nil
}

// TypeScriptCodes returns the module codes: what is known of each code.
func TypeScriptCodes() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n/** What is known of a code. */\nexport interface Known {\n  readonly kind: \"Misuse\" | \"Forged\" | \"Unavailable\" | \"NotPermitted\" | \"Sealed\";\n  readonly title: string;\n  readonly hint: string;\n}\n\nexport const known: { readonly [code: string]: Known } = {\n", typeScriptHead)
	for _, c := range api.Codes() {
		fmt.Fprintf(&out, "  %s: { kind: %s, title: %s, hint: %s },\n", literal(c.Code), literal(exceptionOf(c)), literal(c.Title), literal(c.Hint))
	}
	out.WriteString("};\n")
	return out.String()
}

// comment writes a text as a comment for editors.
func (g *Generator) comment(indent, text string) {
	if text = strings.ReplaceAll(text, "*/", "* /"); text == "" {
		return
	}
	if lines := wrap(text, indent+" * ", 96-len(indent)); strings.Contains(lines, "\n") {
		g.line("%s/**\n%s\n%s */", indent, lines, indent)
	} else {
		g.line("%s/** %s */", indent, text)
	}
}
