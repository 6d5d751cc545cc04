// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Error says what is wrong with a document and at which place, in words of JSON. It wraps
// the [*json.SemanticError] or [*jsontext.SyntacticError] with the details, whose own texts
// name types of this program.
type Error struct {
	err error
}

func (e *Error) Unwrap() error { return e.err }

func (e *Error) Error() string {
	var syntax *jsontext.SyntacticError
	var semantic *json.SemanticError
	switch {
	case errors.As(e.err, &syntax):
		return place(syntax.JSONPointer, syntax.ByteOffset) + wrongSyntax(syntax)
	case errors.As(e.err, &semantic):
		at := semantic.JSONPointer
		if errors.Is(semantic.Err, json.ErrUnknownName) {
			return fmt.Sprintf("%sunknown member %q", place(at.Parent(), semantic.ByteOffset), at.LastToken())
		}
		return place(at, semantic.ByteOffset) + wrongValue(semantic)
	}
	return "not JSON: " + e.err.Error()
}

// inWords wraps what the library says.
func inWords(err error) error {
	if _, ours := errors.AsType[*Error](err); err == nil || ours {
		return err
	}
	return &Error{err}
}

// place returns the place of an error, as the head of a sentence.
func place(at jsontext.Pointer, offset int64) string {
	if at == "" {
		return fmt.Sprintf("at byte %d: ", offset)
	}
	return fmt.Sprintf("at %q, byte %d: ", string(at), offset)
}

func wrongSyntax(e *jsontext.SyntacticError) string {
	switch {
	case errors.Is(e.Err, jsontext.ErrDuplicateName):
		return fmt.Sprintf("duplicate member %q", e.JSONPointer.LastToken())
	case e.Err == nil:
		return "not JSON"
	case strings.HasSuffix(e.Err.Error(), "EOF"): // of package io, which verifiers do without
		return "the document ends early"
	}
	return "not JSON: " + e.Err.Error()
}

func wrongValue(e *json.SemanticError) string {
	switch {
	case errors.Is(e.Err, strconv.ErrRange), errors.Is(e.Err, strconv.ErrSyntax), e.Err == nil:
		return fmt.Sprintf("want %s, found %s", Wanted(e.GoType), found(e))
	}
	return e.Err.Error()
}

// Wanted returns the JSON value of a Go type in words.
func Wanted(t reflect.Type) string {
	if t == nil {
		return "another value"
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
	case reflect.Pointer:
		return Wanted(t.Elem())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprintf("a whole number of at most %d bits, not negative", t.Bits())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return fmt.Sprintf("a whole number of at most %d bits", t.Bits())
	}
	return "another value"
}

// found returns the kind of a JSON value in words.
func found(e *json.SemanticError) string {
	switch e.JSONKind {
	case 'n':
		return "null"
	case 't', 'f':
		return "true or false"
	case '"':
		return "a string"
	case '0':
		if len(e.JSONValue) > 0 && len(e.JSONValue) <= 32 {
			return "the number " + string(e.JSONValue)
		}
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "an array"
	}
	return "another value"
}
