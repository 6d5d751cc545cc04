// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/test/jsonschema"
)

// document is what the test reads of openapi.json.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*jsonschema.Schema }
}

type operation struct {
	Responses map[string]struct {
		Content map[string]struct{ Schema jsonschema.Schema }
	}
}

func parseOpenAPI(t *testing.T) *document {
	t.Helper()
	var d document
	if err := json.Unmarshal([]byte(read(t, openAPIFile)), &d); err != nil {
		t.Fatal(err)
	}
	return &d
}

// exampleTarget returns the path of a route with what has to be filled in.
func exampleTarget(r route) string {
	target := strings.Replace(r.Path, "{name}", "billing", 1)
	sign := "?"
	for _, p := range r.Query {
		if p.Required {
			value := "billing"
			if p.Number {
				value = "1"
			}
			target += sign + p.Name + "=" + value
			sign = "&"
		}
	}
	return target
}

// TestOpenAPIAnswers: what a route answers is what the document says that it answers,
// and what refuses it, a problem as described.
func TestOpenAPIAnswers(t *testing.T) {
	d := parseOpenAPI(t)
	r := run(t, &fake{}, Limits{}, nil)
	for _, route := range routes {
		o := d.Paths[route.Path][strings.ToLower(route.Method)]
		path, other := r.client, r.admin
		if route.On == api.OnAdmin {
			path, other = other, path
		}
		status, b, _ := ask(t, as(path, 1000), route.Method, exampleTarget(route), route.Example)
		if status != 200 {
			t.Errorf("%s %s: %d %s", route.Method, route.Path, status, b)
			continue
		}
		if route.Path == api.CallMetrics.Path {
			if o.Responses["200"].Content[api.MetricsType].Schema.Type != "string" {
				t.Errorf("%s is not described as text", route.Path)
			}
		} else if route.Path == api.CallOpenAPI.Path {
			if !bytes.Equal(b, []byte(read(t, openAPIFile))) {
				t.Errorf("%s is not %s", route.Path, openAPIFile)
			}
		} else if route.Path != api.CallEvidence.Path { // that of the double is none; its encoding is package evidence's
			jsonschema.Fits(t, d.Components.Schemas, route.Path, b, o.Responses["200"].Content["application/json"].Schema)
		}
		// A parameter that is not known is refused by every route, and so is the socket of some.
		_, b, p := ask(t, as(path, 1000), route.Method, route.Path+"?nothing=1", route.Example)
		if p == nil || p.Code != api.CodeUnknownParameter {
			t.Errorf("%s %s: %s", route.Method, route.Path, b)
		}
		jsonschema.Fits(t, d.Components.Schemas, route.Path+" refused", b, *d.Components.Schemas["Problem"])
		if route.On != api.OnBoth {
			_, b, _ = ask(t, as(other, 1000), route.Method, exampleTarget(route), route.Example)
			jsonschema.Fits(t, d.Components.Schemas, route.Path+" not permitted", b, *d.Components.Schemas["Problem"])
		}
		if route.Example != "" {
			for _, body := range []string{``, `{"nothing":1}`} {
				_, b, p := ask(t, as(path, 1000), route.Method, exampleTarget(route), body)
				if p == nil || p.Code != api.CodeMalformed && p.Code != api.CodeUnknownMember {
					t.Errorf("%s %s with %q: %s", route.Method, route.Path, body, b)
				}
				jsonschema.Fits(t, d.Components.Schemas, route.Path+" refused", b, *d.Components.Schemas["Problem"])
			}
		}
	}
}
