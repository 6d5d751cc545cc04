// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/jsonschema"
	"github.com/cvm-agentd/agentd/verify"
)

var update = flag.Bool("update", false, "write relying/openapi.json anew")

// object and member are those of an OpenAPI document.
type (
	object = jsonschema.Object
	member = [2]any
)

// described are the body and the answer of each route that has a type for it, and an example.
var described = map[string]struct {
	request, answer reflect.Type
	example         string
	about           string
}{
	"challenge": {nil, reflect.TypeFor[Challenge](), `{}`, "Empty, or an object without members."},
	"appraise":  {reflect.TypeFor[Request](), reflect.TypeFor[Answer](), `{"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","evidence":{"type":"agentd/evidence/2"}}`, fmt.Sprintf("At most %d bytes, unless the service takes others: up to %d. The Content-Type is ignored.", DefaultBody, MaxBody)},
}

// describer returns one that knows the types of appraisals.
func describer(t *testing.T, hex bool) *jsonschema.Describer {
	claims, _ := reflect.TypeFor[verify.Appraisal]().FieldByName("Accepted")
	d := jsonschema.New(t, "..")
	d.Hex = hex
	d.As = map[reflect.Type]reflect.Type{claims.Type: reflect.TypeFor[verify.Claims](), reflect.TypeFor[verify.CheckID](): reflect.TypeFor[string]()}
	return d
}

// operation describes a route. Its codes say which status each answer has.
func operation(d *jsonschema.Describer, r route) object {
	x, media, answer := described[r.name], "application/json", object{{"type", "object"}}
	if r.name == "keys" {
		media = "application/jwk-set+json"
	}
	if x.answer != nil {
		answer = d.Structure(x.answer, false)
	}
	o := object{{"operationId", r.name}, {"summary", r.summary}, {"description", "Codes of failures: " + strings.Join(words(append(slices.Clone(r.codes), api.CodeInternal)), ", ") + "."}, {"tags", []string{"verifier"}}}
	if x.example != "" {
		schema := object{{"type", "object"}, {"additionalProperties", false}}
		if x.request != nil {
			schema = d.Structure(x.request, true)
		}
		content := object{{"application/json", object{{"schema", schema}, {"example", json.RawMessage(x.example)}}}}
		o = append(o, member{"requestBody", object{{"required", x.request != nil}, {"description", x.about}, {"content", content}}})
	}
	problem := object{{"$ref", "#/components/responses/Problem"}}
	return append(o, member{"responses", object{
		{"200", object{{"description", "Done."}, {"content", object{{media, object{{"schema", answer}}}}}}}, {"4XX", problem}, {"default", problem}}})
}

func words(codes []api.Code) (out []string) {
	for _, c := range codes {
		out = append(out, string(c))
	}
	return out
}

// document returns the OpenAPI document for the routes, their types and the codes.
func document(t *testing.T) []byte {
	t.Helper()
	d, appraisal := describer(t, false), describer(t, true)
	var codes []api.Code
	for _, x := range statuses {
		codes = append(codes, x.code)
	}
	d.Codes("docs/service.md", words(codes))
	var paths object
	for _, r := range routes {
		paths = append(paths, member{r.path, object{{strings.ToLower(r.method), operation(d, r)}}})
	}
	d.Structure(reflect.TypeFor[api.Problem](), false)
	appraisal.Structure(reflect.TypeFor[verify.Appraisal](), false)
	maps.Copy(d.Schemas, appraisal.Schemas) // byte strings are hexadecimal in it
	var schemas object
	for _, name := range slices.Sorted(maps.Keys(d.Schemas)) {
		schemas = append(schemas, member{name, d.Schemas[name]})
	}
	problem := object{{"description", "The failure."},
		{"headers", object{{"Retry-After", object{{"description", "Seconds, if waiting helps."}, {"schema", object{{"type", "integer"}}}}}}},
		{"content", object{{api.ProblemType, object{{"schema", object{{"$ref", "#/components/schemas/Problem"}}}}}}}}
	b, err := json.Marshal(object{
		{"openapi", "3.1.0"},
		{"info", object{{"title", "agentd verifier"}, {"version", "1"}, {"license", object{{"name", "Apache 2.0"}, {"identifier", "Apache-2.0"}}},
			{"contact", object{{"name", "agentd"}, {"url", "https://github.com/cvm-agentd/agentd"}}},
			{"description", "Verifies evidence for relying parties. The server that serves this says who may ask, and authenticates clients. Answers may gain members and words in later versions, so clients must ignore what they do not know. docs/service.md says the rest. This document is generated from the Go types."}}},
		{"servers", []object{{{"url", "/"}, {"description", "The server that has this document."}}}},
		{"security", []object{}},
		{"tags", []object{{{"name", "verifier"}, {"description", "Challenges, appraisals and the keys of tokens."}}}},
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

// TestOpenAPI compares openapi.json with the routes, the Go types and the codes, from which it is
// generated.
func TestOpenAPI(t *testing.T) {
	want := document(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openAPI, want) {
		t.Error("openapi.json does not describe the routes and types: run go test ./relying -run TestOpenAPI -update")
	}
}

// TestRoutes: the page about the service has each route and each code, each code has a status of its
// kind, and no route has a code that has none.
func TestRoutes(t *testing.T) {
	page, err := os.ReadFile("../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(meanings, "/docs/service.md#the-api") || !strings.Contains(string(page), "\n## The API\n") {
		t.Errorf("the type of problems, %s, is not the part of docs/service.md with their codes", meanings)
	}
	used := map[api.Code]bool{api.CodeNoSuchPath: true, api.CodeMethod: true, api.CodeInternal: true} // of every path
	for _, r := range routes {
		if !strings.Contains(string(page), "`"+r.method+" "+r.path+"`") {
			t.Errorf("docs/service.md lacks %s %s", r.method, r.path)
		}
		for _, c := range r.codes {
			used[c] = true
		}
	}
	for _, x := range statuses {
		if !strings.Contains(string(page), fmt.Sprintf("| %d | `%s` |", x.status, x.code)) {
			t.Errorf("docs/service.md lacks %d, %s", x.status, x.code)
		}
		if !used[x.code] || http.StatusText(x.status) == "" || !strings.HasSuffix(x.title, ".") {
			t.Errorf("%+v", x)
		}
		delete(used, x.code)
	}
	if len(used) > 0 {
		t.Errorf("codes without a status: %v", used)
	}
}
