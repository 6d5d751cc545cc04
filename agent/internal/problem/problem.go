// SPDX-License-Identifier: Apache-2.0

// Package problem makes the refusals that the agent answers (RFC 9457), from the table of
// codes of package api.
package problem

import (
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/text"
)

// meanings and a code are the type of a problem: a page with the code's meaning.
const meanings = "https://github.com/cvm-agentd/agentd/blob/main/docs/api.md#"

// New returns a problem with what its code fixes.
func New(c api.Code, detail string) *api.Problem {
	info := c.Info()
	return &api.Problem{Type: meanings + string(c), Title: info.Title, Status: info.Status, Code: c, Detail: text.OneLine(detail)}
}

// Invalid returns the problem of a member (JSON Pointer, RFC 6901) or parameter whose
// value is not allowed.
func Invalid(where, detail string) *api.Problem {
	p := New(api.CodeInvalidValue, detail)
	p.Where = where
	return p
}

// After sets the time to wait, in whole seconds and at least one, and returns p.
func After(p *api.Problem, d time.Duration) *api.Problem {
	p.RetryAfter = max(1, int((d+time.Second-1)/time.Second))
	return p
}
