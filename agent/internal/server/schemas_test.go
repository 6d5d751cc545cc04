// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

const schemaFolder = "../../../api/schemas"

// documents are the types of JSON documents that programs keep or read from commands, by
// the name of the schema.
var documents = map[string]reflect.Type{
	"evidence":  reflect.TypeFor[evidence.Evidence](),
	"statement": reflect.TypeFor[evidence.Statement](),
	"status":    reflect.TypeFor[api.Status](),
	"problem":   reflect.TypeFor[api.Problem](),
}

// jsonSchema returns the schema of a type as a document of its own.
func jsonSchema(t *testing.T, name string, typ reflect.Type) []byte {
	t.Helper()
	d := newDescriber(t)
	d.structure(typ, false)
	var parts object
	for n, s := range d.schemas {
		parts = append(parts, member{n, s})
	}
	slices.SortFunc(parts, func(a, b member) int { return strings.Compare(a.name, b.name) })
	b, err := json.Marshal(object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", "https://github.com/cvm-agentd/agentd/schemas/" + name + ".json"},
		{"$comment", "Generated from the Go types."},
		reference(typ.Name())[0],
		{"$defs", parts},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.ReplaceAll(b, []byte(`"#/components/schemas/`), []byte(`"#/$defs/`)), "", "  "); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}

// TestSchemas compares api/schemas with the Go types, from which they are generated.
func TestSchemas(t *testing.T) {
	for name, typ := range documents {
		file := filepath.Join(schemaFolder, name+".json")
		want := jsonSchema(t, name, typ)
		if *update {
			if err := os.WriteFile(file, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !bytes.Equal([]byte(read(t, file)), want) {
			t.Errorf("%s does not describe %v: run go test ./agent/internal/server -update", file, typ)
		}
	}
	files, err := filepath.Glob(schemaFolder + "/*.json")
	if err != nil || len(files) != len(documents) {
		t.Errorf("%d schemas, want %d: %v", len(files), len(documents), err)
	}
}

// TestSchemasOfExample: the evidence of docs/example is what its schema says, and so is the
// statement in it.
func TestSchemasOfExample(t *testing.T) {
	b := []byte(read(t, "../../../docs/example/evidence.json"))
	fitsSchema(t, "evidence", b)
	e, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	fitsSchema(t, "statement", e.Statement)
}

func fitsSchema(t *testing.T, name string, b []byte) {
	t.Helper()
	var s struct {
		Ref  string             `json:"$ref"`
		Defs map[string]*schema `json:"$defs"`
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(schemaFolder, name+".json"))), &s); err != nil {
		t.Fatal(err)
	}
	var d document
	d.Components.Schemas = s.Defs
	fits(t, &d, name, b, *s.Defs[path.Base(s.Ref)])
}
