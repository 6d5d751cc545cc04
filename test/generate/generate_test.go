// SPDX-License-Identifier: Apache-2.0

package generate

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated files of the client libraries anew")

// libraries returns a generator for the documents of this tree.
func libraries(t *testing.T) *Generator {
	t.Helper()
	openAPI, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	statement, err := os.ReadFile("../../api/schemas/statement.json")
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(openAPI, statement)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestLibrariesAreAsTheDocument: the client libraries have each route, member, word and code of the
// documents, with the same types, limits and times.
func TestLibrariesAreAsTheDocument(t *testing.T) {
	g := libraries(t)
	for file, generate := range map[string]func() (string, error){
		"python/agentd/types.py":    g.PythonTypes,
		"python/agentd/_calls.py":   g.PythonCalls,
		"python/agentd/codes.py":    func() (string, error) { return PythonCodes(), nil },
		"typescript/src/types.ts":   g.TypeScriptTypes,
		"typescript/src/calls.ts":   g.TypeScriptCalls,
		"typescript/src/members.ts": g.TypeScriptMembers,
		"typescript/src/codes.ts":   func() (string, error) { return TypeScriptCodes(), nil },
	} {
		want, err := generate()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		path := filepath.Join("../../clients", file)
		if *update {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what api/openapi.json says (%v): go test ./test/generate -update", path, err)
		}
	}
}

// TestLibrariesNotice: a route, a member, a word of an enumeration, a time, a secret or a socket that is
// changed in the document changes what both libraries must have.
func TestLibrariesNotice(t *testing.T) {
	document, err := os.ReadFile("../../api/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	all := func(document string) string {
		g, err := New([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		out := ""
		for _, generate := range []func() (string, error){g.PythonTypes, g.PythonCalls, g.TypeScriptTypes, g.TypeScriptCalls, g.TypeScriptMembers} {
			text, err := generate()
			if err != nil {
				t.Fatal(err)
			}
			out += text + "\x00"
		}
		return out
	}
	before := strings.Split(all(string(document)), "\x00")
	for name, c := range map[string]struct {
		old, replacement string
		changes          []int // of types and calls in Python, types, calls and members in TypeScript
	}{
		"a route":               {`"/v1/self": {`, `"/v1/selves": {`, []int{1, 3}},
		"a member of an answer": {`"unitReason": {`, `"unitReasons": {`, []int{0, 2, 4}},
		"a member of a request": {`"firmwareLog": {
            "type": "boolean"`, `"firmwareLogs": {
            "type": "boolean"`, []int{1, 2, 3}},
		"a word of a request": {`"anchored"
            ]`, `"stale"
            ]`, []int{1, 2}},
		"a time":   {`"x-agentd-seconds": 10,`, `"x-agentd-seconds": 11,`, []int{1, 3}},
		"a secret": {`"format": "password",`, `"format": "uri",`, []int{0, 2, 4}},
		"a socket": {`"x-agentd-socket": "client"`, `"x-agentd-socket": "admin"`, []int{1, 3}},
	} {
		changed := strings.Replace(string(document), c.old, c.replacement, 1)
		if changed == string(document) {
			t.Errorf("%s: %q is not in the document", name, c.old)
			continue
		}
		after := strings.Split(all(changed), "\x00")
		for _, i := range c.changes {
			if before[i] == after[i] {
				t.Errorf("%s: module %d does not change", name, i)
			}
		}
	}
}

// TestSecretsAreMarked: a member with bytes that has the name of a secret has the format password,
// from which the libraries know what to hide.
func TestSecretsAreMarked(t *testing.T) {
	g := libraries(t)
	secret := regexp.MustCompile(`(?i)^(.*secret|data|key|identities|password)$`)
	not := []string{
		"ActivateRequest.secret", // encrypted to the TPM
		"ReleaseKeyRequest.key",  // a public key
		"CertifyRequest.data",    // what the relying party chose
	}
	n := 0
	for owner, s := range g.Components.Schemas {
		for _, m := range membersOf(s) {
			marked := m.schema["format"] == "password"
			if m.schema["contentEncoding"] != nil && secret.MatchString(m.name) != marked && !slices.Contains(not, owner+"."+m.name) {
				t.Errorf("%s.%s: marked as a secret: %t; test/jsonschema marks them", owner, m.name, marked)
			}
			if marked {
				n++
			}
		}
	}
	if n < 9 {
		t.Errorf("%d members are secrets", n)
	}
}

// TestGeneratorRefuses: a keyword that the generator does not know could change a type.
func TestGeneratorRefuses(t *testing.T) {
	g := libraries(t)
	for _, s := range []schema{{"type": "string", "not": schema{}}, {"type": "null"}, {}, {"type": []any{"string", "null"}}} {
		if text, err := g.typeOf(s); err == nil {
			t.Errorf("%v is the type %q", s, text)
		}
	}
	for _, s := range []schema{{"type": "null"}, {}, {"type": "integer"}, {"type": "object"}, {"type": "object", "additionalProperties": schema{"type": "string"}}} {
		if kind, err := kindOf(s); err == nil {
			t.Errorf("%v is of kind %s", s, kind)
		}
	}
}

// TestNames: names are those that a programmer of Python expects.
func TestNames(t *testing.T) {
	for in, want := range map[string]string{"reportID": "report_id", "akName": "ak_name", "openAPI": "open_api", "rotateStoreKey": "rotate_store_key", "uid": "uid", "from": "from_", "replaceAK": "replace_ak", "tryTPM": "try_tpm"} {
		if got := pythonName(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
	if !json.Valid([]byte(literal("<a>"))) || literal("<a>") != `"<a>"` {
		t.Error(literal("<a>"))
	}
}
