// SPDX-License-Identifier: Apache-2.0

package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A tree is JSON that tools read: objects, lists and values.
type tree = map[string]any

// A lint collects what breaks the rules that the linters of OpenAPI have for all documents (the
// recommended sets of redocly and spectral), as far as ours could break them, and two rules that
// strict clients need. The module test/interop compares the document with the schema of OpenAPI.
type lint struct {
	doc   tree
	found []string
}

func (l *lint) want(ok bool, format string, args ...any) {
	if !ok {
		l.found = append(l.found, fmt.Sprintf(format, args...))
	}
}

// at returns what is at a path of members, nil if there is nothing.
func at(v any, path ...string) any {
	for _, name := range path {
		o, _ := v.(tree)
		v = o[name]
	}
	return v
}

func textAt(v any, path ...string) string {
	s, _ := at(v, path...).(string)
	return s
}

func list(v any, path ...string) []any {
	a, _ := at(v, path...).([]any)
	return a
}

func members(v any, path ...string) tree {
	o, _ := at(v, path...).(tree)
	return o
}

// lintOf returns the findings about a document.
func lintOf(b []byte) []string {
	l := &lint{}
	if err := json.Unmarshal(b, &l.doc); err != nil {
		return []string{err.Error()}
	}
	l.head()
	l.operations()
	l.walk("#", l.doc)
	l.unused()
	return l.found
}

func (l *lint) head() {
	for _, path := range [][]string{{"openapi"}, {"info", "title"}, {"info", "version"}, {"info", "description"}, {"info", "license", "name"}, {"info", "license", "identifier"}, {"info", "contact", "url"}} {
		l.want(textAt(l.doc, path...) != "", "%v is missing", path)
	}
	ways, secured := l.doc["security"].([]any)
	l.want(secured, "security does not say that there is none")
	l.security(ways)
	servers := list(l.doc, "servers")
	l.want(len(servers) > 0, "no server")
	for _, s := range servers {
		url := textAt(s, "url")
		l.want(url == "/" || url != "" && !strings.HasSuffix(url, "/") && !strings.Contains(url, "example."), "server %q", url)
	}
	names := map[string]bool{}
	for _, tag := range list(l.doc, "tags") {
		name := textAt(tag, "name")
		l.want(!names[name] && textAt(tag, "description") != "", "tag %q: twice, or without a description", name)
		names[name] = true
	}
}

// security compares the ways to authenticate with those that are defined.
func (l *lint) security(ways []any) {
	defined := members(l.doc, "components", "securitySchemes")
	used := map[string]bool{}
	for _, w := range ways {
		for name := range members(w) {
			l.want(defined[name] != nil, "security %s is not defined", name)
			used[name] = true
		}
	}
	for name, s := range defined {
		l.want(used[name] && textAt(s, "type") != "" && textAt(s, "description") != "", "security %s is not used, or not described", name)
	}
}

var (
	braces   = regexp.MustCompile(`\{([^{}]*)\}`)
	idForURL = regexp.MustCompile(`^[A-Za-z0-9-._~]+$`)
	success  = regexp.MustCompile(`^[23]`)
	failure  = regexp.MustCompile(`^4`)
)

func (l *lint) operations() {
	ids, shapes, defined, used := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, tag := range list(l.doc, "tags") {
		defined[textAt(tag, "name")] = true
	}
	paths := members(l.doc, "paths")
	l.want(len(paths) > 0, "no paths")
	for path, item := range paths {
		shape := braces.ReplaceAllString(path, "{}")
		l.want(!shapes[shape], "%s: another path is the same but for names", path)
		shapes[shape] = true
		l.want(strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") && !strings.Contains(path, "?") && !strings.Contains(path, "{}"), "path %q", path)
		for method, o := range members(item) {
			id := textAt(o, "operationId")
			l.want(idForURL.MatchString(id) && !ids[id], "%s %s: operationId %q is missing, twice, or not for a URL", method, path, id)
			ids[id] = true
			l.want(textAt(o, "summary") != "" && textAt(o, "description") != "", "%s: no summary or description", id)
			tags := list(o, "tags")
			l.want(len(tags) == 1 && defined[fmt.Sprint(tags[0])], "%s: tags %v", id, tags)
			for _, tag := range tags {
				used[fmt.Sprint(tag)] = true
			}
			l.want(method != "get" || at(o, "requestBody") == nil, "%s: a GET with a body", id)
			l.answers(id, members(o, "responses"))
			l.parameters(id, path, list(o, "parameters"))
		}
	}
	for tag := range defined {
		l.want(used[tag], "tag %s is not used", tag)
	}
}

func (l *lint) answers(id string, responses tree) {
	matches := func(r *regexp.Regexp) bool {
		return slices.ContainsFunc(slices.Collect(maps.Keys(responses)), r.MatchString)
	}
	l.want(matches(success) && matches(failure), "%s: no answer of 2xx, or none of 4xx", id)
	for code, r := range responses {
		l.want(textAt(r, "$ref") != "" || textAt(r, "description") != "", "%s: answer %s has no description", id, code)
	}
}

func (l *lint) parameters(id, path string, parameters []any) {
	inPath, names := map[string]bool{}, map[string]bool{}
	for _, p := range parameters {
		name, in := textAt(p, "name"), textAt(p, "in")
		l.want(!names[in+name], "%s: parameter %s twice", id, name)
		names[in+name] = true
		l.want(at(p, "required") != true || at(p, "schema", "default") == nil, "%s: parameter %s has a default and is required", id, name)
		l.want(textAt(p, "description") != "" && at(p, "schema") != nil, "%s: parameter %s has no description or schema", id, name)
		if in == "path" {
			inPath[name] = true
			l.want(at(p, "required") == true && strings.Contains(path, "{"+name+"}"), "%s: parameter %s is optional, or not in the path", id, name)
		}
	}
	for _, m := range braces.FindAllStringSubmatch(path, -1) {
		l.want(inPath[m[1]], "%s: {%s} is not a parameter", id, m[1])
	}
}

// walk looks at schemas and references, wherever they are.
func (l *lint) walk(where string, v any) {
	switch x := v.(type) {
	case []any:
		for i, inner := range x {
			l.walk(fmt.Sprintf("%s/%d", where, i), inner)
		}
	case tree:
		if to, ok := x["$ref"].(string); ok {
			rest, local := strings.CutPrefix(to, "#/")
			l.want(local && at(l.doc, strings.Split(rest, "/")...) != nil, "%s: %q leads nowhere", where, to)
		}
		if s, ok := x["description"].(string); ok {
			l.want(!strings.Contains(s, "<script") && !strings.Contains(s, "eval("), "%s: a description with a script", where)
		}
		if !strings.HasSuffix(where, "/properties") {
			l.schema(where, x)
		}
		for name, inner := range x {
			if name != "example" && name != "default" {
				l.walk(where+"/"+name, inner)
			}
		}
	}
}

// types are those of JSON Schema.
var types = []string{"object", "array", "string", "integer", "number", "boolean", "null"}

func (l *lint) schema(where string, x tree) {
	kind, typed := x["type"].(string)
	l.want(!typed || slices.Contains(types, kind) || !strings.Contains(where, "schema"), "%s: type %q", where, kind)
	l.want(kind != "array" || x["items"] != nil, "%s: a list without items", where)
	l.want(x["nullable"] == nil, "%s: nullable is of OpenAPI 3.0", where)
	seen := map[any]bool{}
	for _, word := range list(x, "enum") {
		_, isText := word.(string)
		l.want(!seen[word] && (kind != "string" || isText), "%s: %v is twice in the enum, or of another type", where, word)
		seen[word] = true
	}
	properties := members(x, "properties")
	for _, name := range list(x, "required") {
		p, there := properties[fmt.Sprint(name)]
		l.want(there, "%s: %v is required and not described", where, name)
		// Strict clients make the caller set what is required, a default or not.
		l.want(at(p, "default") == nil, "%s: %v has a default and is required", where, name)
	}
	// A later agent may have codes that a client of today does not know.
	l.want(len(list(x, "enum")) == 0 || !strings.HasSuffix(where, "/code"), "%s: the codes are a closed list", where)
}

// unused looks for components that nothing refers to.
func (l *lint) unused() {
	b, _ := json.Marshal(l.doc)
	for kind := range members(l.doc, "components") {
		if kind == "securitySchemes" { // named, and not referred to
			continue
		}
		for name := range members(l.doc, "components", kind) {
			l.want(strings.Contains(string(b), `"#/components/`+kind+"/"+name+`"`), "%s %s is not used", kind, name)
		}
	}
}

// read returns a document of this project.
func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile("../../" + file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRules: linters find nothing in each document.
func TestRules(t *testing.T) {
	for _, file := range []string{"api/openapi.json", "relying/openapi.json", "service/internal/worker/openapi.json"} {
		for _, f := range lintOf(read(t, file)) {
			t.Errorf("%s: %s", file, f)
		}
	}
}

// TestMistakes: each of these mistakes is found.
func TestMistakes(t *testing.T) {
	whole := read(t, "api/openapi.json")
	post := func(d tree) tree { return members(d, "paths", "/v1/evidence", "post") }
	measure := func(d tree) tree { return members(d, "paths", "/v1/apps/{name}/measure", "post") }
	schemas := func(d tree) tree { return members(d, "components", "schemas") }
	for name, spoil := range map[string]func(tree){
		"no license":       func(d tree) { delete(members(d, "info"), "license") },
		"no contact":       func(d tree) { delete(members(d, "info"), "contact") },
		"no server":        func(d tree) { d["servers"] = []any{} },
		"a server of docs": func(d tree) { members(list(d, "servers")[0])["url"] = "http://example.com" },
		"no security":      func(d tree) { delete(d, "security") },
		"unknown security": func(d tree) { d["security"] = []any{tree{"x": []any{}}} },
		"unused security": func(d tree) {
			members(d, "components")["securitySchemes"] = tree{"x": tree{"type": "mutualTLS", "description": "x"}}
		},
		"a tag twice":       func(d tree) { d["tags"] = append(list(d, "tags"), list(d, "tags")[0]) },
		"an unused tag":     func(d tree) { d["tags"] = append(list(d, "tags"), tree{"name": "x", "description": "x"}) },
		"an unknown tag":    func(d tree) { post(d)["tags"] = []any{"x"} },
		"no operationId":    func(d tree) { delete(post(d), "operationId") },
		"one operationId":   func(d tree) { post(d)["operationId"] = measure(d)["operationId"] },
		"id with a space":   func(d tree) { post(d)["operationId"] = "a b" },
		"no summary":        func(d tree) { delete(post(d), "summary") },
		"no description":    func(d tree) { delete(post(d), "description") },
		"no 4xx":            func(d tree) { delete(members(post(d), "responses"), "4XX") },
		"no 2xx":            func(d tree) { delete(members(post(d), "responses"), "200") },
		"nameless answer":   func(d tree) { delete(members(post(d), "responses", "200"), "description") },
		"no path parameter": func(d tree) { measure(d)["parameters"] = []any{} },
		"optional in path":  func(d tree) { members(list(measure(d), "parameters")[0])["required"] = false },
		"default in path":   func(d tree) { members(list(measure(d), "parameters")[0], "schema")["default"] = "x" },
		"parameter twice":   func(d tree) { p := list(measure(d), "parameters"); measure(d)["parameters"] = append(p, p[0]) },
		"slash at the end":  func(d tree) { members(d, "paths")["/v1/x/"] = members(d, "paths")["/v1/self"] },
		"two alike":         func(d tree) { members(d, "paths")["/v1/apps/{other}/measure"] = tree{} },
		"body of a GET":     func(d tree) { members(d, "paths", "/v1/self", "get")["requestBody"] = tree{} },
		"broken reference": func(d tree) {
			members(d, "components", "responses", "Problem", "content")["x"] = tree{"schema": tree{"$ref": "#/components/schemas/None"}}
		},
		"unused schema":      func(d tree) { schemas(d)["Unused"] = tree{"type": "object"} },
		"an unknown type":    func(d tree) { members(schemas(d), "Problem")["type"] = "record" },
		"list without items": func(d tree) { schemas(d)["Problem"] = tree{"type": "array"} },
		"nullable":           func(d tree) { members(schemas(d), "Problem")["nullable"] = true },
		"enum twice":         func(d tree) { members(schemas(d), "Problem")["enum"] = []any{"a", "a"} },
		"enum of numbers":    func(d tree) { schemas(d)["Problem"] = tree{"type": "string", "enum": []any{1.0}} },
		"required unknown":   func(d tree) { members(schemas(d), "Problem")["required"] = []any{"none"} },
		"required default":   func(d tree) { members(schemas(d), "Problem", "properties", "code")["default"] = "x" },
		"closed codes":       func(d tree) { members(schemas(d), "Problem", "properties", "code")["enum"] = []any{"a"} },
		"a script":           func(d tree) { post(d)["description"] = "<script>" },
	} {
		var d tree
		if err := json.Unmarshal(whole, &d); err != nil {
			t.Fatal(err)
		}
		spoil(d)
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		if len(lintOf(b)) == 0 {
			t.Errorf("%s is not found", name)
		}
	}
}
