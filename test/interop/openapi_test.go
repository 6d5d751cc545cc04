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

// openAPI returns a validator of api/openapi.json, after a change of its text.
func openAPI(t *testing.T, old, replacement string) validator.Validator {
	t.Helper()
	b, err := os.ReadFile("../../api/openapi.json")
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

// TestOpenAPIDocument: the document is one of OpenAPI 3.1 to a library of others, which finds what is
// not: a version, a place or a type that there is not.
func TestOpenAPIDocument(t *testing.T) {
	if ok, errs := openAPI(t, "", "").ValidateDocument(); !ok {
		for _, e := range errs {
			t.Errorf("%v", e)
		}
	}
	for _, c := range [][2]string{
		{`"in": "path"`, `"in": "body"`}, {`"title": "agentd",`, ``}, {`"required": true,`, `"required": "yes",`}, {`"paths": {`, `"paths": {"x": 1,`},
	} {
		if ok, _ := openAPI(t, c[0], c[1]).ValidateDocument(); ok {
			t.Errorf("%q in place of %q is not found", c[1], c[0])
		}
	}
}

// TestOpenAPIExamples: the example of each request is a request to that library, and with a member that
// is a list, and no list, it is not.
func TestOpenAPIExamples(t *testing.T) {
	b, err := os.ReadFile("../../api/openapi.json")
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
	v := openAPI(t, "", "")
	request := func(method, path string, body []byte) bool {
		r, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(method), "http://agentd"+strings.ReplaceAll(path, "{name}", "billing"), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
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
	if n < 10 {
		t.Errorf("%d examples", n)
	}
}
