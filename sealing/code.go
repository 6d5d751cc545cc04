// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"errors"

	"github.com/cvm-agentd/agentd/api"
)

// Error says why a blob does not open, or why an operation is refused. Its text never
// contains secret bytes. errors.Is compares it with a code.
type Error struct {
	Code   api.Code // reason; package api says what each code means
	Field  string   // field of the blob at fault, as the specification names it; "" if none is
	Detail string   // attempt, finding, and what to do
	Err    error    // cause, or nil
}

func (e *Error) Error() string {
	s := string(e.Code)
	if e.Field != "" {
		s += " (" + e.Field + ")"
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the code of e.
func (e *Error) Is(target error) bool { return target == e.Code }

// CodeOf returns the code of err, "" if err is not an [*Error].
func CodeOf(err error) api.Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}
