// SPDX-License-Identifier: Apache-2.0

// Package jsonschema makes JSON Schemas of Go types, in the words of their comments, and
// compares documents with them.
package jsonschema

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
)

// An Object is a JSON object whose members, each a name and a value, keep their order.
type Object [][2]any

// MarshalJSON encodes the members in their order.
func (o Object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	encode.SetEscapeHTML(false)
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:", m[0])
		if err := encode.Encode(m[1]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// inHex is the pattern of bytes in hexadecimal.
const inHex = "^([0-9a-f]{2})*$"

// hidden marks a secret, which tools do not show.
var hidden = Object{{"format", "password"}}

// exactly is what the schema of a member says beyond its Go type.
var exactly = map[string]Object{
	"Activated.secret":          hidden,
	"Derived.secret":            hidden,
	"DiskChangeRequest.key":     hidden,
	"DiskEnrollRequest.key":     hidden,
	"DiskKey.key":               hidden,
	"RecoverRequest.identities": hidden,
	"SealRequest.data":          hidden,
	"SecretRequest.data":        hidden,
	"Unsealed.data":             hidden,

	"Appraisal.type":      {{"const", verify.AppraisalType}},
	"Bank.algorithm":      {{"enum", []string{"sha1", "sha256", "sha384", "sha512"}}},
	"Evidence.type":       {{"const", "agentd/evidence/2"}},
	"PCR.index":           {{"maximum", 23}},
	"Problem.status":      {{"minimum", 400}, {"maximum", 599}},
	"Problem.type":        {{"format", "uri"}},
	"Statement.type":      {{"const", evidence.StatementType}},
	"Appraisal.policy":    {{"pattern", inHex}},
	"Claims.akName":       {{"pattern", inHex}},
	"Machine.measurement": {{"pattern", inHex}},
	"PCRClaim.value":      {{"pattern", inHex}},
	"SNP.chipID":          {{"pattern", inHex}},
	"SNP.hostData":        {{"pattern", inHex}},
	"SNP.reportID":        {{"pattern", inHex}},
	"State.akName":        {{"pattern", inHex}},
	"State.reportID":      {{"pattern", inHex}},
	"TreeHead.size":       {{"minimum", 1}, {"maximum", 4096}},
	"shown.verified":      {{"const", false}},
}

// A Describer makes schemas of Go types.
type Describer struct {
	Schemas map[string]Object // made so far, by the name of the type
	Hex     bool              // byte strings are hexadecimal, and not base64

	// As has the types that JSON has in place of others, which encode themselves.
	As map[reflect.Type]reflect.Type

	t        *testing.T
	root     string // folder of this module
	types    map[string]reflect.Type
	read     map[string]bool     // packages whose source was read
	comments map[string]string   // of a type, and of its fields by "Type.Field", after the package
	words    map[string][]string // constants of a type, after the package
}

// New returns a describer that finds the source of this module in a folder.
func New(t *testing.T, root string) *Describer {
	return &Describer{t: t, root: root, types: map[string]reflect.Type{}, read: map[string]bool{}, comments: map[string]string{}, words: map[string][]string{}, Schemas: map[string]Object{}}
}

func reference(name string) Object { return Object{{"$ref", "#/components/schemas/" + name}} }

// Structure returns the schema of a struct. Requests are read strictly; answers may gain
// members.
func (d *Describer) Structure(typ reflect.Type, request bool) Object {
	name := typ.Name()
	if other := d.types[name]; other != nil && other != typ { // of another package
		name = strings.ToUpper(path.Base(typ.PkgPath())[:1]) + path.Base(typ.PkgPath())[1:] + name
	}
	if d.types[name] == typ {
		return reference(name)
	}
	d.types[name] = typ
	d.Schemas[name] = Object{} // for a type that contains itself
	d.source(typ.PkgPath())
	properties, required := Object{}, []string{}
	d.fields(typ, request, false, &properties, &required)
	out := Object{{"type", "object"}, {"description", sentence(d.comments[key(typ, "")])}, {"properties", properties}, {"required", required}}
	if request {
		out = append(out, [2]any{"additionalProperties", false})
	}
	d.Schemas[name] = out
	return reference(name)
}

// fields adds the members of a struct, and those of structs that are embedded in it. What a
// pointer may leave out is not required.
func (d *Describer) fields(typ reflect.Type, request, optional bool, properties *Object, required *[]string) {
	d.source(typ.PkgPath())
	for f := range typ.Fields() {
		if !f.IsExported() && !f.Anonymous || f.Tag.Get("json") == "-" {
			continue
		}
		n, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && n == "" {
			inner := f.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			d.fields(inner, request, optional || f.Type.Kind() == reflect.Pointer, properties, required)
			continue
		}
		if !optional && !strings.HasPrefix(options, "omit") {
			*required = append(*required, n)
		}
		comment := sentence(d.comments[key(typ, f.Name)])
		s := d.value(f.Type, request)
		if s[0][0] != "$ref" && comment == "" {
			d.t.Errorf("%v.%s: describe the member in a comment", typ, f.Name)
		}
		for _, x := range exactly[typ.Name()+"."+n] {
			s = append(slices.DeleteFunc(s, func(m [2]any) bool { return m[0] == x[0] }), x)
		}
		if comment != "" {
			s = append(s, [2]any{"description", comment})
		}
		*properties = append(*properties, [2]any{n, s})
	}
}

// value returns the schema of a member's type.
func (d *Describer) value(typ reflect.Type, request bool) Object {
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	if as := d.As[typ]; as != nil {
		typ = as
	}
	switch {
	case typ == reflect.TypeFor[evidence.Bytes]() && d.Hex:
		return Object{{"type", "string"}, {"pattern", inHex}}
	case typ == reflect.TypeFor[evidence.Digest]() && d.Hex:
		return Object{{"type", "string"}, {"pattern", "^[0-9a-f]{64}$"}}
	case typ == reflect.TypeFor[evidence.Bytes]():
		return Object{{"type", "string"}, {"contentEncoding", "base64"}}
	case typ == reflect.TypeFor[evidence.Digest]():
		return Object{{"type", "string"}, {"contentEncoding", "base64"}, {"minLength", 44}, {"maxLength", 44}}
	case typ == reflect.TypeFor[jsontext.Value](): // a document with a schema of its own
		return Object{{"type", "object"}}
	case typ == reflect.TypeFor[time.Time]():
		return Object{{"type", "string"}, {"format", "date-time"}}
	case typ == reflect.TypeFor[api.Code]():
		var words []string
		for _, c := range api.Codes() {
			words = append(words, string(c.Code))
		}
		if d.Schemas["Code"] == nil {
			d.Codes("docs/api.md", words)
		}
		return reference("Code")
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return Object{{"type", "string"}}
	case typ.Kind() == reflect.Struct:
		return d.Structure(typ, false)
	case typ.Kind() == reflect.Slice:
		return Object{{"type", "array"}, {"items", d.value(typ.Elem(), request)}}
	case typ.Kind() == reflect.Map:
		return Object{{"type", "object"}, {"additionalProperties", d.value(typ.Elem(), request)}}
	case typ.Kind() == reflect.String && typ.PkgPath() != "":
		return d.word(typ, request)
	}
	return d.plain(typ)
}

// Codes describes the codes of failures, and the page that says what each means.
func (d *Describer) Codes(page string, words []string) {
	d.Schemas["Code"] = append(open(words), [2]any{"description", "A kind of failure. " + page + " says what each means. Later versions may add codes: treat one that is not listed by its status."})
}

// word returns the schema of a type of text that has constants.
func (d *Describer) word(typ reflect.Type, request bool) Object {
	d.source(typ.PkgPath())
	words := d.words[key(typ, "")]
	switch {
	case words == nil:
		d.t.Errorf("type %s has no constants", typ)
	case request:
		return Object{{"type", "string"}, {"enum", words}}
	}
	return open(words)
}

// plain returns the schema of text, numbers and truth.
func (d *Describer) plain(typ reflect.Type) Object {
	switch {
	case typ.Kind() == reflect.String:
		return Object{{"type", "string"}}
	case typ.Kind() == reflect.Bool:
		return Object{{"type", "boolean"}}
	case typ.Kind() == reflect.Float64:
		return Object{{"type", "number"}}
	case typ.Kind() == reflect.Uint32:
		return Object{{"type", "integer"}, {"minimum", 0}, {"maximum", 1<<32 - 1}}
	case typ == reflect.TypeFor[verify.Milliseconds]():
		return Object{{"type", "integer"}}
	case reflect.Zero(typ).CanUint(), reflect.Zero(typ).CanInt():
		return Object{{"type", "integer"}, {"minimum", 0}, {"maximum", strictjson.MaxInteger}}
	}
	d.t.Errorf("type %s has no schema", typ)
	return Object{{"type", "null"}}
}

// open returns the schema of a word of an answer: those that this version knows, or any
// other text, since later versions may add words. A validator or a generated client that
// takes the list for complete would then refuse a good answer.
func open(words []string) Object {
	return Object{{"anyOf", []Object{{{"type", "string"}, {"enum", words}}, {{"type", "string"}}}}}
}

// Document returns the schema of a type as a document of its own.
func (d *Describer) Document(name string, typ reflect.Type) []byte {
	d.t.Helper()
	var ref Object
	if typ.Kind() == reflect.Map {
		d.Schemas["Answer"] = d.value(typ, false)
		ref = reference("Answer")
	} else {
		ref = d.Structure(typ, false)
	}
	var parts Object
	for n, s := range d.Schemas {
		parts = append(parts, [2]any{n, s})
	}
	slices.SortFunc(parts, func(a, b [2]any) int { return strings.Compare(a[0].(string), b[0].(string)) })
	b, err := json.Marshal(Object{
		{"$schema", "https://json-schema.org/draft/2020-12/schema"},
		{"$id", "https://github.com/cvm-agentd/agentd/schemas/" + path.Clean(name) + ".json"},
		{"$comment", "Generated from the Go types."},
		ref[0],
		{"$defs", parts},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.ReplaceAll(b, []byte(`"#/components/schemas/`), []byte(`"#/$defs/`)), "", "  "); err != nil {
		d.t.Fatal(err)
	}
	return append(out.Bytes(), '\n')
}
