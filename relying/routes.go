// SPDX-License-Identifier: Apache-2.0

package relying

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

//go:embed openapi.json
var openAPI []byte

// handler answers one request. Its error is a [*refusal], or a fault of the service.
type handler func(*Service, http.ResponseWriter, *http.Request) (*answered, error)

// answered is what a handler answers with.
type answered struct {
	media string
	body  []byte
}

// route is a path with its method. openapi.json is generated from the routes.
type route struct {
	name, method, path string
	answer             handler
	summary            string
	codes              []api.Code // that an answer can have, besides CodeInternal
}

var routes = []route{
	{"challenge", http.MethodPost, "/v1/challenges", (*Service).challenge, "Get a nonce for evidence.",
		[]api.Code{api.CodeMalformed, api.CodeTooLarge, api.CodeBodyTimeout, api.CodeBusy, api.CodeUnavailable}},
	{"appraise", http.MethodPost, "/v1/appraisals", (*Service).appraise, "Have evidence over a nonce appraised. Refused evidence is an answer too: read the verdict.",
		[]api.Code{api.CodeMalformed, api.CodeNoSuchPath, api.CodeTooLarge, api.CodeBodyTimeout, CodeChallenge, CodeLogMoved, CodeBootEnded, api.CodeBusy, api.CodeUnavailable}},
	{"keys", http.MethodGet, "/v1/jwks", (*Service).jwks, "Get the public keys of tokens, as a JWK Set (RFC 7517).",
		[]api.Code{api.CodeNoSuchPath}},
	{"openapi", http.MethodGet, "/v1/openapi.json", (*Service).describe, "Get this document.", nil},
}

// handle answers with what f returns. A client learns nothing of a fault of the service.
func (s *Service) handle(f handler, w http.ResponseWriter, r *http.Request) {
	a, err := f(s, w, r)
	if x, ok := errors.AsType[*refusal](err); ok {
		p := x.problem // some are shared
		s.refuse(w, &p)
		return
	}
	if errors.Is(err, ErrUnavailable) {
		s.report(fmt.Errorf("relying: %s: %w", r.URL.Path, err))
		s.refuse(w, &api.Problem{Code: api.CodeUnavailable, Detail: "the service does not reach its database: ask again soon, with a new challenge", RetryAfter: 5})
		return
	}
	if err != nil {
		s.report(fmt.Errorf("relying: %s: %w", r.URL.Path, err))
		s.refuse(w, &api.Problem{Code: api.CodeInternal, Detail: "try again later, and tell the administrator of the service"})
		return
	}
	w.Header().Set("Content-Type", a.media)
	_, _ = w.Write(a.body) // the client is gone
}

func encoded(v any) (*answered, error) {
	b, err := strictjson.Encode(v)
	return &answered{"application/json", b}, err
}

// describe answers with the OpenAPI document.
func (s *Service) describe(http.ResponseWriter, *http.Request) (*answered, error) {
	return &answered{"application/json", openAPI}, nil
}

// body reads a body of at most limit bytes. A client that sends it slowly would keep a place of
// [Config.AtOnce] from others, and not each server limits how long it reads.
func (s *Service) body(w http.ResponseWriter, r *http.Request, limit int) ([]byte, error) {
	control := http.NewResponseController(w)
	limited := control.SetReadDeadline(time.Now().Add(s.c.BodyTime)) == nil // a server's own writer can
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case large:
		return nil, refused(api.CodeTooLarge, fmt.Sprintf("at most %d bytes are read", limit))
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, refused(api.CodeBodyTimeout, fmt.Sprintf("it did not arrive within %v", s.c.BodyTime))
	case err != nil:
		return nil, refused(api.CodeMalformed, "the body did not arrive whole")
	}
	if limited { // otherwise the request would end then, however fast its body came
		_ = control.SetReadDeadline(time.Time{})
	}
	return b, nil
}
