// SPDX-License-Identifier: Apache-2.0

package api

import "fmt"

// ProblemType is the media type of every error answer (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is the body of every error answer (RFC 9457), and a Go error.
type Problem struct {
	Type       string `json:"type"`                // URI of a page with the meaning of the code
	Title      string `json:"title"`               // the same for each answer with this code
	Status     int    `json:"status"`              // as in the status line
	Code       Code   `json:"code"`                // what programs act on
	Detail     string `json:"detail,omitzero"`     // what was attempted, what was found, what to do; for people
	Where      string `json:"where,omitzero"`      // JSON Pointer (RFC 6901) or name of the parameter at fault
	Offset     *int64 `json:"offset,omitzero"`     // byte of the body near which reading ended, from 0
	RetryAfter int    `json:"retryAfter,omitzero"` // seconds after which the same request may succeed, as in the header
}

// Error returns code, place and detail.
func (p *Problem) Error() string {
	s := fmt.Sprintf("agentd: %s", p.Code)
	if p.Where != "" {
		s += " at " + p.Where
	}
	if p.Detail != "" {
		return s + ": " + p.Detail
	}
	return s + ": " + p.Title
}

// Is reports whether target is the code of p, or a problem with the same code.
func (p *Problem) Is(target error) bool {
	if t, ok := target.(*Problem); ok {
		return t.Code == p.Code
	}
	return target == p.Code
}
