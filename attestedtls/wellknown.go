// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// EvidencePath is the path of [EvidenceHandler].
const EvidencePath = "/.well-known/agentd/evidence"

// EvidenceUserData is the user data of evidence that [EvidenceHandler] gives.
const EvidenceUserData = "agentd/well-known/1"

// EvidenceHandler answers GET requests with evidence for the nonce in the query, over the key of
// the server's certificate: for browsers, curl, and others that do not speak the protocol of this
// package.
//
// It does not survive relay: an attacker with a copy of the certificate's key passes the evidence
// on. docs/attested-tls.md, section 11, says what it shows. The zero value works behind
// [Server.Serve] with AlsoPlain.
type EvidenceHandler struct {
	Attester *Attester // nil: the zero Attester

	// Certificate is that of the server. nil: the one of the connection, if it is a [Conn].
	Certificate *tls.Certificate

	// PerSecond is how many requests are let through each second, and at once. 0: 10. Others are
	// answered with 429.
	PerSecond int

	once     sync.Once
	attester *Attester

	mu     sync.Mutex // guards the two below
	tokens float64
	filled time.Time
}

const (
	defaultPerSecond = 10
	evidenceTime     = 30 * time.Second // for the agent
	maxQuery         = 512              // bytes that are looked at
)

// allow takes one of the requests that are let through.
func (h *EvidenceHandler) allow(now time.Time) bool {
	rate := float64(h.PerSecond)
	if rate <= 0 {
		rate = defaultPerSecond
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.filled.IsZero() {
		h.tokens = rate
	} else {
		h.tokens = min(rate, h.tokens+rate*now.Sub(h.filled).Seconds())
	}
	h.filled = now
	if h.tokens < 1 {
		return false
	}
	h.tokens--
	return true
}

// ServeHTTP answers a request.
func (h *EvidenceHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.once.Do(func() {
		if h.attester = h.Attester; h.attester == nil {
			h.attester = new(Attester)
		}
	})
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	nonce, bad := nonceIn(r.URL.RawQuery)
	certificate := h.Certificate
	if c := From(r.Context()); certificate == nil && c != nil {
		certificate = c.local
	}
	switch {
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", "GET")
		problem(w, http.StatusMethodNotAllowed, api.CodeMethod, "want GET")
	case bad != "":
		problem(w, http.StatusBadRequest, api.CodeInvalidValue, bad)
	case certificate == nil:
		problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "this server does not know the certificate of this connection")
	case !h.allow(time.Now()):
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusTooManyRequests, api.CodeThrottled, "too many requests for evidence: try again in a second")
	default:
		h.answer(w, r, nonce, certificate)
	}
}

func (h *EvidenceHandler) answer(w http.ResponseWriter, r *http.Request, nonce []byte, certificate *tls.Certificate) {
	ctx, cancel := context.WithTimeout(r.Context(), evidenceTime)
	defer cancel()
	document, err := h.attester.ask(ctx, api.EvidenceRequest{Nonce: nonce, UserData: []byte(EvidenceUserData), Freshness: evidence.Anchored}, certificate)
	switch {
	case errors.Is(err, CodeBusy):
		w.Header().Set("Retry-After", "1")
		problem(w, http.StatusTooManyRequests, api.CodeBusy, "too many requests wait for evidence: try again in a second")
	case err != nil: // what failed is not for strangers
		problem(w, http.StatusServiceUnavailable, api.CodeUnavailable, "the agent of this machine gave no evidence")
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(document)))
		w.Write(document)
	}
}

// nonceIn reads the query, which has a nonce and nothing else.
func nonceIn(query string) (nonce []byte, bad string) {
	const want = "want the query nonce, once, with 32 to 128 hexadecimal digits, and no other"
	if len(query) > maxQuery {
		return nil, want
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 1 || len(values["nonce"]) != 1 {
		return nil, want
	}
	nonce, err = hex.DecodeString(values["nonce"][0])
	if err != nil || len(nonce) < evidence.MinNonce || len(nonce) > evidence.MaxNonce {
		return nil, want
	}
	return nonce, ""
}

// problem answers with an error (RFC 9457).
func problem(w http.ResponseWriter, status int, code api.Code, detail string) {
	b, err := strictjson.Encode(&api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: code, Detail: detail})
	if err != nil {
		http.Error(w, http.StatusText(status), status)
		return
	}
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(status)
	w.Write(b)
}
