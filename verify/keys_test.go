// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"reflect"
)

// policyKeys lists every key of the text form, dotted, arrays of tables without their index.
func policyKeys() []string {
	var keys []string
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for i := range t.NumField() {
			f := t.Field(i)
			name := prefix + f.Tag.Get("toml")
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner = inner.Elem()
			}
			switch {
			case inner.Kind() == reflect.Struct:
				walk(name+".", inner)
			case inner == reflect.TypeFor[map[string]tcbText]():
				walk(name+".PRODUCT.", reflect.TypeFor[tcbText]())
			default:
				keys = append(keys, name)
			}
		}
	}
	walk("", reflect.TypeFor[policyText]())
	return keys
}
