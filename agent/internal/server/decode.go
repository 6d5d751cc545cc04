// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// decode reads a body strictly. The problem says what is wrong and where, in words of
// JSON and without repeating the contents of the body.
func decode(body []byte, v any) error {
	if err := strictjson.Decode(body, len(body), v); err != nil {
		return decodeProblem(err)
	}
	return nil
}

func decodeProblem(err error) *api.Problem {
	var semantic *json.SemanticError
	var syntax *jsontext.SyntacticError
	p := problem.New(api.CodeMalformed, "want one JSON object in UTF-8 and nothing after it")
	at := func(pointer jsontext.Pointer, offset int64) {
		// The pointer may contain any text that the caller sent as a name.
		if len(pointer) <= 256 {
			p.Where = string(pointer)
		}
		p.Offset = &offset
	}
	switch {
	case errors.As(err, &syntax):
		if errors.Is(err, jsontext.ErrDuplicateName) {
			p = problem.New(api.CodeDuplicateMember, "each member may occur once")
		}
		at(syntax.JSONPointer, syntax.ByteOffset)
	case errors.As(err, &semantic):
		switch {
		case errors.Is(err, json.ErrUnknownName):
			p = problem.New(api.CodeUnknownMember, "names are matched exactly; docs/api.md lists the known ones")
		case errors.Is(err, strictjson.ErrBase64):
			p = problem.New(api.CodeInvalidValue, strictjson.ErrBase64.Error())
		case errors.Is(err, strictjson.ErrNull), errors.Is(err, strictjson.ErrInteger):
			p = problem.New(api.CodeInvalidValue, semantic.Err.Error())
		default:
			p = problem.New(api.CodeInvalidValue, "want "+inWords(semantic.GoType))
		}
		at(semantic.JSONPointer, semantic.ByteOffset)
	}
	return p
}

// inWords returns the JSON value of a Go type in words.
func inWords(t reflect.Type) string {
	if t == nil {
		return "another value"
	}
	if t == reflect.TypeFor[evidence.Bytes]() {
		return "a string of base64"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Uint64, reflect.Uint32:
		return fmt.Sprintf("a whole number of at most %d bits, not negative", t.Bits())
	}
	return "another value"
}
