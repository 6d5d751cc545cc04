// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
)

// document is what the test reads of openapi.json.
type document struct {
	Paths      map[string]map[string]operation
	Components struct{ Schemas map[string]*schema }
}

type operation struct {
	Responses map[string]struct {
		Content map[string]struct{ Schema schema }
	}
}

type schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Properties map[string]*schema
	Required   []string
	Items      *schema
	OneOf      []schema
	AnyOf      []schema
	Enum       []string
}

func (s *schema) name() string { return path.Base(s.Ref) } // below #/components/schemas or #/$defs

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
	for _, p := range r.Query {
		if p.Required {
			target += "?" + p.Name + "=billing"
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
			fits(t, d, route.Path, b, o.Responses["200"].Content["application/json"].Schema)
		}
		// A parameter that is not known is refused by every route, and so is the socket of some.
		_, b, p := ask(t, as(path, 1000), route.Method, route.Path+"?nothing=1", route.Example)
		if p == nil || p.Code != api.CodeUnknownParameter {
			t.Errorf("%s %s: %s", route.Method, route.Path, b)
		}
		fits(t, d, route.Path+" refused", b, *d.Components.Schemas["Problem"])
		if route.On != api.OnBoth {
			_, b, _ = ask(t, as(other, 1000), route.Method, exampleTarget(route), route.Example)
			fits(t, d, route.Path+" not permitted", b, *d.Components.Schemas["Problem"])
		}
		if route.Example != "" {
			for _, body := range []string{``, `{"nothing":1}`} {
				_, b, p := ask(t, as(path, 1000), route.Method, exampleTarget(route), body)
				if p == nil || p.Code != api.CodeMalformed && p.Code != api.CodeUnknownMember {
					t.Errorf("%s %s with %q: %s", route.Method, route.Path, body, b)
				}
				fits(t, d, route.Path+" refused", b, *d.Components.Schemas["Problem"])
			}
		}
	}
}

// fits compares an answer with a schema: every required member is there, none is unknown, and
// each has its type and one of its words.
func fits(t *testing.T, d *document, where string, b []byte, s schema) {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	fitsValue(t, d, where, v, &s)
}

func fitsValue(t *testing.T, d *document, where string, v any, s *schema) {
	t.Helper()
	if len(s.OneOf) > 0 {
		s = &s.OneOf[0]
	}
	if s.Ref != "" {
		s = d.Components.Schemas[s.name()]
	}
	if s != nil && len(s.AnyOf) > 0 { // the words that this version knows, which it must answer
		s = &s.AnyOf[0]
	}
	if s == nil {
		t.Errorf("%s: no such schema", where)
		return
	}
	got := ""
	switch x := v.(type) {
	case map[string]any:
		got = "object"
		for _, member := range s.Required {
			if _, ok := x[member]; !ok {
				t.Errorf("%s lacks %s", where, member)
			}
		}
		for member, inner := range x {
			if p := s.Properties[member]; p == nil {
				t.Errorf("%s.%s is not described", where, member)
			} else {
				fitsValue(t, d, where+"."+member, inner, p)
			}
		}
	case []any:
		got = "array"
		for i, inner := range x {
			fitsValue(t, d, fmt.Sprintf("%s[%d]", where, i), inner, s.Items)
		}
	case string:
		if got = "string"; s.Enum != nil && x != "" && !slices.Contains(s.Enum, x) {
			t.Errorf("%s: %q is not one of %v", where, x, s.Enum)
		}
	case bool:
		got = "boolean"
	case float64:
		got = "integer"
	}
	if got != s.Type {
		t.Errorf("%s: %s, want %s", where, got, s.Type)
	}
}
