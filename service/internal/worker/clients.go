// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/share"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/service/internal/traces"
)

// defaultPolicy is the policy of paths that name none.
const defaultPolicy = "default"

// Paths that need more than a handler of package relying.
const (
	pathAppraisals = "/v1/appraisals"
	pathJWKS       = "/v1/jwks"
	pathOpenAPI    = "/v1/openapi.json"
)

// clients answers the requests of clients.
func (w *Worker) clients(out http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		w.healthy(out)
		return
	case "/readyz":
		w.ready(out, r)
		return
	}
	g := w.now()
	begin := time.Now()
	answer := &status{ResponseWriter: out}
	ctx, part := w.traces.Request(r)
	path := g.answer(answer, r.WithContext(ctx))
	w.figures.answered(path, answer.code, time.Since(begin))
	part.Name(path)
	part.Answered(answer.code)
	part.End(nil)
}

// answer answers one request, and returns the path for the figures, which must be one of few.
func (g *generation) answer(w http.ResponseWriter, r *http.Request) (path string) {
	if g.client != nil && g.client.ClientCAs != nil && !counts(r.TLS, g.client) {
		w.Header().Set("Connection", "close")
		refuse(w, problem(api.CodeNotPermitted, "the certificate expired, or its authority does not count any more: connect again with another one"))
		return string(api.CodeNotPermitted)
	}
	client := share.Client(r, g.settings.Proxies)
	if !g.shares.Request(client, time.Now()) {
		p := problem(api.CodeThrottled, "ask less often, or have the administrator of the service raise the limit of rate")
		p.RetryAfter = 1
		refuse(w, p)
		return string(api.CodeThrottled)
	}
	name, path, ok := split(r.URL.Path)
	if !ok {
		refuse(w, problem(api.CodeNoSuchPath, "want /v1/… for the policy default, or /p/NAME/v1/…"))
		return "other"
	}
	inner := *r.URL
	inner.Path, inner.RawPath = path, ""
	r = r.WithContext(r.Context()) // a copy
	r.URL = &inner
	switch path {
	case pathJWKS, pathOpenAPI: // without the database, so that tokens can always be checked
		g.plain.ServeHTTP(w, r)
		return path
	case pathAppraisals:
		end := g.shares.Begin(client)
		if end == nil {
			p := problem(api.CodeBusy, "too many appraisals at once, of this client or of all: ask again soon")
			p.RetryAfter = 1
			refuse(w, p)
			return path
		}
		defer end()
	}
	service, err := g.service(r.Context(), name)
	switch {
	case errors.Is(err, store.ErrNone):
		refuse(w, problem(api.CodeNoSuchPath, "no policy "+name+" is in force: its administrator puts one"))
	case err != nil:
		g.worker.refuse(w, err)
	default:
		traces.Of(r.Context()).Say("agentd.policy", name)
		service.ServeHTTP(w, r)
	}
	if path != pathAppraisals && path != "/v1/challenges" {
		return "other"
	}
	return path
}

// split returns the policy that a path names, and the path below it.
func split(path string) (policy, rest string, ok bool) {
	if strings.HasPrefix(path, "/v1/") {
		return defaultPolicy, path, true
	}
	after, named := strings.CutPrefix(path, "/p/")
	policy, rest, _ = strings.Cut(after, "/")
	rest = "/" + rest
	return policy, rest, named && settings.PolicyName.MatchString(policy) && strings.HasPrefix(rest, "/v1/")
}

// status notes the status of an answer.
type status struct {
	http.ResponseWriter
	code int
}

// WriteHeader implements http.ResponseWriter.
func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (s *status) Write(b []byte) (int, error) {
	if s.code == 0 {
		s.code = http.StatusOK
	}
	return s.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController, by which deadlines of bodies are set.
func (s *status) Unwrap() http.ResponseWriter { return s.ResponseWriter }
