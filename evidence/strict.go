// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeJSON decodes one JSON value of at most limit bytes into v, strictly:
// unknown, duplicate or differently-cased members, null, integers beyond 2^53 - 1,
// invalid UTF-8 and anything behind the value are errors. Every document of this
// project is read through it.
func DecodeJSON(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("document of %d bytes, at most %d are read", len(b), limit)
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("document is not valid UTF-8")
	}
	err := json.Unmarshal(b, v,
		json.RejectUnknownMembers(true),
		json.MatchCaseInsensitiveNames(false),
		jsontext.AllowDuplicateNames(false),
	)
	if err != nil {
		cutPointers(err)
		return err
	}
	return checkValues(b)
}

// maxPointer is how much of the place of an error is kept, in bytes.
const maxPointer = 256

// cutPointers cuts the places that an error names, with a mark that they were: a name
// in them may be as long as the document, and each time that the error is put into
// words would take that much again.
func cutPointers(err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		switch x := err.(type) {
		case *json.SemanticError:
			x.JSONPointer = cutPointer(x.JSONPointer)
		case *jsontext.SyntacticError:
			x.JSONPointer = cutPointer(x.JSONPointer)
		}
	}
}

func cutPointer(p jsontext.Pointer) jsontext.Pointer {
	if len(p) <= maxPointer {
		return p
	}
	return jsontext.Pointer(strings.ToValidUTF8(string(p[:maxPointer]), "") + "…")
}

// EncodeJSON encodes v on one line, members in the order of the type. Where the
// exact bytes matter (a statement), they are encoded once and carried as they are.
func EncodeJSON(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true))
}
