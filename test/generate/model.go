// SPDX-License-Identifier: Apache-2.0

// Package generate makes what the client libraries have of api/openapi.json: types, tables of
// operations and of codes, and calls, in Python and in TypeScript. Its test compares that with the
// files of the libraries, and writes them with -update.
package generate

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/cvm-agentd/agentd/evidence"
)

// A document is what the generator reads of an OpenAPI document.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]schema }
}

type operation struct {
	OperationID string
	Summary     string
	Socket      string  `json:"x-agentd-socket"`
	Seconds     float64 `json:"x-agentd-seconds"`
	Parameters  []struct {
		Name, In, Description string
		Required              bool
		Schema                schema
	}
	RequestBody struct{ Content map[string]content }
	Responses   map[string]struct{ Content map[string]content }
}

type content struct {
	Schema  schema
	Example json.RawMessage
}

// A schema has the keywords that change a type. Those of described, below, do not.
type schema map[string]any

// described are keywords without an effect on the type in TypeScript.
var described = []string{"description", "format", "minimum", "maximum", "minLength", "maxLength", "contentEncoding", "default", "additionalProperties", "required", "pattern"}

// A Generator writes modules.
type Generator struct {
	document
	decoded bool // byte strings are bytes in TypeScript, and not base64
	out     strings.Builder
}

// New returns a generator for an OpenAPI document, and for what JSON Schemas define besides.
func New(openAPI []byte, others ...[]byte) (*Generator, error) {
	g := &Generator{}
	if err := json.Unmarshal(openAPI, &g.document); err != nil {
		return nil, err
	}
	for _, b := range others {
		var other struct {
			Defs map[string]schema `json:"$defs"`
		}
		if err := json.Unmarshal(b, &other); err != nil {
			return nil, err
		}
		for name, s := range other.Defs {
			if g.Components.Schemas[name] == nil {
				g.Components.Schemas[name] = s
			}
		}
	}
	return g, nil
}

// take returns what was written, and begins anew.
func (g *Generator) take() string {
	defer g.out.Reset()
	return g.out.String()
}

func (g *Generator) line(format string, args ...any) { fmt.Fprintf(&g.out, format+"\n", args...) }

// each calls f for each operation in the order of the paths.
func (g *Generator) each(f func(method, path string, o operation) error) error {
	for _, path := range sorted(g.Paths) {
		for _, method := range sorted(g.Paths[path]) {
			if err := f(method, path, g.Paths[path][method]); err != nil {
				return fmt.Errorf("%s %s: %w", method, path, err)
			}
		}
	}
	return nil
}

// A member is one of an object, or a parameter.
type member struct {
	name, description string
	schema            schema
	required          bool
	in                string // "path", "query", "body"; empty: of an object
}

// membersOf returns the members of an object: those that are required, in their order in the
// document, then the others by name.
func membersOf(s schema) []member {
	properties, _ := s["properties"].(map[string]any)
	required, _ := s["required"].([]any)
	names := []string{}
	for _, n := range required {
		names = append(names, fmt.Sprint(n))
	}
	most := len(names)
	for _, n := range sorted(properties) {
		if !slices.Contains(names[:most], n) {
			names = append(names, n)
		}
	}
	var out []member
	for i, n := range names {
		p, _ := properties[n].(map[string]any)
		description, _ := p["description"].(string)
		out = append(out, member{n, description, p, i < most, ""})
	}
	return out
}

// inputOf returns what a caller gives to an operation: its parameters, or the members of its body.
func (g *Generator) inputOf(o operation) ([]member, error) {
	var out []member
	for _, p := range o.Parameters {
		out = append(out, member{p.Name, p.Description, p.Schema, p.Required, p.In})
	}
	body, ok := o.RequestBody.Content["application/json"]
	if !ok {
		return out, nil
	}
	if out != nil {
		return nil, fmt.Errorf("%s has parameters and a body: the calls of the libraries take one of them", o.OperationID)
	}
	reference, _ := body.Schema["$ref"].(string)
	out = membersOf(g.Components.Schemas[name(reference)])
	for i := range out {
		out[i].in = "body"
	}
	return out, nil
}

// requests are the schemas that are the body of a request, and not an answer.
func (g *Generator) requests() map[string]bool {
	out, answers := map[string]bool{}, map[string]bool{}
	for _, methods := range g.Paths {
		for _, o := range methods {
			reference, _ := o.RequestBody.Content["application/json"].Schema["$ref"].(string)
			out[name(reference)] = true
			reference, _ = o.Responses["200"].Content["application/json"].Schema["$ref"].(string)
			answers[name(reference)] = true
		}
	}
	maps.DeleteFunc(out, func(n string, _ bool) bool { return answers[n] })
	return out
}

// rawAnswers are operations whose answer a caller gets byte by byte.
var rawAnswers = []string{"evidence", "metrics", "openAPI"}

// answerName returns the name of the type of an answer, or "" for bytes.
func answerName(o operation) (string, error) {
	if slices.Contains(rawAnswers, o.OperationID) {
		return "", nil
	}
	s := o.Responses["200"].Content["application/json"].Schema
	if list, _ := s["oneOf"].([]any); o.OperationID == "log" && len(list) == 2 {
		s, _ = list[0].(map[string]any)
	}
	reference, _ := s["$ref"].(string)
	if reference == "" {
		return "", fmt.Errorf("%s: the libraries know no answer like %v", o.OperationID, s)
	}
	return name(reference), nil
}

// How many bytes of an answer a client reads: those of package client.
const (
	maxAnswer = 4 << 20
	maxLog    = 4*evidence.MaxLog + 1<<20
)

func maxOf(o operation) int {
	switch o.OperationID {
	case "evidence":
		return evidence.MaxEvidence
	case "log":
		return maxLog
	}
	return maxAnswer
}

// kindOf returns what the libraries check of a value, as text that both languages read.
func kindOf(s schema) (string, error) {
	if reference, ok := s["$ref"].(string); ok {
		if name(reference) == "Code" {
			return `"text"`, nil
		}
		return literal([]string{"object", name(reference)}), nil
	}
	if s["enum"] != nil || s["const"] != nil || s["anyOf"] != nil {
		return `"text"`, nil
	}
	switch s["type"] {
	case "string":
		return kindOfText(s), nil
	case "boolean":
		return `"flag"`, nil
	case "number":
		return `"number"`, nil
	case "integer":
		if s["maximum"] == nil {
			return "", fmt.Errorf("an integer without a maximum")
		}
		return fmt.Sprintf(`["integer", %.0f]`, s["maximum"]), nil
	case "array":
		items, _ := s["items"].(map[string]any)
		of, err := kindOf(items)
		return fmt.Sprintf(`["list", %s]`, of), err
	}
	return "", fmt.Errorf("the schema %v", s)
}

func kindOfText(s schema) string {
	switch {
	case s["contentEncoding"] == nil:
		return `"text"`
	case s["format"] == "password":
		return `"secret"`
	case s["maxLength"] == 44.0 && s["minLength"] == 44.0:
		return `"digest"`
	}
	return `"bytes"`
}

func optional(name string, required bool) string {
	if required {
		return name
	}
	return name + "?"
}

func name(reference string) string { return reference[strings.LastIndexByte(reference, '/')+1:] }

func literal(v any) string {
	var out strings.Builder
	encode := json.NewEncoder(&out)
	encode.SetEscapeHTML(false)
	encode.Encode(v)
	return strings.TrimSuffix(out.String(), "\n")
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// snake returns a name in the way of Python: reportID is report_id.
func snake(name string) string {
	var out strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 && (unicode.IsLower(rs[i-1]) || i+1 < len(rs) && unicode.IsLower(rs[i+1])) {
			out.WriteByte('_')
		}
		out.WriteRune(unicode.ToLower(r))
	}
	return out.String()
}
