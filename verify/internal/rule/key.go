// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"reflect"
	"strings"
)

// A Key is a key of a policy, as docs/policy.md describes it.
type Key struct {
	Name    string // dotted; without the index of a list of tables
	Type    string // type of its value, in words
	Default string // in the spelling of TOML, or a word such as "any"
	Doc     string // what the key does, and what it protects against
}

// Keys returns all keys, from the tags of the fields. In a tag, |x| is code.
func Keys() (all []Key) {
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			inner := f.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			switch {
			case f.Anonymous:
				walk(prefix, f.Type)
			case name == "":
			case inner.Kind() == reflect.Struct:
				walk(prefix+name+".", inner)
			case inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct:
				walk(prefix+name+".PRODUCT.", inner.Elem())
			default:
				doc := strings.ReplaceAll(f.Tag.Get("doc"), "|", "`")
				all = append(all, Key{Name: prefix + name, Type: typeName(f.Type), Default: f.Tag.Get("default"), Doc: doc})
			}
		}
	}
	walk("", reflect.TypeFor[Policy]())
	return all
}

func typeName(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case t.Kind() == reflect.Map:
		return "table of " + typeName(t.Elem()) + "s"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String, t == reflect.TypeFor[Duration]():
		return "string"
	}
	return "integer"
}
