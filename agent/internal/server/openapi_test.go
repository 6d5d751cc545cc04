// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

var update = flag.Bool("update", false, "write api/openapi.json and the table of docs/api.md anew")

const openAPIFile = "../../../api/openapi.json"

// An object is a JSON object whose members keep their order.
type object []member

type member struct {
	name  string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	encode.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", m.name)
		if err := encode.Encode(m.value); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// exactly is what the schema of a member says beyond its Go type.
var exactly = map[string]object{
	"Bank.algorithm": {{"enum", []string{"sha1", "sha256", "sha384", "sha512"}}},
	"Evidence.type":  {{"const", "agentd/evidence/2"}},
	"PCR.index":      {{"maximum", 23}},
	"Problem.status": {{"minimum", 400}, {"maximum", 599}},
	"Problem.type":   {{"format", "uri"}},
	"Statement.type": {{"const", evidence.StatementType}},
	"TreeHead.size":  {{"minimum", 1}, {"maximum", 4096}},
}

// A describer makes schemas of Go types, in the words of their comments.
type describer struct {
	t        *testing.T
	read     map[string]bool     // packages whose source was read
	comments map[string]string   // of a type, and of its fields by "Type.Field"
	words    map[string][]string // constants of a type
	schemas  map[string]object
}

func newDescriber(t *testing.T) *describer {
	return &describer{t: t, read: map[string]bool{}, comments: map[string]string{}, words: map[string][]string{}, schemas: map[string]object{}}
}

// source reads the comments and constants of a package of this module.
func (d *describer) source(path string) {
	if d.read[path] {
		return
	}
	d.read[path] = true
	dir := "../../../" + strings.TrimPrefix(path, "github.com/cvm-agentd/agentd/")
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		d.t.Fatalf("files of %s: %v, %v", dir, files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, x := range f.Decls {
			if g, ok := x.(*ast.GenDecl); ok {
				d.declarations(g)
			}
		}
	}
}

func (d *describer) declarations(g *ast.GenDecl) {
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.ValueSpec:
			if typ, ok := s.Type.(*ast.Ident); ok && g.Tok == token.CONST {
				if v, err := strconv.Unquote(s.Values[0].(*ast.BasicLit).Value); err == nil {
					d.words[typ.Name] = append(d.words[typ.Name], v)
				}
			}
		case *ast.TypeSpec:
			d.comments[s.Name.Name] = oneLine(s.Doc.Text() + g.Doc.Text())
			if typ, ok := s.Type.(*ast.StructType); ok {
				for _, f := range typ.Fields.List {
					for _, name := range f.Names {
						d.comments[s.Name.Name+"."+name.Name] = oneLine(f.Doc.Text() + f.Comment.Text())
					}
				}
			}
		}
	}
}

func oneLine(comment string) string {
	return strings.NewReplacer("[*", "", "[", "", "]", "").Replace(strings.Join(strings.Fields(comment), " "))
}

// sentence returns a comment as OpenAPI documents write a description.
func sentence(comment string) string {
	if comment == "" {
		return ""
	}
	return strings.ToUpper(comment[:1]) + strings.TrimSuffix(comment[1:], ".") + "."
}

func reference(name string) object { return object{{"$ref", "#/components/schemas/" + name}} }

// structure returns the schema of a struct. Requests are read strictly; answers may gain
// members.
func (d *describer) structure(typ reflect.Type, request bool) object {
	name := typ.Name()
	if d.schemas[name] != nil {
		return reference(name)
	}
	d.schemas[name] = object{} // for a type that contains itself
	d.source(typ.PkgPath())
	var properties object
	required := []string{}
	for f := range typ.Fields() {
		n, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !strings.HasPrefix(options, "omit") {
			required = append(required, n)
		}
		comment := sentence(d.comments[name+"."+f.Name])
		s := d.value(f.Type, request)
		if s[0].name != "$ref" && comment == "" {
			d.t.Errorf("%s.%s: describe the member in a comment", name, f.Name)
		}
		for _, x := range exactly[name+"."+n] {
			s = append(slices.DeleteFunc(s, func(m member) bool { return m.name == x.name }), x)
		}
		if comment != "" {
			s = append(s, member{"description", comment})
		}
		properties = append(properties, member{n, s})
	}
	out := object{{"type", "object"}, {"description", sentence(d.comments[name])}, {"properties", properties}, {"required", required}}
	if request {
		out = append(out, member{"additionalProperties", false})
	}
	d.schemas[name] = out
	return reference(name)
}

// value returns the schema of a member's type.
func (d *describer) value(typ reflect.Type, request bool) object {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[evidence.Bytes]():
		return object{{"type", "string"}, {"contentEncoding", "base64"}}
	case typ == reflect.TypeFor[evidence.Digest]():
		return object{{"type", "string"}, {"contentEncoding", "base64"}, {"minLength", 44}, {"maxLength", 44}}
	case typ == reflect.TypeFor[api.Code]():
		var words []string
		for _, c := range api.Codes() {
			words = append(words, string(c.Code))
		}
		d.schemas["Code"] = append(open(words), member{"description", "A kind of failure. docs/api.md says what each means. Later versions may add codes: treat one that is not listed by its status."})
		return reference("Code")
	case typ.Kind() == reflect.Struct:
		return d.structure(typ, false)
	case typ.Kind() == reflect.Slice:
		return object{{"type", "array"}, {"items", d.value(typ.Elem(), request)}}
	case typ.Kind() == reflect.String && typ.PkgPath() != "":
		d.source(typ.PkgPath())
		if d.words[typ.Name()] == nil {
			d.t.Errorf("type %s has no constants", typ)
		}
		if !request {
			return open(d.words[typ.Name()])
		}
		return object{{"type", "string"}, {"enum", d.words[typ.Name()]}}
	case typ.Kind() == reflect.String:
		return object{{"type", "string"}}
	case typ.Kind() == reflect.Bool:
		return object{{"type", "boolean"}}
	case typ.Kind() == reflect.Uint32:
		return object{{"type", "integer"}, {"minimum", 0}, {"maximum", 1<<32 - 1}}
	case reflect.Zero(typ).CanUint(), reflect.Zero(typ).CanInt():
		return object{{"type", "integer"}, {"minimum", 0}, {"maximum", strictjson.MaxInteger}}
	}
	d.t.Errorf("type %s has no schema", typ)
	return object{{"type", "null"}}
}

// open returns the schema of a word of an answer: those that this version knows, or any
// other text, since later versions may add words. A validator or a generated client that
// takes the list for complete would then refuse a good answer.
func open(words []string) object {
	return object{{"anyOf", []object{{{"type", "string"}, {"enum", words}}, {{"type", "string"}}}}}
}

// tags group the operations, by the beginning of their paths. The first that fits counts.
var tags = []struct{ name, summary, paths string }{
	{"evidence", "Evidence, and the log that it contains.", "/v1/evidence /v1/log"},
	{"attestation-key", "The attestation key in the TPM, and its enrolment.", "/v1/ak"},
	{"apps", "Applications that are declared and measured.", "/v1/apps /v1/reload"},
	{"secrets", "Secrets of the calling application.", "/v1/keys /v1/seal /v1/unseal /v1/discard /v1/contract"},
	{"store", "Administration of the sealed secrets.", "/v1/store"},
	{"agent", "The agent and its callers.", "/v1/"},
}

func tagOf(path string) string {
	for _, tag := range tags {
		for _, begin := range strings.Fields(tag.paths) {
			if strings.HasPrefix(path, begin) {
				return tag.name
			}
		}
	}
	return ""
}

func (d *describer) operation(r route) object {
	served := fmt.Sprintf("Served on the %s socket.", r.On)
	if r.On == api.OnBoth {
		served = "Served on both sockets."
	}
	o := object{{"operationId", r.Name}, {"summary", r.Summary}, {"description", fmt.Sprintf("%s The agent gives up after %v.", served, r.Timeout)},
		{"tags", []string{tagOf(r.Path)}}, {"x-agentd-socket", r.On}}
	var parameters []object
	if _, rest, ok := strings.Cut(r.Path, "{"); ok {
		name, _, _ := strings.Cut(rest, "}")
		parameters = append(parameters, object{{"name", name}, {"in", "path"}, {"required", true}, {"description", "Name of the app."}, {"schema", object{{"type", "string"}}}})
	}
	for _, p := range r.Query {
		s := object{{"type", "string"}}
		switch {
		case p.Number:
			s = object{{"type", "integer"}, {"minimum", 0}, {"maximum", strictjson.MaxInteger}, {"default", 0}}
		case p.Words != nil:
			s = append(s, member{"enum", p.Words}, member{"default", p.Words[0]})
		}
		parameters = append(parameters, object{{"name", p.Name}, {"in", "query"}, {"required", p.Required}, {"description", p.Summary}, {"schema", s}})
	}
	if parameters != nil {
		o = append(o, member{"parameters", parameters})
	}
	if r.request != reflect.TypeFor[api.None]() {
		content := object{{"schema", d.structure(r.request, true)}, {"example", json.RawMessage(r.Example)}}
		o = append(o, member{"requestBody", object{{"required", true},
			{"description", fmt.Sprintf("At most %d bytes. The Content-Type is ignored.", r.Body)},
			{"content", object{{"application/json", content}}}}}, member{"x-agentd-body-bytes", r.Body})
	}
	media := "application/json"
	var answer object
	switch r.answer {
	case reflect.TypeFor[api.Metrics]():
		media, answer = api.MetricsType, object{{"type", "string"}}
	case reflect.TypeFor[api.OpenAPI]():
		answer = object{{"type", "object"}, {"description", "This document."}}
	default:
		answer = d.structure(r.answer, false)
	}
	if r.Name == api.CallLog.Name {
		answer = object{{"oneOf", []object{answer, {{"type", "array"}, {"description", "TCG Canonical Event Log, JSON encoding."}, {"items", object{{"type", "object"}}}}}}}
	}
	return append(o, member{"responses", object{
		{"200", object{{"description", "Done."}, {"content", object{{media, object{{"schema", answer}}}}}}},
		{"4XX", object{{"$ref", "#/components/responses/Problem"}}},
		{"default", object{{"$ref", "#/components/responses/Problem"}}}}})
}

// openAPI returns the document for the routes, their types and the codes.
func openAPI(t *testing.T) []byte {
	t.Helper()
	d := newDescriber(t)
	var paths object
	for _, r := range routes {
		if slices.ContainsFunc(paths, func(m member) bool { return m.name == r.Path }) {
			t.Fatalf("%s has two routes", r.Path)
		}
		paths = append(paths, member{r.Path, object{{strings.ToLower(r.Method), d.operation(r)}}})
	}
	d.structure(reflect.TypeFor[api.Problem](), false)
	var schemas object
	for name, s := range d.schemas {
		schemas = append(schemas, member{name, s})
	}
	slices.SortFunc(schemas, func(a, b member) int { return strings.Compare(a.name, b.name) })
	problem := object{{"description", "The failure."},
		{"headers", object{{"Retry-After", object{{"description", "Seconds, if waiting helps."}, {"schema", object{{"type", "integer"}}}}}}},
		{"content", object{{api.ProblemType, object{{"schema", reference("Problem")}}}}}}
	var groups []object
	for _, tag := range tags {
		groups = append(groups, object{{"name", tag.name}, {"description", tag.summary}})
	}
	b, err := json.Marshal(object{
		{"openapi", "3.1.0"},
		{"info", object{{"title", "agentd"}, {"version", "1"}, {"license", object{{"name", "Apache 2.0"}, {"identifier", "Apache-2.0"}}},
			{"contact", object{{"name", "agentd"}, {"url", "https://github.com/cvm-agentd/agentd"}}}, {"description", fmt.Sprintf("HTTP/1.1 over unix sockets: %s and %s. x-agentd-socket says which serves a route: client, admin or both. The kernel says who a caller is: there is no other authentication. Answers may gain members and words in later versions, so clients must ignore what they do not know. docs/api.md says the rest. This document is generated from the Go types.", api.Socket, api.AdminSocket)}}},
		{"servers", []object{{{"url", "http://agentd"}, {"description", "The host is ignored: curl --unix-socket " + api.Socket}}}},
		{"security", []object{}},
		{"tags", groups},
		{"paths", paths},
		{"components", object{{"responses", object{{"Problem", problem}}}, {"schemas", schemas}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

// TestOpenAPI compares api/openapi.json with the routes, the Go types and the codes, from
// which it is generated.
func TestOpenAPI(t *testing.T) {
	want := openAPI(t)
	if *update {
		if err := os.WriteFile(openAPIFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal([]byte(read(t, openAPIFile)), want) {
		t.Errorf("%s does not describe the routes and types: run go test ./agent/internal/server -update", openAPIFile)
	}
}

// TestRoutes: each row of the table can be told from the others and is complete.
func TestRoutes(t *testing.T) {
	names := map[string]bool{}
	for _, r := range routes {
		if names[r.Name] || r.Name == "" || !strings.HasSuffix(r.Summary, ".") || r.Timeout <= 0 ||
			!slices.Contains([]api.Sockets{api.OnBoth, api.OnAdmin, api.OnClient}, r.On) {
			t.Errorf("%+v", r.Route)
		}
		names[r.Name] = true
		if none := r.request == reflect.TypeFor[api.None](); none != (r.Body == 0) || none != (r.Example == "") || none && r.Method != "POST" && r.Method != "GET" || !none && r.Method != "POST" {
			t.Errorf("%s: a body of %d bytes, example %q", r.Name, r.Body, r.Example)
		}
	}
}
