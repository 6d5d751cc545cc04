// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestOpenAPIForTools: openapi.json is what linters and generators of clients in other
// languages ask for. A list of words in an answer is open. A member of a request that may be
// left out has no default: generators of strict clients make such a member required.
func TestOpenAPIForTools(t *testing.T) {
	var d map[string]any
	if err := json.Unmarshal([]byte(read(t, openAPIFile)), &d); err != nil {
		t.Fatal(err)
	}
	at := func(v any, names ...string) any {
		for _, n := range names {
			m, _ := v.(map[string]any)
			v = m[n]
		}
		return v
	}
	for _, names := range [][]string{{"info", "license", "identifier"}, {"info", "contact", "url"}, {"info", "description"}, {"security"}, {"tags"}, {"servers"}} {
		if at(d, names...) == nil {
			t.Errorf("%v is missing", names)
		}
	}
	requests := map[string]bool{}
	operations := 0
	for path, methods := range at(d, "paths").(map[string]any) {
		for method, o := range methods.(map[string]any) {
			operations++
			for _, names := range [][]string{{"operationId"}, {"summary"}, {"description"}, {"tags"}, {"responses", "200", "content"}, {"responses", "4XX"}, {"responses", "default"}} {
				if at(o, names...) == nil {
					t.Errorf("%s %s: %v is missing", method, path, names)
				}
			}
			if ref, ok := at(o, "requestBody", "content", "application/json", "schema", "$ref").(string); ok {
				requests[ref[strings.LastIndexByte(ref, '/')+1:]] = true
			}
		}
	}
	if operations != len(routes) || len(requests) < 8 {
		t.Errorf("%d operations, %d requests", operations, len(requests))
	}
	for name, s := range at(d, "components", "schemas").(map[string]any) {
		lists := 0
		walk(s, func(x map[string]any, open bool) {
			if x["type"] == "array" && x["items"] == nil {
				t.Errorf("%s: a list without items", name)
			}
			if x["default"] != nil {
				t.Errorf("%s: a default", name)
			}
			if x["enum"] != nil {
				if lists++; open == requests[name] && name != "Bank" { // the banks of a TPM are in the format of evidence
					t.Errorf("%s: %v: an open list %v, want the opposite: the words of an answer are open, those of a request are not", name, x["enum"], open)
				}
			}
		})
		if requests[name] && at(s, "additionalProperties") != false {
			t.Errorf("%s: a request may have members that are not described", name)
		}
	}
}

// walk calls f for each schema, and says whether any other text is allowed in its place.
func walk(v any, f func(x map[string]any, open bool)) {
	var each func(v any, open bool)
	each = func(v any, open bool) {
		switch v := v.(type) {
		case map[string]any:
			f(v, open)
			for name, inner := range v {
				each(inner, name == "anyOf")
			}
		case []any:
			for _, inner := range v {
				each(inner, open)
			}
		}
	}
	each(v, false)
}
