// SPDX-License-Identifier: Apache-2.0

// Package stricttoml reads TOML 1.0 into a struct, strictly, and reports the line and
// column of each key.
//
// [Decode] refuses what the struct does not declare: unknown keys, keys in another case,
// keys given twice, values of another type. The first such key ends the reading. Each
// refusal is an [*Error] that names line, column and key. The keys of the struct are those
// of its toml tags. A field has one of these types, or is a pointer to one:
//
//   - a string, or a type that implements encoding.TextUnmarshaler: a TOML string
//   - an integer type: a TOML integer
//   - bool: a TOML boolean
//   - a slice: a TOML array, or for a slice of structs also [[tables]]
//   - a struct: a table; the keys of an embedded struct without a tag are keys of the table around it
//   - a map with string keys: a table whose keys the text chooses, of [a-z0-9_]
//
// A key that the text does not give leaves its field as it was before Decode, so defaults
// are set first. [Places.Given] tells an absent key from a zero.
//
// A key has one path: its parts joined by dots, with the index of each array element in
// brackets, such as "app[1].digests[0]". [Places.Errorf] makes an error about the value
// of a path, for checks after the decoding:
//
//	var t struct {
//		App []struct {
//			Name    string   `toml:"name"`
//			Digests []string `toml:"digests"`
//		} `toml:"app"`
//	}
//	places, err := stricttoml.Decode(text, 64<<10, &t)
//	if err != nil {
//		return err // line 3, column 1: app[0].nam: unknown key: want name, digests
//	}
//	for i, app := range t.App {
//		if app.Name == "" {
//			return places.Errorf(fmt.Sprintf("app[%d].name", i), "a name is missing")
//		}
//	}
//
// The time and memory of Decode grow in proportion to the length of the text, for any text:
// the size, the keys of one table and the length of a key are capped.
package stricttoml
