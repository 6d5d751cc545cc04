// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/page"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/verify"
)

//go:embed fleet.html
var fleetSource string

// maxFilter is the longest value of a filter, in bytes.
const maxFilter = 256

// olders are the ages by which machines are selected.
var olders = map[string]time.Duration{"1h": time.Hour, "1d": 24 * time.Hour, "7d": 7 * 24 * time.Hour}

// selection is what a request selects.
type selection struct {
	values map[string]string // by parameter
	filter store.Filter
	after  string // the last machine of the page before, as "POLICY AK"
	policy string // of after
	ak     keys.Name
}

func selected(r *http.Request, now time.Time) (*selection, error) {
	q := map[string]string{}
	for name := range r.URL.Query() {
		value := r.URL.Query().Get(name)
		q[name] = value
		if len(value) > maxFilter || !text.Shown(value) {
			return nil, problem(api.CodeInvalidValue, fmt.Sprintf("%s: want at most %d bytes that can be shown", name, maxFilter))
		}
	}
	s := &selection{values: q, after: q["after"]}
	s.filter = store.Filter{Policy: q["policy"], Product: q["product"], TCB: q["tcb"], Measurement: q["measurement"], Verdict: verify.Verdict(q["verdict"])}
	if v := s.filter.Verdict; v != "" && v != verify.Pass && v != verify.Fail {
		return nil, problem(api.CodeInvalidValue, "verdict: want pass or fail")
	}
	if o := q["older"]; o != "" {
		age, ok := olders[o]
		if !ok {
			return nil, problem(api.CodeInvalidValue, "older: want 1h, 1d or 7d")
		}
		s.filter.Before = now.Add(-age)
	}
	if s.after != "" {
		policy, ak, _ := strings.Cut(s.after, " ")
		var err error
		if s.ak, err = name(ak); err != nil || s.ak == nil || !settings.PolicyName.MatchString(policy) {
			return nil, problem(api.CodeInvalidValue, "after: want it as the page before has it")
		}
		s.policy = policy
	}
	return s, nil
}

// with returns the address of a page with some parameters changed, in pairs of name and value.
func (s *selection) with(changes ...string) string {
	set := map[string]string{}
	for _, p := range filters {
		set[p] = s.values[p]
	}
	for i := 0; i < len(changes); i += 2 {
		set[changes[i]] = changes[i+1]
	}
	var parts []string
	for _, p := range ofMachines {
		if set[p] != "" {
			parts = append(parts, p+"="+url.QueryEscape(set[p]))
		}
	}
	return "?" + strings.Join(parts, "&")
}

// MachineList is a page of machines.
type MachineList struct {
	Machines []*store.Machine `json:"machines"`       // at most 100
	After    string           `json:"after,omitzero"` // parameter for the next page, if there may be one
}

func (w *Worker) machines(r *http.Request, s *selection) (*MachineList, error) {
	all, err := w.store.Machines(r.Context(), s.filter, s.policy, s.ak)
	out := &MachineList{Machines: all}
	if n := len(all); n == store.MaxPage {
		out.After = all[n-1].Policy + " " + all[n-1].AK.String()
	}
	return out, err
}

func listMachines(w *Worker, _ string, r *http.Request) (any, error) {
	s, err := selected(r, time.Now())
	if err != nil {
		return nil, err
	}
	return w.machines(r, s)
}

func getFleet(w *Worker, _ string, r *http.Request) (any, error) {
	now := time.Now()
	s, err := selected(r, now)
	if err != nil {
		return nil, err
	}
	return w.store.Fleet(r.Context(), s.filter, now)
}

// fleetStyle is what the page of machines has besides the style of all pages.
const fleetStyle = `.filters { display: flex; flex-wrap: wrap; gap: 0.5rem; margin: 1rem 0 0; padding: 0; list-style: none; }
.filters a { display: block; padding: 0.2rem 0.7rem; border: 1px solid var(--rule); border-radius: 1rem; background: var(--card); text-decoration: none; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1.5rem 3rem; }
section > table + table { margin-top: 1.5rem; }
.list td, .list thead th { overflow-wrap: normal; }
.list td .code { overflow-wrap: anywhere; }
.list th.code { min-width: 11rem; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
.fail { color: var(--bad); font-weight: 600; }
`

var (
	style = page.Style + fleetStyle
	// Links lead to other pages of the service. The page loads nothing.
	contentPolicy = "default-src 'none'; style-src 'sha256-" + page.Hash(style) + "'; base-uri 'none'; form-action 'none'"
)

// fleetView is what the template shows.
type fleetView struct {
	*store.Fleet
	*selection
	Policy  string
	Style   template.CSS
	Now     time.Time
	List    *MachineList
	Filters []struct{ Name, Value, Without string }
}

var fleetLayout = template.Must(template.New("fleet").Funcs(template.FuncMap{
	"short": func(ak keys.Name) string { s := ak.String(); return s[:min(len(s), 20)] + "…" },
	"time":  func(t time.Time) string { return t.Format("2006-01-02 15:04:05") },
	"age":   age,
	"verdict": func(v verify.Verdict) string {
		if v == verify.Pass {
			return "accepted"
		}
		return "refused by its policy"
	},
	"orElse": func(s, other string) string {
		if s == "" {
			return other
		}
		return s
	},
	"hex": func(s string) string {
		if _, err := hex.DecodeString(s); err != nil || len(s) <= 24 {
			return s
		}
		return s[:24] + "…"
	},
}).Parse(fleetSource))

// age returns how long ago a time was, in the largest unit of which it is at least two.
func age(now, t time.Time) string {
	d := max(now.Sub(t), 0)
	for _, u := range []struct {
		name string
		is   time.Duration
	}{{"days", 24 * time.Hour}, {"hours", time.Hour}, {"minutes", time.Minute}} {
		if d >= 2*u.is {
			return fmt.Sprintf("%d %s ago", d/u.is, u.name)
		}
	}
	return fmt.Sprintf("%d seconds ago", d/time.Second)
}

// With is s.with for the template.
func (v *fleetView) With(changes ...string) string { return v.with(changes...) }

func getFleetPage(w *Worker, _ string, r *http.Request) (any, error) {
	now := time.Now()
	s, err := selected(r, now)
	if err != nil {
		return nil, err
	}
	v := &fleetView{selection: s, Policy: contentPolicy, Style: template.CSS(style), Now: now.UTC()}
	if v.Fleet, err = w.store.Fleet(r.Context(), s.filter, now); err != nil {
		return nil, err
	}
	if v.List, err = w.machines(r, s); err != nil {
		return nil, err
	}
	for _, p := range filters {
		if s.values[p] != "" {
			v.Filters = append(v.Filters, struct{ Name, Value, Without string }{p, s.values[p], s.with(p, "")})
		}
	}
	var b bytes.Buffer
	if err := fleetLayout.Execute(&b, v); err != nil {
		return nil, fmt.Errorf("worker: draw the page of machines: %w", err)
	}
	return webPage(b.Bytes()), nil
}
