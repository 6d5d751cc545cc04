// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// smallBody is the size up to which bodies are read without a place for their bytes. Usual
// requests for evidence are smaller. One for each allowed connection takes a few MiB.
const smallBody = 4 << 10

// readBody reads the body of a route that takes one, within its time and size. For another
// route it ignores a small body. A large body waits, within the same time, until its bytes
// fit. done releases them and overwrites the body, which may contain a secret.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, c *conn, route *route) (body []byte, done func(), err error) {
	if r.ContentLength == 0 {
		return nil, func() {}, nil
	}
	limit := max(route.Body, smallBody)
	if r.ContentLength > limit {
		return nil, nil, tooLarge(limit)
	}
	size := limit
	if r.ContentLength > 0 {
		size = r.ContentLength
	}
	leave := func() {}
	if size > smallBody {
		ctx, cancel := context.WithTimeout(r.Context(), s.Limits.BodyTimeout)
		defer cancel()
		if leave, err = c.shares.bodies.Enter(turn.With(ctx, route.who(c)), size); err != nil {
			w.Header().Set("Connection", "close")
			return nil, nil, problem.After(problem.New(api.CodeBusy, "too many bytes of other requests are being read"), time.Second)
		}
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(s.Limits.BodyTimeout))
	}
	// One buffer, which is overwritten as a whole, with room to detect the end.
	body = make([]byte, 0, size+1)
	from := http.MaxBytesReader(w, r.Body, limit)
	for err == nil && len(body) < cap(body) {
		var n int
		n, err = from.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
	}
	done = func() {
		clear(body)
		leave()
	}
	var large *http.MaxBytesError
	switch {
	case err == io.EOF:
		return body, done, nil
	case errors.As(err, &large):
		err = tooLarge(limit)
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		err = problem.New(api.CodeBodyTimeout, fmt.Sprintf("it did not arrive within %v", s.Limits.BodyTimeout))
	default:
		w.Header().Set("Connection", "close")
		err = problem.New(api.CodeMalformed, "the body ended early")
	}
	done()
	return nil, nil, err
}

func tooLarge(limit int64) *api.Problem {
	return problem.New(api.CodeTooLarge, fmt.Sprintf("at most %d bytes are read", limit))
}

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
	if t == reflect.TypeFor[evidence.Bytes]() {
		return "a string of base64"
	}
	return strictjson.Wanted(t)
}
