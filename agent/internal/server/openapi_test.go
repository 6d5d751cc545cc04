// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// document is what the test reads of openapi.json.
type document struct {
	OpenAPI    string
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	OperationID string
	Socket      string `json:"x-agentd-socket"`
	Bytes       int64  `json:"x-agentd-body-bytes"`
	Parameters  []struct {
		Name, In string
		Required bool
	}
	RequestBody *struct {
		Required bool
		Content  map[string]struct{ Schema schema }
	}
	Responses map[string]struct {
		Ref     string `json:"$ref"`
		Content map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref                  string `json:"$ref"`
	Type                 string
	Properties           map[string]*schema
	Required             []string
	AdditionalProperties *bool
	Items                *schema
	OneOf                []schema
	Enum                 []string
	ContentEncoding      string
	Minimum, Maximum     *float64
	Description          string
}

func (s *schema) name() string { return strings.TrimPrefix(s.Ref, "#/components/schemas/") }

func parseOpenAPI(t *testing.T) *document {
	t.Helper()
	var d document
	if err := json.Unmarshal(api.OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(d.OpenAPI, "3.1.") {
		t.Fatalf("openapi %q", d.OpenAPI)
	}
	return &d
}

// TestOpenAPIRoutes holds table and document to each other, both ways.
func TestOpenAPIRoutes(t *testing.T) {
	d := parseOpenAPI(t)
	ids := map[string]bool{}
	served := map[string]bool{}
	for _, r := range Routes() {
		served[r.Method+" "+r.Path] = true
		o, ok := d.Paths[r.Path][strings.ToLower(r.Method)]
		if !ok {
			t.Errorf("%s %s is served and not described", r.Method, r.Path)
			continue
		}
		if ids[o.OperationID] || o.OperationID == "" {
			t.Errorf("%s %s: operationId %q", r.Method, r.Path, o.OperationID)
		}
		ids[o.OperationID] = true
		if want := string(r.On); o.Socket != want {
			t.Errorf("%s %s: socket %q, want %q", r.Method, r.Path, o.Socket, want)
		}
		if o.Bytes != r.Body {
			t.Errorf("%s %s: body of %d bytes, want %d", r.Method, r.Path, o.Bytes, r.Body)
		}
		var query []string
		braces := false
		for _, p := range o.Parameters {
			switch p.In {
			case "query":
				query = append(query, p.Name)
			case "path":
				braces = p.Required && strings.Contains(r.Path, "{"+p.Name+"}")
			}
		}
		if !slices.Equal(query, r.Query) || braces != strings.Contains(r.Path, "{") {
			t.Errorf("%s %s: parameters %v", r.Method, r.Path, o.Parameters)
		}
		got := ""
		if o.RequestBody != nil {
			s := o.RequestBody.Content["application/json"].Schema
			got = s.name()
		}
		if want := typeName(r.Request); got != want {
			t.Errorf("%s %s: request %q, want %q", r.Method, r.Path, got, want)
		}
		answer := o.Responses["200"].Content["application/json"].Schema
		if len(answer.OneOf) > 0 {
			answer = answer.OneOf[0]
		}
		if want := typeName(r.Response); answer.name() != want {
			t.Errorf("%s %s: answer %q, want %q", r.Method, r.Path, answer.name(), want)
		}
		if len(o.Responses) != 2 || len(o.Responses["200"].Content) != 1 {
			t.Errorf("%s %s: %d answers are described, want 200 and the problem", r.Method, r.Path, len(o.Responses))
		}
		if (o.RequestBody != nil) != (r.Request != nil) || o.RequestBody != nil && !o.RequestBody.Required {
			t.Errorf("%s %s: request body %v", r.Method, r.Path, o.RequestBody)
		}
		if o.Responses["default"].Ref != "#/components/responses/Problem" {
			t.Errorf("%s %s: no problem described", r.Method, r.Path)
		}
	}
	for path, operations := range d.Paths {
		for method := range operations {
			if !served[strings.ToUpper(method)+" "+path] {
				t.Errorf("%s %s is described and not served", method, path)
			}
		}
	}
}

func typeName(v any) string {
	if v == nil {
		return ""
	}
	return reflect.TypeOf(v).Name()
}

// TestOpenAPITypes holds the Go types and the schemas to each other, both ways.
func TestOpenAPITypes(t *testing.T) {
	d := parseOpenAPI(t)
	seen := map[string]bool{}
	requests := map[string]bool{}
	compareStruct(t, d, reflect.TypeFor[api.Problem](), seen)
	for _, r := range Routes() {
		if r.Request != nil {
			requests[typeName(r.Request)] = true
			compareStruct(t, d, reflect.TypeOf(r.Request), seen)
		}
		compareStruct(t, d, reflect.TypeOf(r.Response), seen)
	}
	for name, s := range d.Components.Schemas {
		if !seen[name] {
			t.Errorf("schema %s is described and used by no type", name)
		}
		// Requests are read strictly; answers may gain members.
		if strict := s.AdditionalProperties != nil && !*s.AdditionalProperties; strict != requests[name] {
			t.Errorf("schema %s: additionalProperties false is %v, want %v", name, strict, requests[name])
		}
		if s.Description == "" {
			t.Errorf("schema %s has no description", name)
		}
	}
}

func compareStruct(t *testing.T, d *document, typ reflect.Type, seen map[string]bool) {
	t.Helper()
	name := typ.Name()
	if seen[name] {
		return
	}
	seen[name] = true
	s := d.Components.Schemas[name]
	if s == nil {
		t.Errorf("type %s has no schema", name)
		return
	}
	members := map[string]bool{}
	for i := range typ.NumField() {
		f := typ.Field(i)
		member, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		members[member] = true
		p := s.Properties[member]
		if p == nil {
			t.Errorf("%s.%s is not described", name, member)
			continue
		}
		if required := slices.Contains(s.Required, member); required == strings.HasPrefix(options, "omit") {
			t.Errorf("%s.%s: required is %v, tag is %q", name, member, required, f.Tag)
		}
		if p.Ref == "" && p.Description == "" {
			t.Errorf("%s.%s has no description", name, member)
		}
		compareType(t, d, name+"."+member, f.Type, p, seen)
	}
	for member := range s.Properties {
		if !members[member] {
			t.Errorf("%s.%s is described and does not exist", name, member)
		}
	}
}

// words are the types of which the document lists the values.
var words = map[reflect.Type][]string{
	reflect.TypeFor[evidence.Freshness]():       {"fresh", "anchored"},
	reflect.TypeFor[evidence.Method]():          {"pidfd", "start-time"},
	reflect.TypeFor[evidence.ReportKind]():      {"sev-snp"},
	reflect.TypeFor[evidence.ExecutableState](): {"file", "replaced", "memfd", "unreadable"},
	reflect.TypeFor[api.LogMode]():              {"whole", "from", "none"},
	reflect.TypeFor[api.State]():                {"ok", "degraded", "absent"},
	reflect.TypeFor[api.AppState]():             {"measured", "unmeasured", "pending"},
	reflect.TypeFor[api.DigestAction]():         {"require", "authorize", "withdraw", "lift"},
	reflect.TypeFor[api.Code]():                 codeWords(),
}

func codeWords() (out []string) {
	for _, c := range api.Codes() {
		out = append(out, string(c.Code))
	}
	return out
}

func compareType(t *testing.T, d *document, where string, typ reflect.Type, s *schema, seen map[string]bool) {
	t.Helper()
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := ""
	switch {
	case typ == reflect.TypeFor[evidence.Bytes](), typ == reflect.TypeFor[evidence.Digest]():
		if s.ContentEncoding != "base64" {
			t.Errorf("%s: contentEncoding %q, want base64", where, s.ContentEncoding)
		}
		want = "string"
	case typ.Kind() == reflect.Struct:
		if s.name() != typ.Name() {
			t.Errorf("%s: schema %q, want %s", where, s.name(), typ.Name())
		}
		compareStruct(t, d, typ, seen)
	case typ.Kind() == reflect.Slice:
		want = "array"
		if s.Items == nil {
			t.Errorf("%s: items are not described", where)
			return
		}
		compareType(t, d, where+"[]", typ.Elem(), s.Items, seen)
	case typ.Kind() == reflect.String:
		if typ == reflect.TypeFor[api.Code]() {
			if s.name() != "Code" {
				t.Errorf("%s: schema %q, want Code", where, s.name())
			}
			s, seen["Code"] = d.Components.Schemas["Code"], true
		}
		want = "string"
		if list, ok := words[typ]; ok != (typ.PkgPath() != "") || ok && !slices.Equal(s.Enum, list) {
			t.Errorf("%s: words %v, want %v", where, s.Enum, list)
		}
	case typ.Kind() == reflect.Bool:
		want = "boolean"
	case reflect.Zero(typ).CanUint(), reflect.Zero(typ).CanInt():
		want = "integer"
		if typ.Kind() == reflect.Uint32 && s.Maximum == nil {
			t.Errorf("%s: no maximum", where)
		}
		if s.Minimum == nil {
			t.Errorf("%s: no minimum", where)
		}
	default:
		t.Errorf("%s: type %s is compared by nobody", where, typ)
	}
	if s.Type != want {
		t.Errorf("%s: type %q, want %q", where, s.Type, want)
	}
}
