// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"fmt"
	"slices"
	"strings"
)

// Types returns a module with a type for each schema, the type Operations with what each operation
// takes and answers, and the value routes with methods and paths.
func (g *Generator) Types() (string, error) {
	for _, name := range sorted(g.Components.Schemas) {
		text, err := g.typeOf(g.Components.Schemas[name])
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		g.line("export type %s = %s;", name, text)
	}
	g.line("export interface Operations {")
	err := g.each(func(_, _ string, o operation) error {
		input, err := g.input(o)
		if err != nil {
			return err
		}
		answer, err := g.answerOf(o)
		if err != nil {
			return err
		}
		g.line("  %s: { input: %s; answer: %s };", o.OperationID, input, answer)
		return nil
	})
	if err != nil {
		return "", err
	}
	g.line("}\nexport const routes: { [K in keyof Operations]: { method: string; path: string; query: string[] } } = {")
	err = g.each(func(method, path string, o operation) error {
		query := []string{}
		for _, p := range o.Parameters {
			if p.In == "query" {
				query = append(query, p.Name)
			}
		}
		g.line("  %s: { method: %q, path: %q, query: %s },", o.OperationID, strings.ToUpper(method), path, literal(query))
		return nil
	})
	g.line("};")
	return g.take(), err
}

// Uses returns a module with a function for each operation. It calls the operation with the least
// that it takes, and reads all that its answer must have.
func (g *Generator) Uses() (string, error) {
	g.line("import { Client } from \"./client.js\";")
	err := g.each(func(_, _ string, o operation) error {
		var input []string
		for _, p := range o.Parameters {
			switch {
			case p.Required && p.Schema["type"] == "integer":
				input = append(input, p.Name+": 1")
			case p.Required:
				input = append(input, p.Name+`: "billing"`)
			}
		}
		argument := ""
		if body, ok := o.RequestBody.Content["application/json"]; ok {
			input = append(input, "body: "+string(body.Example))
		}
		if input != nil {
			argument = ", { " + strings.Join(input, ", ") + " }"
		}
		g.line("export async function %s(client: Client): Promise<unknown[]> {", o.OperationID)
		g.line("  const answer = await client.call(%q%s);", o.OperationID, argument)
		g.line("  return [%s];\n}", strings.Join(g.members(o), ", "))
		return nil
	})
	return g.take(), err
}

// members returns an expression for each member that an answer must have.
func (g *Generator) members(o operation) []string {
	s := schema{}
	for _, c := range o.Responses["200"].Content {
		s = c.Schema
	}
	reference, _ := s["$ref"].(string)
	required, _ := g.Components.Schemas[name(reference)]["required"].([]any)
	out := []string{"answer"}
	for _, m := range required {
		out = append(out, fmt.Sprintf("answer.%s", m))
	}
	return out
}

// input returns the type of what a caller gives: the parameters by their names, and the body.
func (g *Generator) input(o operation) (string, error) {
	members := map[string]string{}
	for _, p := range o.Parameters {
		text, err := g.typeOf(p.Schema)
		if err != nil {
			return "", err
		}
		members[optional(p.Name, p.Required)] = text
	}
	for media, c := range o.RequestBody.Content {
		if media != "application/json" {
			return "", fmt.Errorf("a request of type %s", media)
		}
		text, err := g.typeOf(c.Schema)
		if err != nil {
			return "", err
		}
		members["body"] = text
	}
	if len(members) == 0 {
		return "undefined", nil
	}
	return object(members), nil
}

// answerOf returns the type of an answer: a string, if it is not JSON.
func (g *Generator) answerOf(o operation) (string, error) {
	answer := ""
	for _, c := range o.Responses["200"].Content {
		text, err := g.typeOf(c.Schema)
		if err != nil || answer != "" && answer != text {
			return "", fmt.Errorf("the answer: %q, %q, %v", answer, text, err)
		}
		answer = text
	}
	if answer == "" {
		return "", fmt.Errorf("no answer")
	}
	return answer, nil
}

// typeOf returns the type of a schema. It refuses a keyword that it does not know: it could change
// the type.
func (g *Generator) typeOf(s schema) (string, error) {
	one := map[string]func(any) (string, error){
		"$ref":  func(v any) (string, error) { return name(fmt.Sprint(v)), nil },
		"const": func(v any) (string, error) { return literal(v), nil },
		"enum":  words,
		"anyOf": g.union,
		"oneOf": g.union,
	}
	typ, _ := s["type"].(string)
	known := append([]string{"type", "items", "properties"}, described...)
	for _, keyword := range sorted(s) {
		if f := one[keyword]; f != nil {
			return f(s[keyword])
		}
		if !slices.Contains(known, keyword) {
			return "", fmt.Errorf("the keyword %q", keyword)
		}
	}
	switch typ {
	case "string":
		if g.decoded && s["contentEncoding"] != nil {
			return map[bool]string{true: "Secret", false: "Uint8Array"}[s["format"] == "password"], nil
		}
		return typ, nil
	case "boolean":
		return typ, nil
	case "integer", "number":
		return "number", nil
	case "array":
		items, _ := s["items"].(map[string]any)
		text, err := g.typeOf(items)
		return "Array<" + text + ">", err
	case "object":
		return g.objectOf(s)
	}
	return "", fmt.Errorf("the type %v", s["type"])
}

func (g *Generator) objectOf(s schema) (string, error) {
	properties, _ := s["properties"].(map[string]any)
	if values, ok := s["additionalProperties"].(map[string]any); ok && properties == nil {
		text, err := g.typeOf(values)
		return "Record<string, " + text + ">", err
	}
	if properties == nil {
		return "Record<string, unknown>", nil
	}
	required, _ := s["required"].([]any)
	members := map[string]string{}
	for n, p := range properties {
		property, _ := p.(map[string]any)
		text, err := g.typeOf(property)
		if err != nil {
			return "", fmt.Errorf("%s: %w", n, err)
		}
		members[optional(n, slices.Contains(required, any(n)))] = text
	}
	return object(members), nil
}

// words returns the type of a list of words.
func words(v any) (string, error) {
	list, _ := v.([]any)
	var out []string
	for _, w := range list {
		out = append(out, literal(w))
	}
	return strings.Join(out, " | "), nil
}

// union returns the type of alternatives. Among words, any other string keeps them for an editor
// to offer.
func (g *Generator) union(v any) (string, error) {
	list, _ := v.([]any)
	var out []string
	for _, a := range list {
		alternative, _ := a.(map[string]any)
		text, err := g.typeOf(alternative)
		if err != nil {
			return "", err
		}
		if text == "string" {
			text = "(string & {})"
		}
		out = append(out, text)
	}
	return strings.Join(out, " | "), nil
}

func object(members map[string]string) string {
	var out strings.Builder
	for _, n := range sorted(members) {
		fmt.Fprintf(&out, " %s: %s;", n, members[n])
	}
	return "{" + out.String() + " }"
}
