// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/jsonschema"
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

// TestSchemas compares api/schemas with the Go types, from which they are generated.
func TestSchemas(t *testing.T) {
	for name, typ := range documents {
		file := filepath.Join(schemaFolder, name+".json")
		want := jsonschema.New(t, "../../..").Document(name, typ)
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
	jsonschema.FitsFile(t, filepath.Join(schemaFolder, "evidence.json"), "the evidence", b)
	e, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	jsonschema.FitsFile(t, filepath.Join(schemaFolder, "statement.json"), "its statement", e.Statement)
}
