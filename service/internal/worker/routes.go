// SPDX-License-Identifier: Apache-2.0

package worker

import (
	_ "embed"
	"errors"
	"net/http"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

//go:embed openapi.json
var openAPI []byte

// act answers one request of an administrator: with a value for JSON, a [webPage], a [document], a
// problem, or an error of the store.
type act func(w *Worker, by string, r *http.Request) (any, error)

// document is JSON that is there already.
type document []byte

// route is a request of administrators. openapi.json is generated from the routes.
type route struct {
	name, pattern string
	answer        act
	summary       string
	parameters    []string   // of the query, of which no other may be there
	codes         []api.Code // that an answer can have, besides those of every path
}

// ofAll are the codes that the answer to each request of administrators can have.
var ofAll = []api.Code{api.CodeUnknownParameter, api.CodeNotPermitted, api.CodeInternal, api.CodeUnavailable}

var (
	ofBodies = []api.Code{api.CodeMalformed, api.CodeBodyTimeout, api.CodeTooLarge}
	// filters select machines. Links have them in this order.
	filters    = []string{"policy", "verdict", "product", "tcb", "measurement", "older"}
	ofMachines = append(filters[:len(filters):len(filters)], "after")
)

var routes = []route{
	{"listPolicies", "GET /admin/v1/policies", listPolicies, "List the newest version of each policy, without its text.", nil, nil},
	{"getPolicy", "GET /admin/v1/policies/{name}", getPolicy, "Get a version of a policy with its text.", []string{"version"}, []api.Code{api.CodeInvalidValue, api.CodeNotFound}},
	{"putPolicy", "PUT /admin/v1/policies/{name}", putPolicy, "Put a new version of a policy into force.", nil, append([]api.Code{api.CodeInvalidValue, codeConflict}, ofBodies...)},
	{"withdrawPolicy", "DELETE /admin/v1/policies/{name}", withdrawPolicy, "Withdraw a policy: clients get no-such-path.", nil, []api.Code{api.CodeNotFound}},
	{"listEnrolments", "GET /admin/v1/enrolments", listEnrolments, "List enrolments.", []string{"state", "after"}, []api.Code{api.CodeInvalidValue}},
	{"addEnrolment", "POST /admin/v1/enrolments", addEnrolment, "Add a record of `agentctl enroll finish`, pending.", nil, append([]api.Code{api.CodeInvalidValue, api.CodeExists}, ofBodies...)},
	{"approveEnrolment", "POST /admin/v1/enrolments/{ak}/approve", approve, "Approve an enrolment, in the name of the administrator.", nil, []api.Code{api.CodeInvalidValue, api.CodeNotFound}},
	{"removeEnrolment", "DELETE /admin/v1/enrolments/{ak}", removeEnrolment, "Remove an enrolment.", nil, []api.Code{api.CodeInvalidValue, api.CodeNotFound}},
	{"listRecords", "GET /admin/v1/records", listRecords, "List records.", []string{"after"}, []api.Code{api.CodeInvalidValue}},
	{"getRecord", "GET /admin/v1/records/{sequence}", getRecord, "Get a record with its appraisal, if that is the one that was recorded.", nil, []api.Code{api.CodeInvalidValue, api.CodeNotFound}},
	{"getRecordPage", "GET /admin/v1/records/{sequence}/page", getPage, "Get the appraisal of a record as a page for people.", nil, []api.Code{api.CodeInvalidValue, api.CodeNotFound}},
	{"getHead", "GET /admin/v1/head", getHead, "Get sequence and hash of the last record.", nil, nil},
	{"listMachines", "GET /admin/v1/machines", listMachines, "List machines with what is known of them.", ofMachines, []api.Code{api.CodeInvalidValue}},
	{"getFleet", "GET /admin/v1/fleet", getFleet, "Count how many machines are alike.", filters, []api.Code{api.CodeInvalidValue}},
	{"getFleetPage", "GET /admin/v1/fleet/page", getFleetPage, "Get both as a page for people, with links that select.", ofMachines, []api.Code{api.CodeInvalidValue}},
	{"openapi", "GET /admin/v1/openapi.json", describe, "Get this document.", nil, nil},
}

func describe(*Worker, string, *http.Request) (any, error) { return document(openAPI), nil }

// administration returns the handler of administrators.
func (w *Worker) administration() http.Handler {
	mux := http.NewServeMux()
	for _, x := range routes {
		mux.Handle(x.pattern, w.traced(x.pattern, func(out http.ResponseWriter, r *http.Request) { w.act(&x, out, r) }))
	}
	mux.HandleFunc("/", func(out http.ResponseWriter, _ *http.Request) {
		refuse(out, problem(api.CodeNoSuchPath, "docs/verifier-service.md has the paths and their methods"))
	})
	// A browser sends the certificate of an administrator with what a page of others has it send.
	guard := http.NewCrossOriginProtection()
	guard.SetDenyHandler(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		refuse(out, problem(api.CodeNotPermitted, "a page of another origin asked for a change"))
	}))
	return guard.Handler(mux)
}

// traced has the traces of requests tell what they did, under a name.
func (w *Worker) traced(name string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		answer := &status{ResponseWriter: out}
		ctx, part := w.traces.Request(r)
		h(answer, r.WithContext(ctx))
		part.Name(name)
		part.Answered(answer.code)
		part.End(nil)
	})
}

// act answers a request of an administrator.
func (w *Worker) act(x *route, out http.ResponseWriter, r *http.Request) {
	by, refusal := w.administrator(r)
	if refusal != nil {
		refuse(out, refusal)
		return
	}
	err := query(r, x.parameters)
	var answer any
	if err == nil {
		answer, err = x.answer(w, by, r)
	}
	if p, is := errors.AsType[*api.Problem](err); is {
		refuse(out, p)
		return
	}
	if err != nil {
		w.refuse(out, err)
		return
	}
	media, b := "application/json", []byte(nil)
	switch a := answer.(type) {
	case webPage:
		media, b = "text/html; charset=utf-8", a
	case document:
		b = a
	default:
		if b, err = strictjson.Encode(answer); err != nil {
			w.refuse(out, err)
			return
		}
	}
	head(out, media)
	_, _ = out.Write(b) // the client is gone
}
