// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// RefusedError says that the attestation authority refused the evidence.
type RefusedError struct {
	Class  int      // of the verdict, as exit codes of "agentctl verify" are
	Failed []string // checks that failed, with what was found, one line each
}

// Error names the checks.
func (e *RefusedError) Error() string {
	return "the attestation authority refused the evidence: " + strings.Join(e.Failed, "; ")
}

// UncertifiedError says why accepted evidence led to no certificate of the attestation key, in the words
// of the attestation authority.
type UncertifiedError string

// Error returns the reason.
func (e UncertifiedError) Error() string {
	return "the attestation authority accepted the evidence, and did not certify the attestation key: " + string(e)
}

// akCertificate is the certificate of the attestation key, as relying.AKCertificate has it. The types of
// package relying would bring the verifier into each app.
type akCertificate struct {
	Chain               []evidence.Bytes `json:"chain"`
	PermanentIdentifier string           `json:"permanentIdentifier"`
	NotAfter            time.Time        `json:"notAfter"`
}

// answer is what is read of an answer of the attestation authority.
type answer struct {
	Nonce     evidence.Bytes `json:"nonce"`
	Appraisal struct {
		Verdict string `json:"verdict"`
		Class   int    `json:"class"`
		Checks  []struct {
			ID       string `json:"id"`
			Verdict  string `json:"verdict"`
			Sentence string `json:"sentence"`
			Required bool   `json:"required"`
		} `json:"checks"`
	} `json:"appraisal"`
	AKCertificate *akCertificate `json:"akCertificate"`
	Uncertified   string         `json:"uncertified"`
}

// certifyAK has the attestation key certified, with evidence that names the key of the app.
func (c *Client) certifyAK(ctx context.Context, agent *client.Client, key api.SigningKey) (*akCertificate, error) {
	h := newHTTP(&c.Authority)
	defer h.CloseIdleConnections()
	var a answer
	if err := c.ask(ctx, h, "/v1/challenges", []byte("{}"), &a); err != nil {
		return nil, err
	}
	document, err := agent.Evidence(ctx, api.EvidenceRequest{Nonce: a.Nonce, SigningKey: &key})
	if err != nil {
		return nil, fmt.Errorf("evidence for the attestation authority: %w", err)
	}
	request, err := strictjson.Encode(struct {
		Nonce     evidence.Bytes `json:"nonce"`
		Evidence  jsontext.Value `json:"evidence"`
		CertifyAK bool           `json:"certifyAK"`
	}{a.Nonce, document, true})
	if err != nil {
		return nil, err
	}
	if err := c.ask(ctx, h, "/v1/appraisals", request, &a); err != nil {
		return nil, err
	}
	return a.certificate()
}

// certificate returns the certificate of an answer, or why it has none.
func (a *answer) certificate() (*akCertificate, error) {
	if a.Appraisal.Verdict != "pass" {
		e := &RefusedError{Class: a.Appraisal.Class}
		for _, x := range a.Appraisal.Checks {
			if x.Verdict == "fail" || x.Required && x.Verdict != "pass" {
				e.Failed = append(e.Failed, text.Line(x.ID+": "+x.Sentence))
			}
		}
		return nil, e
	}
	x := a.AKCertificate
	if x == nil {
		return nil, UncertifiedError(text.Line(cmp.Or(a.Uncertified, "it gives no reason, so it is older than such certificates")))
	}
	if len(x.Chain) < 1 || len(x.Chain) > maxChain || x.PermanentIdentifier == "" || len(x.PermanentIdentifier) > maxIdentifier {
		return nil, fmt.Errorf("the attestation authority sent %d certificates for the identifier %q: want 1 to %d, and 1 to %d bytes", len(x.Chain), text.Line(x.PermanentIdentifier), maxChain, maxIdentifier)
	}
	return x, nil
}

// Limits of a certificate of an attestation key.
const (
	maxChain      = 16   // certificates
	maxIdentifier = 1024 // bytes
)

// ask sends a request to the attestation authority.
func (c *Client) ask(ctx context.Context, h *http.Client, path string, request []byte, out any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.Authority.URL, "/")+path, bytes.NewReader(request))
	if err != nil {
		return fmt.Errorf("address of the attestation authority: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := h.Do(r)
	if err != nil {
		return fmt.Errorf("attestation authority: %w", err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("attestation authority: read the answer: %w", err)
	}
	if answer.StatusCode != http.StatusOK {
		var p api.Problem
		if strictjson.DecodeForeign(b, maxAnswer, &p) != nil || p.Code == "" {
			return fmt.Errorf("attestation authority: %s answers with %s", path, text.Line(answer.Status))
		}
		return fmt.Errorf("attestation authority: %s", text.Line(p.Error())) // not wrapped: it is not a problem of the agent
	}
	if err := strictjson.DecodeForeign(b, maxAnswer, out); err != nil {
		return fmt.Errorf("attestation authority: %s answers with another document than expected: %w", path, err)
	}
	return nil
}
