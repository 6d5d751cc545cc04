// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/test/jsonschema"
)

var update = flag.Bool("update", false, "write openapi.json anew")

// object and member are those of an OpenAPI document.
type (
	object = jsonschema.Object
	member = [2]any
)

// described are the body and the answer of each route, and an example of the body. A page has no answer.
var described = map[string]struct {
	request, answer reflect.Type
	example         string
}{
	"listPolicies":   {answer: reflect.TypeFor[PolicyList]()},
	"getPolicy":      {answer: reflect.TypeFor[store.Policy]()},
	"putPolicy":      {reflect.TypeFor[PutPolicy](), reflect.TypeFor[store.Policy](), `{"text":"version = 1\n","audience":"https://vault.example","after":0}`},
	"withdrawPolicy": {answer: reflect.TypeFor[store.Policy]()},
	"listEnrolments": {answer: reflect.TypeFor[EnrolmentList]()},
	"addEnrolment": {reflect.TypeFor[keys.Enrolment](), reflect.TypeFor[ChangedEnrolment](),
		`{"type":"agentd/enrolment/1","ek":"000b00","ak":"000b01","ekIssuer":"none","enrolled":"2026-01-31T12:00:00Z"}`},
	"approveEnrolment": {answer: reflect.TypeFor[ChangedEnrolment]()},
	"removeEnrolment":  {answer: reflect.TypeFor[ChangedEnrolment]()},
	"listRecords":      {answer: reflect.TypeFor[RecordList]()},
	"getRecord":        {answer: reflect.TypeFor[Record]()},
	"getRecordPage":    {},
	"getHead":          {answer: reflect.TypeFor[store.Head]()},
	"listMachines":     {answer: reflect.TypeFor[MachineList]()},
	"getFleet":         {answer: reflect.TypeFor[store.Fleet]()},
	"getFleetPage":     {},
	"openapi":          {answer: reflect.TypeFor[document]()},
}

func textOf(more ...member) object { return append(object{{"type", "string"}}, more...) }

func whole(least int) object {
	return object{{"type", "integer"}, {"minimum", least}, {"maximum", 1<<53 - 1}}
}

var hexadecimal = textOf(member{"pattern", "^([0-9a-f]{2})+$"})

// parameterOf describes the parameters of paths and queries. The key of one that means something else
// in a route has the route before it.
var parameterOf = map[string]struct {
	schema object
	about  string
}{
	"name":                 {textOf(member{"pattern", settings.PolicyName.String()}), "Name of a policy."},
	"ak":                   {hexadecimal, "Name of an attestation key."},
	"sequence":             {whole(1), "Number of a record."},
	"version":              {whole(0), "A version; 0 or absent: the newest."},
	"state":                {textOf(member{"enum", []keys.State{keys.Pending, keys.Approved}}), "Only enrolments of this state."},
	"listEnrolments.after": {hexadecimal, "Attestation key of the last enrolment of the page before."},
	"listRecords.after":    {whole(0), "Number of the last record of the page before."},
	"after":                {textOf(member{"maxLength", maxFilter}), "What the page before has as after."},
	"policy":               {textOf(member{"maxLength", maxFilter}), "Only machines under this policy."},
	"verdict":              {textOf(member{"enum", []string{"pass", "fail"}}), "Only machines with this verdict."},
	"product":              {textOf(member{"maxLength", maxFilter}), "Only machines with this product."},
	"tcb":                  {textOf(member{"maxLength", maxFilter}), "Only machines with this reported TCB, as lists have it."},
	"measurement":          {textOf(member{"maxLength", maxFilter}), "Only machines with this launch measurement."},
	"older":                {textOf(member{"enum", slices.Sorted(maps.Keys(olders))}), "Only machines that were not accepted for so long."},
}

var braces = regexp.MustCompile(`\{([a-z]+)\}`)

// parameters describes those of a route.
func parameters(t *testing.T, r *route) (out []object) {
	add := func(name, in string) {
		x, ok := parameterOf[r.name+"."+name]
		if !ok {
			x, ok = parameterOf[name]
		}
		if !ok {
			t.Errorf("%s: parameter %s is not described", r.name, name)
		}
		out = append(out, object{{"name", name}, {"in", in}, {"required", in == "path"}, {"description", x.about}, {"schema", x.schema}})
	}
	for _, m := range braces.FindAllStringSubmatch(r.pattern, -1) {
		add(m[1], "path")
	}
	for _, name := range r.parameters {
		add(name, "query")
	}
	return out
}

// operation describes a route.
func operation(t *testing.T, d *jsonschema.Describer, r *route) object {
	x, known := described[r.name]
	if !known {
		t.Errorf("%s is not described", r.name)
	}
	media, answer := "application/json", object{{"type", "object"}}
	switch {
	case x.answer == nil:
		media, answer = "text/html", textOf()
	case x.answer.Kind() == reflect.Struct:
		answer = d.Structure(x.answer, false)
	}
	o := object{{"operationId", r.name}, {"summary", r.summary}, {"description", "Codes of failures: " + strings.Join(words(slices.Concat(r.codes, ofAll)), ", ") + "."}, {"tags", []string{"administration"}}}
	if p := parameters(t, r); len(p) > 0 {
		o = append(o, member{"parameters", p})
	}
	if x.request != nil {
		content := object{{"application/json", object{{"schema", d.Structure(x.request, true)}, {"example", json.RawMessage(x.example)}}}}
		o = append(o, member{"requestBody", object{{"required", true}, {"content", content}}})
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

// documentOf returns the OpenAPI document for the routes, their types and the codes.
func documentOf(t *testing.T) []byte {
	t.Helper()
	d := jsonschema.New(t, "../../..")
	d.Codes("docs/verifier-service.md", slices.Sorted(slices.Values(words(slices.Collect(maps.Keys(statuses))))))
	var paths object
	at := map[string]int{}
	for _, r := range routes {
		method, path, _ := strings.Cut(r.pattern, " ")
		o := member{strings.ToLower(method), operation(t, d, &r)}
		if i, there := at[path]; there {
			paths[i][1] = append(paths[i][1].(object), o)
			continue
		}
		at[path] = len(paths)
		paths = append(paths, member{path, object{o}})
	}
	d.Structure(reflect.TypeFor[api.Problem](), false)
	var schemas object
	for _, name := range slices.Sorted(maps.Keys(d.Schemas)) {
		schemas = append(schemas, member{name, d.Schemas[name]})
	}
	problem := object{{"description", "The failure."},
		{"headers", object{{"Retry-After", object{{"description", "Seconds, if waiting helps."}, {"schema", object{{"type", "integer"}}}}}}},
		{"content", object{{api.ProblemType, object{{"schema", object{{"$ref", "#/components/schemas/Problem"}}}}}}}}
	b, err := json.Marshal(object{
		{"openapi", "3.1.0"},
		{"info", object{{"title", "agentd verifier, for administrators"}, {"version", "1"}, {"license", object{{"name", "Apache 2.0"}, {"identifier", "Apache-2.0"}}},
			{"contact", object{{"name", "agentd"}, {"url", "https://github.com/cvm-agentd/agentd"}}},
			{"description", "Policies, enrolments, records and machines of agentd-verifier, on the listener of administrators. Answers may gain members and words in later versions, so clients must ignore what they do not know. docs/verifier-service.md says the rest. This document is generated from the Go types."}}},
		{"servers", []object{{{"url", "/"}, {"description", "The listener of administrators."}}}},
		{"security", []object{{{"certificate", []string{}}}, {{"token", []string{}}}}},
		{"tags", []object{{{"name", "administration"}, {"description", "What an administrator sees and changes."}}}},
		{"paths", paths},
		{"components", object{{"responses", object{{"Problem", problem}}}, {"schemas", schemas}, {"securitySchemes", object{
			{"certificate", object{{"type", "mutualTLS"}, {"description", "A certificate of admin.client_ca, with one of admin.names."}}},
			{"token", object{{"type", "http"}, {"scheme", "bearer"}, {"bearerFormat", "JWT"}, {"description", "An ID token of admin.oidc.issuer."}}}}}}},
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
	want := documentOf(t)
	if *update {
		if err := os.WriteFile("openapi.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(openAPI, want) {
		t.Error("openapi.json does not describe the routes and types: run go test ./internal/worker -run TestOpenAPI -update")
	}
}

// TestRoutes: the page about the service has each route, and the codes of each route have a status.
func TestRoutes(t *testing.T) {
	b, err := os.ReadFile("../../../docs/verifier-service.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.NewReplacer("/NAME", "/{name}", "/AK", "/{ak}", "/SEQUENCE", "/{sequence}").Replace(string(b))
	names := map[string]bool{}
	for _, r := range routes {
		if !strings.Contains(page, "`"+r.pattern+"`") {
			t.Errorf("docs/verifier-service.md lacks %s", r.pattern)
		}
		if names[r.name] || !strings.HasSuffix(r.summary, ".") {
			t.Errorf("%+v", r)
		}
		names[r.name] = true
		for _, c := range append(r.codes, ofAll...) {
			if x, ok := statuses[c]; !ok || http.StatusText(x.status) == "" {
				t.Errorf("%s: code %s has no status", r.name, c)
			}
		}
	}
	for name := range described {
		if !names[name] {
			t.Errorf("%s is described, and not a route", name)
		}
	}
	if n := len(names); n < 15 {
		t.Error(fmt.Sprint(n, " routes"))
	}
}
