// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/store"
)

// codeConflict is the code for a change that does not follow the version in force.
const codeConflict api.Code = "conflict"

const meanings = "https://github.com/cvm-agentd/agentd/blob/main/docs/verifier-service.md"

// statuses are those of the codes that this package answers with, and their titles.
var statuses = map[api.Code]struct {
	status int
	title  string
}{
	api.CodeMalformed:        {400, "The body is not what this path takes."},
	api.CodeInvalidValue:     {400, "A value is not allowed."},
	api.CodeUnknownParameter: {400, "A parameter is not known."},
	api.CodeNotPermitted:     {403, "This is not permitted."},
	api.CodeNoSuchPath:       {404, "There is nothing at this path."},
	api.CodeNotFound:         {404, "It is not there."},
	api.CodeMethod:           {405, "The path takes another method."},
	api.CodeBodyTimeout:      {408, "The body did not arrive in time."},
	api.CodeExists:           {409, "It is there already."},
	codeConflict:             {409, "Another version is in force."},
	api.CodeTooLarge:         {413, "The body is too large."},
	api.CodeThrottled:        {429, "This client asks too often."},
	api.CodeInternal:         {500, "The service has a fault."},
	api.CodeBusy:             {503, "The service has too much to do."},
	api.CodeUnavailable:      {503, "The service does not reach what it needs."},
}

func problem(code api.Code, detail string) *api.Problem {
	return &api.Problem{Code: code, Detail: detail}
}

// refuse answers with a problem.
func refuse(w http.ResponseWriter, p *api.Problem) {
	x, ok := statuses[p.Code]
	if !ok {
		x = statuses[api.CodeInternal]
	}
	p.Type, p.Status, p.Title, p.Detail = meanings, x.status, x.title, text.OneLine(p.Detail)
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	b, err := strictjson.Encode(p)
	if err != nil { // a text of ours is not UTF-8
		b = []byte("{}")
	}
	head(w, api.ProblemType)
	w.WriteHeader(p.Status)
	_, _ = w.Write(b) // the client is gone
}

func head(w http.ResponseWriter, media string) {
	w.Header().Set("Content-Type", media)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
}

// explained returns the problem for an error of the store, and whether only the owner of the service
// learns what it says.
func explained(err error) (p *api.Problem, fault bool) {
	switch {
	case errors.Is(err, store.ErrNone):
		return problem(api.CodeNotFound, "look at the list, and check the spelling"), false
	case errors.Is(err, store.ErrExists):
		return problem(api.CodeExists, "remove it first"), false
	case errors.Is(err, store.ErrConflict):
		return problem(codeConflict, "get the version in force, and make the change to that"), false
	case errors.Is(err, relying.ErrUnavailable):
		p = problem(api.CodeUnavailable, "ask again soon, with a new challenge if it was an appraisal")
		p.RetryAfter = 5
		return p, true
	}
	return problem(api.CodeInternal, "try again later, and tell the administrator of the service"), true
}
