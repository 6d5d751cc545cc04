// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/test/jsonschema"
)

var update = flag.Bool("update", false, "write api/openapi.json and the table of docs/api.md anew")

const openAPIFile = "../../../api/openapi.json"

// In OpenAPI documents.
type (
	object = jsonschema.Object
	member = [2]any
)

func reference(name string) object { return object{{"$ref", "#/components/schemas/" + name}} }

// tags group the operations, by the beginning of their paths. The first that fits counts.
var tags = []struct{ name, summary, paths string }{
	{"evidence", "Evidence, and the log that it contains.", "/v1/evidence /v1/log"},
	{"attestation-key", "The attestation key in the TPM, and its enrolment.", "/v1/ak"},
	{"apps", "Applications that are declared and measured.", "/v1/apps /v1/reload"},
	{"secrets", "Secrets of the calling application.", "/v1/keys /v1/seal /v1/unseal /v1/discard /v1/contract"},
	{"events", "What the calling application says of itself.", "/v1/events"},
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

func operationOf(d *jsonschema.Describer, r route) object {
	served := fmt.Sprintf("Served on the %s socket.", r.On)
	if r.On == api.OnBoth {
		served = "Served on both sockets."
	}
	o := object{{"operationId", r.Name}, {"summary", r.Summary}, {"description", fmt.Sprintf("%s The agent gives up after %v.", served, r.Timeout)},
		{"tags", []string{tagOf(r.Path)}}, {"x-agentd-socket", r.On}, {"x-agentd-seconds", r.Timeout.Seconds()}}
	var parameters []object
	if _, rest, ok := strings.Cut(r.Path, "{"); ok {
		name, _, _ := strings.Cut(rest, "}")
		parameters = append(parameters, object{{"name", name}, {"in", "path"}, {"required", true}, {"description", "Name of the app."}, {"schema", object{{"type", "string"}}}})
	}
	for _, p := range r.Query {
		s := object{{"type", "string"}}
		switch {
		case p.Number && p.Required:
			s = object{{"type", "integer"}, {"minimum", 1}, {"maximum", strictjson.MaxInteger}}
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
		content := object{{"schema", d.Structure(r.request, true)}, {"example", json.RawMessage(r.Example)}}
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
		answer = d.Structure(r.answer, false)
	}
	if r.Name == api.CallLog.Name {
		answer = object{{"oneOf", []object{answer, {{"type", "array"}, {"description", "TCG Canonical Event Log, JSON encoding."}, {"items", object{{"type", "object"}}}}}}}
	}
	content := object{{media, object{{"schema", answer}}}}
	if r.Name == api.CallMetrics.Name {
		content = append(content, member{api.OpenMetricsType, object{{"schema", answer}}})
	}
	return append(o, member{"responses", object{
		{"200", object{{"description", "Done."}, {"content", content}}},
		{"4XX", object{{"$ref", "#/components/responses/Problem"}}},
		{"default", object{{"$ref", "#/components/responses/Problem"}}}}})
}

// openAPI returns the document for the routes, their types and the codes.
func openAPI(t *testing.T) []byte {
	t.Helper()
	d := jsonschema.New(t, "../../..")
	var paths object
	for _, r := range routes {
		method := member{strings.ToLower(r.Method), operationOf(d, r)}
		i := slices.IndexFunc(paths, func(m member) bool { return m[0] == r.Path })
		if i < 0 {
			paths = append(paths, member{r.Path, object{method}})
			continue
		}
		others := paths[i][1].(object)
		if slices.ContainsFunc(others, func(m member) bool { return m[0] == method[0] }) {
			t.Fatalf("%s %s has two routes", r.Method, r.Path)
		}
		paths[i][1] = append(others, method)
	}
	d.Structure(reflect.TypeFor[api.Problem](), false)
	var schemas object
	for name, s := range d.Schemas {
		schemas = append(schemas, member{name, s})
	}
	slices.SortFunc(schemas, func(a, b member) int { return strings.Compare(a[0].(string), b[0].(string)) })
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
			{"contact", object{{"name", "agentd"}, {"url", "https://github.com/cvm-agentd/agentd"}}}, {"description", fmt.Sprintf("HTTP/1.1 over unix sockets: %s and %s. x-agentd-socket says which serves a route: client, admin or both, and x-agentd-seconds when the agent gives up. Members with the format password contain secrets. The kernel says who a caller is: there is no other authentication. Answers may gain members and words in later versions, so clients must ignore what they do not know. docs/api.md says the rest. This document is generated from the Go types.", api.Socket, api.AdminSocket)}}},
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
