// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cvm-agentd/agentd/test/jsonschema"
)

// answerSchemas has the schemas of what the commands print, named after their words.
const answerSchemas = "../../api/schemas/agentctl"

// schemaOf returns the name of the schema of a command line: the longest that its words begin
// with, and a flag with which it prints another answer.
func schemaOf(t testing.TB, args []string) (name string) {
	t.Helper()
	files, err := filepath.Glob(answerSchemas + "/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("schemas: %v, %v", files, err)
	}
	words := slices.DeleteFunc(slices.Clone(args), func(w string) bool { return strings.HasPrefix(w, "-") })
	line := strings.Join(words, "-") + "-"
	for _, a := range args {
		if a == "--wait-all" || a == "--what-if" {
			line = args[0] + "-" + strings.TrimLeft(a, "-") + "-"
		}
	}
	for _, f := range files {
		if n := strings.TrimSuffix(filepath.Base(f), ".json"); strings.HasPrefix(line, n+"-") && len(n) > len(name) {
			name = n
		}
	}
	return name
}

// asking are the commands that change nothing, so that a script can run them twice.
var asking = []string{"app-diff", "app-list", "app-show", "doctor", "key-list", "key-show", "key-store-key", "log", "policy-check", "policy-diff", "policy-id-block-check", "policy-ima-reference", "policy-launch", "policy-reference", "seal-what-if", "self", "show", "status", "verify"}

// inBase64 is how the base64 of a digest looks in a text.
var inBase64 = regexp.MustCompile(`[A-Za-z0-9+/]{22,}=`)

// answers is "answers CODE agentctl WORDS...": with --json the command ends with this code, and
// prints an object that fits its schema. The text without it has no base64 either.
func answers(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if len(args) < 3 || args[1] != "agentctl" {
			ts.Fatalf("usage: answers CODE agentctl WORDS...")
		}
		exits(ts, neg, append(slices.Clone(args), "--json"))
		schema, line := schemaOf(t, args[2:]), strings.Join(args[2:], " ")
		fitsSchema(t, ts, schema, "stdout", line)
		if slices.Contains(asking, schema) {
			exits(ts, neg, args)
			if found := inBase64.FindString(ts.ReadFile("stdout")); found != "" {
				t.Errorf("%s prints %q", line, found)
			}
		}
	}
}

// fits is "fits SCHEMA FILE".
func fits(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		if len(args) != 2 {
			ts.Fatalf("usage: fits SCHEMA FILE")
		}
		fitsSchema(t, ts, args[0], args[1], args[1])
	}
}

func fitsSchema(t *testing.T, ts *testscript.TestScript, schema, file, where string) {
	b := []byte(ts.ReadFile(file))
	if !bytes.HasPrefix(b, []byte("{")) {
		ts.Fatalf("%s: not an object: %q", where, b)
	}
	jsonschema.FitsFile(t, filepath.Join(answerSchemas, schema+".json"), where, b)
	var v any
	ts.Check(json.Unmarshal(b, &v))
	inHex(t, where, v)
}

// hexadecimal is what bytes look like.
var hexadecimal = regexp.MustCompile(`^(0x)?[0-9a-f]+$`)

// inHex checks that no text in an answer is base64 of as many bytes as a digest has, or as few as
// a nonce.
func inHex(t *testing.T, where string, v any) {
	t.Helper()
	switch x := v.(type) {
	case map[string]any:
		for name, inner := range x {
			inHex(t, where+"."+name, inner)
		}
	case []any:
		for _, inner := range x {
			inHex(t, where+"[]", inner)
		}
	case string:
		b, err := base64.StdEncoding.DecodeString(x)
		if err == nil && !hexadecimal.MatchString(x) && (strings.HasSuffix(x, "=") || slices.Contains([]int{48, 64}, len(x))) {
			t.Errorf("%s: %q is base64 of %d bytes, want hexadecimal", where, x, len(b))
		}
	}
}

// TestScriptsSeeEachAnswer: a script compares the output of each command that has a schema.
func TestScriptsSeeEachAnswer(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	line := regexp.MustCompile(`(?m)^answers [0-9]+ agentctl (.*)$|^fits ([a-z-]+) `)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(b), -1) {
			if seen[m[2]] = true; m[1] != "" {
				seen[schemaOf(t, strings.Fields(m[1]))] = true
			}
		}
	}
	schemas, err := filepath.Glob(answerSchemas + "/*.json")
	if err != nil || len(schemas) == 0 {
		t.Fatal(err)
	}
	for _, s := range schemas {
		if name := strings.TrimSuffix(filepath.Base(s), ".json"); !seen[name] {
			t.Errorf("no script runs the command of %s: add an \"answers\" line to testdata/answers.txtar", s)
		}
	}
}
