// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"reflect"
	"strings"
)

// A Key is a key of a policy, as docs/policy.md describes it.
type Key struct {
	Name    string // dotted; without the index of a list of tables
	Type    string // set by Keys
	Default string // in the spelling of TOML, or a word such as "any"
	Doc     string // what the key does, and what it protects against
}

// Keys returns all keys, in the order of docs/policy.md.
func Keys() []Key {
	all := []Key{versionKey()}
	types := keyTypes()
	for _, s := range new(Policy).subjects() {
		all = append(all, s.keys()...)
	}
	for i := range all {
		all[i].Type = types[all[i].Name]
	}
	return all
}

// keyTypes returns the types of all keys by their dotted names, from the toml tags.
func keyTypes() map[string]string {
	out := make(map[string]string)
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for f := range t.Fields() {
			if f.Anonymous {
				walk(prefix, f.Type)
				continue
			}
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			if name == "" {
				continue
			}
			name, inner := prefix+name, f.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			switch inner.Kind() {
			case reflect.Struct:
				walk(name+".", inner)
				continue
			case reflect.Map:
				if inner.Elem().Kind() == reflect.Struct {
					walk(name+".PRODUCT.", inner.Elem())
					continue
				}
			}
			out[name] = typeName(f.Type)
		}
	}
	walk("", reflect.TypeFor[Policy]())
	return out
}

func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem())
	case reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case reflect.Bool:
		return "boolean"
	case reflect.Map:
		return "table of " + typeName(t.Elem()) + "s"
	case reflect.String:
		return "string"
	}
	if t == reflect.TypeFor[Duration]() {
		return "string"
	}
	return "integer"
}
