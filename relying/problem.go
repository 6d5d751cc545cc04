// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"net/http"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Codes of this package, besides those of package api that an answer can have: [api.CodeMalformed],
// [api.CodeTooLarge], [api.CodeBodyTimeout], [api.CodeNoSuchPath], [api.CodeMethod], [api.CodeBusy],
// [api.CodeUnavailable] and [api.CodeInternal]. Codes are stable: programs may act on them.
const (
	CodeChallenge api.Code = "challenge-unknown" // the nonce was not given out, was used, or expired
	CodeLogMoved  api.Code = "log-moved"         // other evidence of this machine was accepted meanwhile
	CodeBootEnded api.Code = "boot-ended"        // another boot of this machine was accepted after this one
)

// status is the status of a code, and its title.
type status struct {
	code   api.Code
	status int
	title  string
}

// statuses has each code that an answer can have.
var statuses = []status{
	{api.CodeMalformed, http.StatusBadRequest, "The body is not what this path takes."},
	{api.CodeNoSuchPath, http.StatusNotFound, "There is nothing at this path."},
	{api.CodeMethod, http.StatusMethodNotAllowed, "The path takes another method."},
	{api.CodeBodyTimeout, http.StatusRequestTimeout, "The body did not arrive in time."},
	{CodeChallenge, http.StatusConflict, "The nonce was not given out here, was used, or expired."},
	{CodeLogMoved, http.StatusConflict, "Other evidence of this machine was accepted meanwhile."},
	{CodeBootEnded, http.StatusConflict, "Another boot with this attestation key was accepted after this one."},
	{api.CodeTooLarge, http.StatusRequestEntityTooLarge, "The body is too large."},
	{api.CodeInternal, http.StatusInternalServerError, "The service has a fault."},
	{api.CodeBusy, http.StatusServiceUnavailable, "The service has too much to do."},
	{api.CodeUnavailable, http.StatusServiceUnavailable, "The service does not reach its store."},
}

// refusal is a problem that a client learns of. The type is not exported: a problem that a store, or
// another function of the configuration, returns is a fault of the service.
type refusal struct{ problem api.Problem }

func (r *refusal) Error() string { return r.problem.Error() }

func refused(code api.Code, detail string) error {
	return &refusal{api.Problem{Code: code, Detail: detail}}
}

// meanings is the type of each problem: the page with the meaning of its code.
const meanings = "https://github.com/cvm-agentd/agentd/blob/main/docs/service.md#the-api"

// refuse answers with a problem.
func (s *Service) refuse(w http.ResponseWriter, p *api.Problem) {
	for _, x := range statuses {
		if x.code == p.Code {
			p.Status, p.Title = x.status, x.title
		}
	}
	p.Type, p.Detail = meanings, text.OneLine(p.Detail)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	b, err := strictjson.Encode(p)
	if err != nil {
		s.report(err)
	}
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // the client is gone
}

func (s *Service) report(err error) {
	if s.c.OnError != nil {
		s.c.OnError(err)
	}
}
