// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/jsonschema"
)

// TestAdministratorsDocument: the answers of a worker to administrators are as its OpenAPI document says,
// for each of its requests, and a parameter that it does not have is refused.
func TestAdministratorsDocument(t *testing.T) {
	b := newBed(t, false)
	w := b.start("one")
	alice := b.alice()
	type content map[string]struct{ Schema jsonschema.Schema }
	var doc struct {
		Paths map[string]map[string]struct {
			Parameters []struct{ Name, In string }
			Responses  map[string]struct{ Content content }
		}
		Components struct {
			Schemas   map[string]*jsonschema.Schema
			Responses map[string]struct{ Content content }
		}
	}
	if code, err := ask(alice, "GET", w.admin+"/admin/v1/openapi.json", nil, &doc); err != nil || code != 200 || len(doc.Paths) < 10 {
		t.Fatalf("%d, %v, %d paths", code, err, len(doc.Paths))
	}
	ak, err := keys.ParsePublic(evidencetest.New().AK.Public())
	if err != nil {
		t.Fatal(err)
	}
	name := ak.Name().String()
	record := fmt.Sprintf(`{"type":%q,"ek":"000b%064x","ak":%q,"ekIssuer":"none","enrolled":"2031-01-01T00:00:00Z"}`, keys.EnrolmentType, 1, name)
	put := `{"text":"version = 1\nunlisted_launch = \"allow\"\n"}`
	values := map[string]string{"policy": "default", "verdict": "pass", "product": "genoa", "tcb": "x", "measurement": "00", "older": "1h", "state": "pending", "version": "1",
		"machines.after": "default " + name, "page.after": "default " + name, "enrolments.after": name, "records.after": "0"}
	asked := map[string]bool{}
	for _, x := range []struct{ method, path, at, body string }{
		{"PUT", "/policies/{name}", "default", put},
		{"POST", "/enrolments", "", record},
		{"GET", "/enrolments", "", ""},
		{"POST", "/enrolments/{ak}/approve", name, ""},
		{"GET", "/policies", "", ""},
		{"GET", "/policies/{name}", "default", ""},
		{"GET", "/records", "", ""},
		{"GET", "/records/{sequence}", "4", ""},
		{"GET", "/records/{sequence}", "1", ""},
		{"GET", "/records/{sequence}/page", "4", ""},
		{"GET", "/head", "", ""},
		{"GET", "/machines", "", ""},
		{"GET", "/fleet", "", ""},
		{"GET", "/fleet/page", "", ""},
		{"GET", "/openapi.json", "", ""},
		{"DELETE", "/enrolments/{ak}", name, ""},
		{"DELETE", "/policies/{name}", "default", ""},
	} {
		if x.path == "/policies" {
			w.appraise("", nil) // record 4
		}
		what := x.method + " " + x.path
		operation, described := doc.Paths["/admin/v1"+x.path][strings.ToLower(x.method)]
		if !described {
			t.Errorf("%s is not in the document", what)
		}
		asked[what] = true
		send := func(query string) (int, string, []byte) {
			t.Helper()
			path := x.path
			if i, j := strings.Index(path, "{"), strings.Index(path, "}"); i >= 0 {
				path = path[:i] + x.at + path[j+1:]
			}
			r, err := http.NewRequest(x.method, w.admin+"/admin/v1"+path+query, bytes.NewReader([]byte(x.body)))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := alice.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			said, err := io.ReadAll(answer.Body)
			if err != nil {
				t.Fatal(err)
			}
			media, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
			return answer.StatusCode, media, said
		}
		code, media, said := send("?nothing=1")
		if code != 400 || !strings.Contains(string(said), `"unknown-parameter"`) {
			t.Errorf("%s?nothing=1: %d, %.200s", what, code, said)
		}
		jsonschema.Fits(t, doc.Components.Schemas, what+": a problem", said, doc.Components.Responses["Problem"].Content[media].Schema)
		code, media, said = send("")
		answer, described := operation.Responses["200"].Content[media]
		switch {
		case code != 200 || !described:
			t.Errorf("%s: %d, %s, %.200s", what, code, media, said)
		case media != "application/json" || x.path == "/openapi.json":
		case x.path == "/records/{sequence}": // the appraisal has a schema elsewhere
			var short map[string]any
			if err := json.Unmarshal(said, &short); err != nil || (short["appraisal"] != nil) != (x.at == "4") {
				t.Errorf("%s: %v, %.200s", what, err, said)
			}
			delete(short, "appraisal")
			if said, err = json.Marshal(short); err != nil {
				t.Fatal(err)
			}
			fallthrough
		default:
			jsonschema.Fits(t, doc.Components.Schemas, what, said, answer.Schema)
		}
		for _, p := range operation.Parameters {
			if p.In != "query" {
				continue
			}
			value := values[p.Name]
			if of, ok := values[x.path[strings.LastIndex(x.path, "/")+1:]+"."+p.Name]; ok {
				value = of
			}
			if code, _, said := send("?" + p.Name + "=" + strings.ReplaceAll(value, " ", "+")); code != 200 {
				t.Errorf("%s?%s=%s: %d, %.200s", what, p.Name, value, code, said)
			}
		}
	}
	for path, item := range doc.Paths {
		for method := range item {
			if what := strings.ToUpper(method) + " " + strings.TrimPrefix(path, "/admin/v1"); !asked[what] {
				t.Errorf("%s was not asked", what)
			}
		}
	}
}
