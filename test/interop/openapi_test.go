// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
)

// documents are the OpenAPI documents of this project, with how many requests have an example.
var documents = map[string]int{"../../api/openapi.json": 10, "../../relying/openapi.json": 2, "../../service/internal/worker/openapi.json": 2}

// openAPI returns a validator of a document, after a change of its text.
func openAPI(t *testing.T, file, old, replacement string) validator.Validator {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(b, []byte(old), []byte(replacement), 1)
	if old != "" && bytes.Equal(changed, b) {
		t.Fatalf("%q is not in the document", old)
	}
	d, err := libopenapi.NewDocument(changed)
	if err != nil {
		t.Fatal(err)
	}
	v, errs := validator.NewValidator(d)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	return v
}

// TestOpenAPIDocument: each document is one of OpenAPI 3.1 to a library of others, which finds what is
// not: a version, a place or a type that there is not.
func TestOpenAPIDocument(t *testing.T) {
	for file := range documents {
		if ok, errs := openAPI(t, file, "", "").ValidateDocument(); !ok {
			for _, e := range errs {
				t.Errorf("%s: %v", file, e)
			}
		}
		changes := [][2]string{{`"required": true,`, `"required": "yes",`}, {`"paths": {`, `"paths": {"x": 1,`}, {`"version": "1",`, ``}}
		if strings.Contains(file, "/api/") {
			changes = append(changes, [2]string{`"in": "path"`, `"in": "body"`}, [2]string{`"title": "agentd",`, ``})
		}
		for _, c := range changes {
			if ok, _ := openAPI(t, file, c[0], c[1]).ValidateDocument(); ok {
				t.Errorf("%s: %q in place of %q is not found", file, c[1], c[0])
			}
		}
	}
}

// TestOpenAPIExamples: the example of each request is a request to that library, and with a member that
// is a list, and no list, it is not.
func TestOpenAPIExamples(t *testing.T) {
	for file, least := range documents {
		testExamples(t, file, least)
	}
}

func testExamples(t *testing.T, file string, least int) {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Paths map[string]map[string]struct {
			RequestBody struct {
				Content map[string]struct{ Example json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	v := openAPI(t, file, "", "")
	request := func(method, path string, body []byte) bool {
		r, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), "http://agentd"+strings.ReplaceAll(path, "{name}", "billing"), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer e30.e30.e30") // that of administrators asks for one
		ok, errs := v.ValidateHttpRequest(r)
		for _, e := range errs {
			t.Logf("%s %s: %s: %s", method, path, e.Message, e.Reason)
		}
		return ok
	}
	n := 0
	for path, item := range doc.Paths {
		for method, o := range item {
			example := o.RequestBody.Content["application/json"].Example
			if example == nil {
				continue
			}
			if n++; !request(method, path, example) {
				t.Errorf("%s %s: the example is refused: %s", method, path, example)
			}
			if request(method, path, []byte(`[]`)) {
				t.Errorf("%s %s: a list is taken", method, path)
			}
		}
	}
	if n < least {
		t.Errorf("%s: %d examples", file, n)
	}
}
