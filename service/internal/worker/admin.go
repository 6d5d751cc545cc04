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
	if !counts(r.TLS, g.admin) {
		return "", problem(api.CodeNotPermitted, "the certificate expired, or its authority is not admin.client_ca any more")
	}
	name := r.TLS.VerifiedChains[0][0].Subject.CommonName
	if name == "" || !slices.Contains(g.settings.Admin.Names, name) {
		return "", problem(api.CodeNotPermitted, "its common name is not one of [admin] names")
	}
	return name, nil
}

// query refuses a request that has other parameters than these, or one of them twice.
func query(r *http.Request, known []string) error {
	for name, values := range r.URL.Query() {
		if slices.Contains(known, name) && len(values) == 1 {
			continue
		}
		if len(known) == 0 {
			return problem(api.CodeUnknownParameter, "this path takes none")
		}
		return problem(api.CodeUnknownParameter, "want each of these at most once: "+strings.Join(known, ", "))
	}
	return nil
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

// PolicyList is the newest version of each policy.
type PolicyList struct {
	Policies []*store.Policy `json:"policies"` // without their texts; one without a digest was withdrawn
}

func listPolicies(w *Worker, _ string, r *http.Request) (any, error) {
	all, err := w.store.Policies(r.Context())
	return PolicyList{all}, err
}

func getPolicy(w *Worker, _ string, r *http.Request) (any, error) {
	n, err := number(r.URL.Query().Get("version"), "version")
	if err != nil {
		return nil, err
	}
	return w.store.Policy(r.Context(), r.PathValue("name"), n)
}

// PutPolicy is the body of a request that puts a policy.
type PutPolicy struct {
	Text     string  `json:"text"`              // as docs/policy.md describes it, signed if [policies] has keys
	Audience string  `json:"audience,omitzero"` // party that tokens are for; absent: no tokens
	After    *uint64 `json:"after,omitzero"`    // version that it follows, 0 for none; absent: any
}

func putPolicy(w *Worker, by string, r *http.Request) (any, error) {
	var q PutPolicy
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

// EnrolmentList is a page of enrolments.
type EnrolmentList struct {
	Enrolments []*keys.Listed `json:"enrolments"` // at most 100, in the order of their keys
}

func listEnrolments(w *Worker, _ string, r *http.Request) (any, error) {
	state := keys.State(r.URL.Query().Get("state"))
	if !slices.Contains([]keys.State{"", keys.Pending, keys.Approved}, state) {
		return nil, problem(api.CodeInvalidValue, "state: want pending or approved")
	}
	after, err := name(r.URL.Query().Get("after"))
	if err != nil {
		return nil, err
	}
	all, err := w.store.Enrolments(r.Context(), state, after)
	return EnrolmentList{all}, err
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
	return ChangedEnrolment{e.AK, keys.Pending}, w.store.Enrol(r.Context(), &e, by, time.Now())
}

// ChangedEnrolment is the answer to a change of an enrolment.
type ChangedEnrolment struct {
	AK    keys.Name  `json:"ak"`             // name of the attestation key
	State keys.State `json:"state,omitzero"` // absent: it was removed
}

func approve(w *Worker, by string, r *http.Request) (any, error) {
	ak, err := name(r.PathValue("ak"))
	if err != nil {
		return nil, err
	}
	return ChangedEnrolment{ak, keys.Approved}, w.store.Approve(r.Context(), ak, by, time.Now())
}

func removeEnrolment(w *Worker, by string, r *http.Request) (any, error) {
	ak, err := name(r.PathValue("ak"))
	if err != nil {
		return nil, err
	}
	return ChangedEnrolment{AK: ak}, w.store.Unenrol(r.Context(), ak, by, time.Now())
}

// Record is an entry of the chain of records.
type Record struct {
	Hash      string         `json:"hash"`               // of the entry, hexadecimal
	Entry     string         `json:"entry"`              // line of the chain, over which the hash is
	Appraisal jsontext.Value `json:"appraisal,omitzero"` // as POST /v1/appraisals answers it; absent in lists, of changes, and if it was deleted

	entry *store.Entry
}

// RecordList is a page of records.
type RecordList struct {
	Records []Record `json:"records"` // at most 100, in their order, without appraisals
}

func listRecords(w *Worker, _ string, r *http.Request) (any, error) {
	n, err := number(r.URL.Query().Get("after"), "after")
	if err != nil {
		return nil, err
	}
	all, err := w.store.Entries(r.Context(), n)
	var out RecordList
	for _, x := range all {
		out.Records = append(out.Records, Record{Hash: x.Hash, Entry: string(x.Line)})
	}
	return out, err
}

func getRecord(w *Worker, _ string, r *http.Request) (any, error) { return w.record(r) }

// record returns the record that a request names, with its appraisal.
func (w *Worker) record(r *http.Request) (*Record, error) {
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
	out := &Record{Hash: all[0].Hash, Entry: string(all[0].Line), entry: all[0].Entry}
	if out.Appraisal, err = w.store.Appraisal(r.Context(), n); err != nil || out.Appraisal == nil {
		return out, err
	}
	if sum := sha256.Sum256(out.Appraisal); hex.EncodeToString(sum[:]) != out.entry.Appraisal {
		return nil, fmt.Errorf("worker: the database has another appraisal than record %d has the digest of: `agentd-verifier check-records` looks at all", n)
	}
	return out, nil
}

func getHead(w *Worker, _ string, r *http.Request) (any, error) { return w.store.Head(r.Context()) }
