// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// act answers one request of an administrator: with a value for JSON, a [webPage], a problem, or an
// error of the store.
type act func(w *Worker, by string, r *http.Request) (any, error)

var acts = map[string]act{
	"GET /admin/v1/policies":                 listPolicies,
	"GET /admin/v1/policies/{name}":          getPolicy,
	"PUT /admin/v1/policies/{name}":          putPolicy,
	"DELETE /admin/v1/policies/{name}":       withdrawPolicy,
	"GET /admin/v1/enrolments":               listEnrolments,
	"POST /admin/v1/enrolments":              addEnrolment,
	"POST /admin/v1/enrolments/{ak}/approve": approve,
	"DELETE /admin/v1/enrolments/{ak}":       removeEnrolment,
	"GET /admin/v1/records":                  listRecords,
	"GET /admin/v1/records/{sequence}":       getRecord,
	"GET /admin/v1/records/{sequence}/page":  getPage,
	"GET /admin/v1/head":                     getHead,
	"GET /admin/v1/machines":                 listMachines,
	"GET /admin/v1/fleet":                    getFleet,
	"GET /admin/v1/fleet/page":               getFleetPage,
}

// administration returns the handler of administrators.
func (w *Worker) administration() http.Handler {
	mux := http.NewServeMux()
	for pattern, f := range acts {
		mux.Handle(pattern, w.traced(pattern, func(out http.ResponseWriter, r *http.Request) { w.act(f, out, r) }))
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
func (w *Worker) act(f act, out http.ResponseWriter, r *http.Request) {
	by, refusal := w.administrator(r)
	if refusal != nil {
		refuse(out, refusal)
		return
	}
	answer, err := f(w, by, r)
	if p, is := errors.AsType[*api.Problem](err); is {
		refuse(out, p)
		return
	}
	media, b := "text/html; charset=utf-8", []byte(nil)
	if web, ok := answer.(webPage); ok {
		b = web
	} else if err == nil {
		media = "application/json"
		b, err = strictjson.Encode(answer)
	}
	if err != nil {
		w.refuse(out, err)
		return
	}
	head(out, media)
	_, _ = out.Write(b) // the client is gone
}

// administrator returns the name of an administrator: that of the certificate, which the connection
// has verified, or of the token. A token that does not count is not made up for by a certificate.
func (w *Worker) administrator(r *http.Request) (string, *api.Problem) {
	g := w.now()
	if token, has := bearer(r); has {
		if g.issuer == nil {
			return "", problem(api.CodeNotPermitted, "tokens do not count here: [admin.oidc] names no issuer")
		}
		name, err := g.issuer.name(r.Context(), token)
		if errors.Is(err, errIssuer) {
			g.issuer.tell(w.log, "an administrator's token could not be checked", err)
			p := problem(api.CodeUnavailable, "the issuer of tokens could not be asked for its keys: ask again soon")
			p.RetryAfter = 5
			return "", p
		}
		if err != nil {
			g.issuer.tell(w.log, "an administrator's token was refused", err)
			return "", problem(api.CodeNotPermitted, "the token does not count: the log of the worker says why")
		}
		return name, nil
	}
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 {
		return "", problem(api.CodeNotPermitted, "come with a certificate of admin.client_ca, or a token of admin.oidc.issuer")
	}
	name := r.TLS.VerifiedChains[0][0].Subject.CommonName
	if name == "" || !slices.Contains(g.settings.Admin.Names, name) {
		return "", problem(api.CodeNotPermitted, "its common name is not one of [admin] names")
	}
	return name, nil
}

// query returns the parameters of a request, of which only these may be there, each once.
func query(r *http.Request, known ...string) (map[string]string, error) {
	out := map[string]string{}
	for name, values := range r.URL.Query() {
		if !slices.Contains(known, name) || len(values) != 1 {
			return nil, problem(api.CodeUnknownParameter, "want each of these at most once: "+strings.Join(known, ", "))
		}
		out[name] = values[0]
	}
	return out, nil
}

// number returns a number of a path or a parameter, 0 if that is empty.
func number(s, what string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 53)
	if err != nil {
		return 0, problem(api.CodeInvalidValue, what+": want a number")
	}
	return n, nil
}

// body decodes the body of a request of an administrator.
func body(r *http.Request, limit int, v any) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return problem(api.CodeBodyTimeout, "send it at once")
	case err != nil:
		return problem(api.CodeMalformed, "the body did not arrive whole")
	case len(b) > limit:
		return problem(api.CodeTooLarge, "at most "+strconv.Itoa(limit)+" bytes are read")
	}
	if err := strictjson.Decode(b, limit, v); err != nil {
		return problem(api.CodeMalformed, err.Error())
	}
	return nil
}

func listPolicies(w *Worker, _ string, r *http.Request) (any, error) {
	if _, err := query(r); err != nil {
		return nil, err
	}
	all, err := w.store.Policies(r.Context())
	return struct {
		Policies []*store.Policy `json:"policies"`
	}{all}, err
}

func getPolicy(w *Worker, _ string, r *http.Request) (any, error) {
	q, err := query(r, "version")
	if err != nil {
		return nil, err
	}
	n, err := number(q["version"], "version")
	if err != nil {
		return nil, err
	}
	return w.store.Policy(r.Context(), r.PathValue("name"), n)
}

// putPolicyBody is the body of a request that puts a policy.
type putPolicyBody struct {
	Text     string  `json:"text"`              // as docs/policy.md describes it, signed if [policies] has keys
	Audience string  `json:"audience,omitzero"` // party that tokens are for; absent: no tokens
	After    *uint64 `json:"after,omitzero"`    // version that it follows, 0 for none; absent: any
}

func putPolicy(w *Worker, by string, r *http.Request) (any, error) {
	var q putPolicyBody
	if err := body(r, verify.MaxSignedPolicy+verify.MaxSignedPolicy/2+64<<10, &q); err != nil { // escapes make it longer
		return nil, err
	}
	name := r.PathValue("name")
	g := w.now()
	policy, label, err := g.parse(q.Text)
	if err == nil {
		_, err = verify.New(policy, g.trust)
	}
	switch {
	case !settings.PolicyName.MatchString(name):
		return nil, problem(api.CodeInvalidValue, "the name of a policy: want 1 to 63 of a-z, 0-9 and -")
	case err != nil:
		return nil, problem(api.CodeInvalidValue, "the policy: "+err.Error())
	case len(q.Audience) > ear.MaxName || !text.Shown(q.Audience):
		return nil, problem(api.CodeInvalidValue, "the audience: want a short text")
	}
	if g.policies != nil {
		version, err := g.follows(r.Context(), name, label)
		if err != nil {
			return nil, err
		}
		if q.After == nil {
			q.After = &version
		}
	}
	digest := policy.Digest()
	p, err := w.store.PutPolicy(r.Context(), store.Policy{Name: name, Digest: hex.EncodeToString(digest[:]), Text: q.Text, Audience: q.Audience, By: by, Changed: time.Now()}, q.After)
	if err != nil {
		return nil, err
	}
	w.log.Info("a policy was put into force", "policy", name, "version", p.Version, "by", by)
	short := *p
	short.Text = ""
	return &short, nil
}

func withdrawPolicy(w *Worker, by string, r *http.Request) (any, error) {
	p, err := w.store.PutPolicy(r.Context(), store.Policy{Name: r.PathValue("name"), By: by, Changed: time.Now()}, nil)
	if err == nil {
		w.log.Warn("a policy was withdrawn", "policy", p.Name, "version", p.Version, "by", by)
	}
	return p, err
}

func listEnrolments(w *Worker, _ string, r *http.Request) (any, error) {
	q, err := query(r, "state", "after")
	if err != nil {
		return nil, err
	}
	state := keys.State(q["state"])
	if !slices.Contains([]keys.State{"", keys.Pending, keys.Approved}, state) {
		return nil, problem(api.CodeInvalidValue, "state: want pending or approved")
	}
	after, err := name(q["after"])
	if err != nil {
		return nil, err
	}
	all, err := w.store.Enrolments(r.Context(), state, after)
	return struct {
		Enrolments []*keys.Listed `json:"enrolments"`
	}{all}, err
}

// name returns the name of an attestation key, nil if it is empty.
func name(s string) (ak keys.Name, err error) {
	if s == "" {
		return nil, nil
	}
	if err := ak.UnmarshalText([]byte(s)); err != nil {
		return nil, problem(api.CodeInvalidValue, "the name of an attestation key: "+err.Error())
	}
	return ak, nil
}

func addEnrolment(w *Worker, by string, r *http.Request) (any, error) {
	var e keys.Enrolment
	if err := body(r, keys.MaxListed, &e); err != nil {
		return nil, err
	}
	if err := e.Check(); err != nil {
		return nil, problem(api.CodeInvalidValue, err.Error())
	}
	return changedEnrolment{e.AK, keys.Pending}, w.store.Enrol(r.Context(), &e, by, time.Now())
}

// changedEnrolment is the answer to a change of an enrolment.
type changedEnrolment struct {
	AK    keys.Name  `json:"ak"`
	State keys.State `json:"state,omitzero"` // absent: it was removed
}

func approve(w *Worker, by string, r *http.Request) (any, error) {
	ak, err := name(r.PathValue("ak"))
	if err != nil {
		return nil, err
	}
	return changedEnrolment{ak, keys.Approved}, w.store.Approve(r.Context(), ak, by, time.Now())
}

func removeEnrolment(w *Worker, by string, r *http.Request) (any, error) {
	ak, err := name(r.PathValue("ak"))
	if err != nil {
		return nil, err
	}
	return changedEnrolment{AK: ak}, w.store.Unenrol(r.Context(), ak, by, time.Now())
}

// shownRecord is a record as administrators get it. The hash is over the text of the entry.
type shownRecord struct {
	Hash      string         `json:"hash"`
	Entry     string         `json:"entry"`
	Appraisal jsontext.Value `json:"appraisal,omitzero"` // absent in lists, and if it was deleted

	entry *store.Entry
}

func listRecords(w *Worker, _ string, r *http.Request) (any, error) {
	q, err := query(r, "after")
	if err != nil {
		return nil, err
	}
	n, err := number(q["after"], "after")
	if err != nil {
		return nil, err
	}
	all, err := w.store.Entries(r.Context(), n)
	var out struct {
		Records []shownRecord `json:"records"`
	}
	for _, x := range all {
		out.Records = append(out.Records, shownRecord{Hash: x.Hash, Entry: string(x.Line)})
	}
	return out, err
}

func getRecord(w *Worker, _ string, r *http.Request) (any, error) { return w.record(r) }

// record returns the record that a request names, with its appraisal.
func (w *Worker) record(r *http.Request) (*shownRecord, error) {
	n, err := number(r.PathValue("sequence"), "sequence")
	if err != nil || n == 0 {
		return nil, problem(api.CodeInvalidValue, "want the number of a record")
	}
	all, err := w.store.Entries(r.Context(), n-1)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 || all[0].Entry.Sequence != n {
		return nil, store.ErrNone
	}
	out := &shownRecord{Hash: all[0].Hash, Entry: string(all[0].Line), entry: all[0].Entry}
	if out.Appraisal, err = w.store.Appraisal(r.Context(), n); err != nil || out.Appraisal == nil {
		return out, err
	}
	if sum := sha256.Sum256(out.Appraisal); hex.EncodeToString(sum[:]) != out.entry.Appraisal {
		return nil, fmt.Errorf("worker: the database has another appraisal than record %d has the digest of: `agentd-verifier check-records` looks at all", n)
	}
	return out, nil
}

func getHead(w *Worker, _ string, r *http.Request) (any, error) { return w.store.Head(r.Context()) }
