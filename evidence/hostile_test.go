// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// hostile are documents whose error, or whose reading, could cost many times their
// length. Each is n bytes long, or a little more.
func hostile(t testing.TB, n int) map[string][]byte {
	good := string(exampleDocument(t))
	fill := func(member, open, element string) []byte {
		t.Helper()
		if strings.Count(good, open) == 0 {
			t.Fatalf("the example has no %s", member)
		}
		return []byte(strings.Replace(good, open, open+strings.Repeat(element, n/len(element)), 1))
	}
	const bank = `"pcrs":[{"algorithm":"sha256","pcrs":[`
	return map[string][]byte{
		"banks":        fill("banks", `"pcrs":[`, `{},`),
		"registers":    fill("registers", bank, `{},`),
		"path":         fill("path", `"path":[`, `"",`),
		"null path":    fill("path", `"path":[`, `null,`),
		"certificates": []byte(`{"certificates":[` + strings.Repeat(`"",`, n/3) + `""],` + good[1:]),
		"type":         fill("type", `"type":"`, `\n`),
		"kind":         fill("kind", `"kind":"`, `\n`),
		"unknown":      []byte(`{"` + strings.Repeat("x", n) + `":1,` + good[1:]),
		"algorithm":    fill("algorithm", `"algorithm":"`, "\u00a0"),
		"statement":    fill("statement", `"statement":"`, "AAAA"),
		"within":       []byte(`{"batch":{"` + strings.Repeat("\u00e9", n/6) + `":1},` + good[1:]),
		"deep":         bytes.Repeat([]byte("["), n),
	}
}

// TestHostileDocumentIsCheap: refusing a document takes memory in proportion to its
// length, whatever is in it, and the error is one that can be shown.
func TestHostileDocumentIsCheap(t *testing.T) {
	const n = 1 << 20
	for name, document := range hostile(t, n) {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Parse(document)
			text := ""
			if err != nil {
				text = err.Error()
			}
			runtime.ReadMemStats(&after)
			if err == nil && name != "kind" && name != "algorithm" { // for package verify to judge
				t.Fatal("accepted")
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 16*n { // the library puts an unknown name together several times
				t.Errorf("%d bytes allocated for %d", got, len(document))
			}
			if len(text) > 1<<10 {
				t.Errorf("an error of %d bytes: %.200s", len(text), text)
			}
		})
	}
}

// TestListsAreStrict: the rules of the rest apply to what the lists read themselves.
func TestListsAreStrict(t *testing.T) {
	good := string(exampleDocument(t))
	for name, x := range map[string]struct{ old, new, want string }{
		"unknown":   {`{"index":13`, `{"x":1,"index":13`, "unknown"},
		"case":      {`{"index":13`, `{"Index":14`, "unknown"},
		"duplicate": {`{"index":13`, `{"index":13,"index":13`, "duplicate"},
		"no list":   {`"path":[`, `"path":{},"x":[`, "/inclusion/path"},
		"element":   {`"path":[`, `"path":[1,`, "/inclusion/path/0"},
		"too many":  {`"path":[`, `"path":[` + strings.Repeat(`"`+strings.Repeat("A", 43)+`=",`, MaxProof), "want 0 to 12"},
	} {
		t.Run(name, func(t *testing.T) {
			document := strings.Replace(good, x.old, x.new, 1)
			if document == good {
				t.Fatal("the mutation changed nothing")
			}
			_, err := Parse([]byte(document))
			if err == nil || !strings.Contains(err.Error(), x.want) {
				t.Errorf("error %v does not contain %q", err, x.want)
			}
		})
	}
	many := strings.Replace(good, `"path":[`, `"path":[`+strings.Repeat(`"`+strings.Repeat("A", 43)+`=",`, MaxProof), 1)
	var size *text.SizeError
	if _, err := Parse([]byte(many)); !errors.As(err, &size) || size.Got != MaxProof+1 {
		t.Errorf("got %v, want a SizeError of %d", err, MaxProof+1)
	}
}

// TestValues: section 2 of the specification, for every member: no value is null, and every
// reader sees the same integer.
func TestValues(t *testing.T) {
	good := string(exampleDocument(t))
	for name, x := range map[string]struct {
		old, new string
		want     error // nil: only that it is refused
	}{
		"anchor":            {`{"type"`, `{"anchor":null,"type"`, strictjson.ErrNull},
		"log":               {`{"type"`, `{"log":null,"type"`, strictjson.ErrNull},
		"list of IMA":       {`{"type"`, `{"ima":null,"type"`, strictjson.ErrNull},
		"start of IMA":      {`{"type"`, `{"ima":{"start":null,"entries":""},"type"`, strictjson.ErrNull},
		"no start of IMA":   {`{"type"`, `{"ima":{"entries":""},"type"`, nil},
		"IMA at 2^53":       {`{"type"`, `{"ima":{"start":9007199254740992,"entries":""},"type"`, strictjson.ErrInteger},
		"firmware log":      {`{"type"`, `{"firmwareLog":null,"type"`, strictjson.ErrNull},
		"certificates":      {`{"type"`, `{"certificates":null,"type"`, strictjson.ErrNull},
		"a certificate":     {`{"type"`, `{"certificates":[null],"type"`, strictjson.ErrNull},
		"index":             {`"index":1`, `"index":null`, strictjson.ErrNull},
		"PCR":               {`"index":13`, `"index":null`, strictjson.ErrNull},
		"path":              {`"path":[`, `"path":[null,`, strictjson.ErrNull},
		"log head":          {`"logHead":{`, `"logHead":null,"x":{`, nil},
		"after a string":    {`{"type"`, `{"firmwareLog":"" , "anchor" : null,"type"`, strictjson.ErrNull},
		"2^53":              {`"index":1`, `"index":9007199254740992`, strictjson.ErrInteger},
		"2^64-1":            {`"index":1`, `"index":18446744073709551615`, strictjson.ErrInteger},
		"2^64":              {`"index":1`, `"index":18446744073709551616`, nil},
		"log start of 2^53": {`{"type"`, `{"log":{"start":9007199254740992,"previous":"` + strings.Repeat("A", 42) + `E=","records":""},"type"`, strictjson.ErrInteger},
		"fraction":          {`"index":1`, `"index":1.0`, nil},
		"exponent":          {`"index":1`, `"index":1e0`, nil},
		"negative zero":     {`"index":13`, `"index":-0`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			document := strings.Replace(good, x.old, x.new, 1)
			if document == good {
				t.Fatal("the mutation changed nothing")
			}
			_, err := Parse([]byte(document))
			if err == nil || x.want != nil && !errors.Is(err, x.want) {
				t.Errorf("got %v, want %v", err, x.want)
			}
		})
	}
	for _, same := range []string{`"index":9007199254740991`, `"index":0`} {
		if _, err := Parse([]byte(strings.Replace(good, `"index":1`, same, 1))); err != nil {
			t.Errorf("%s: %v", same, err)
		}
	}
	statement, _ := newExampleStatement()
	for _, x := range []string{`"userData":null`, `"x":null`, `"executable":null`} {
		s := strings.Replace(string(statement), `"caller":{`, x+`,"caller":{`, 1)
		if x == `"executable":null` {
			s = strings.Replace(string(statement), `"caller":{`, `"caller":{`+x+`,`, 1)
		}
		if _, err := ParseStatement([]byte(s)); err == nil {
			t.Errorf("a statement with %s is read", x)
		}
	}
}
