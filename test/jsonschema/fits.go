// SPDX-License-Identifier: Apache-2.0

package jsonschema

import (
	"encoding/json"
	"fmt"
	"os"
	"path"
	"regexp"
	"slices"
	"testing"
)

// A Schema is what this package reads of a JSON Schema.
type Schema struct {
	Ref        string `json:"$ref"`
	Type       string
	Properties map[string]*Schema
	Additional any `json:"additionalProperties"`
	Required   []string
	Items      *Schema
	OneOf      []Schema
	AnyOf      []Schema
	Enum       []string
	Pattern    string
	Const      any
}

// FitsFile compares a document with the schema in a file, as [Fits] does.
func FitsFile(t *testing.T, file, where string, b []byte) {
	t.Helper()
	var s struct {
		Ref  string             `json:"$ref"`
		Defs map[string]*Schema `json:"$defs"`
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil || s.Defs[path.Base(s.Ref)] == nil {
		t.Fatalf("schema %s: %v", file, err)
	}
	Fits(t, s.Defs, where, b, *s.Defs[path.Base(s.Ref)])
}

// Fits compares an answer with a schema and those that it refers to: every required member is
// there, none is unknown, and each has its type, its pattern and one of its words.
func Fits(t *testing.T, parts map[string]*Schema, where string, b []byte, s Schema) {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	fitsValue(t, parts, where, v, &s)
}

func fitsValue(t *testing.T, parts map[string]*Schema, where string, v any, s *Schema) {
	t.Helper()
	if s != nil && len(s.OneOf) > 0 {
		s = &s.OneOf[0]
	}
	if s != nil && s.Ref != "" {
		s = parts[path.Base(s.Ref)] // below #/components/schemas or #/$defs
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
		fitsObject(t, parts, where, x, s)
	case []any:
		got = "array"
		for i, inner := range x {
			fitsValue(t, parts, fmt.Sprintf("%s[%d]", where, i), inner, s.Items)
		}
	case string:
		got = "string"
		fitsText(t, where, x, s)
	case bool:
		got = "boolean"
	case float64:
		if got = "integer"; s.Type == "number" || x != float64(int64(x)) {
			got = "number"
		}
	}
	if got != s.Type {
		t.Errorf("%s: %s, want %s", where, got, s.Type)
	}
	if s.Const != nil && v != s.Const {
		t.Errorf("%s: %v, want %v", where, v, s.Const)
	}
}

func fitsObject(t *testing.T, parts map[string]*Schema, where string, v map[string]any, s *Schema) {
	t.Helper()
	for _, member := range s.Required {
		if _, ok := v[member]; !ok {
			t.Errorf("%s lacks %s", where, member)
		}
	}
	var others *Schema
	if _, described := s.Additional.(map[string]any); described {
		others = new(Schema)
		if b, err := json.Marshal(s.Additional); err != nil || json.Unmarshal(b, others) != nil {
			t.Fatalf("%s: additionalProperties %v", where, s.Additional)
		}
	}
	for member, inner := range v {
		p := s.Properties[member]
		if p == nil {
			p = others
		}
		if p == nil {
			t.Errorf("%s.%s is not described", where, member)
			continue
		}
		fitsValue(t, parts, where+"."+member, inner, p)
	}
}

func fitsText(t *testing.T, where, v string, s *Schema) {
	t.Helper()
	if s.Enum != nil && v != "" && !slices.Contains(s.Enum, v) {
		t.Errorf("%s: %q is not one of %v", where, v, s.Enum)
	}
	if s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v) {
		t.Errorf("%s: %q does not match %s", where, v, s.Pattern)
	}
}
