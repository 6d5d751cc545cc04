package evidence

import (
	"fmt"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// DecodeJSON decodes one JSON value of at most limit bytes into v, strictly:
// unknown, duplicate or differently-cased members, invalid UTF-8 and anything
// behind the value are errors. Every document of this project is read through it.
func DecodeJSON(b []byte, limit int, v any) error {
	if len(b) > limit {
		return fmt.Errorf("document of %d bytes, at most %d are read", len(b), limit)
	}
	if !utf8.Valid(b) {
		return fmt.Errorf("document is not valid UTF-8")
	}
	return json.Unmarshal(b, v,
		json.RejectUnknownMembers(true),
		json.MatchCaseInsensitiveNames(false),
		jsontext.AllowDuplicateNames(false),
	)
}

// EncodeJSON encodes v on one line, members in the order of the type. Where the
// exact bytes matter (a statement), they are encoded once and carried as they are.
func EncodeJSON(v any) ([]byte, error) {
	return json.Marshal(v, json.Deterministic(true))
}
