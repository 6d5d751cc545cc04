package server

import (
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// A Route is one row of the permission table: what is served, to whom, and within
// which limits. Nothing is served that has no row, and no handler checks again.
type Route struct {
	Method    string
	Path      string // a segment in braces stands for any one segment
	AdminOnly bool   // served on the admin socket alone; the others are served on both
	Body      int64  // bytes of the body that are read; 0: the body is passed over
	Query     []string
	Timeout   time.Duration // until the answer is there, once the body is
	Request   any           // zero value of the body's type, nil for none
	Response  any           // zero value of the answer's type
	prepare   func(*Server, *call) (job, error)
}

// Routes is the permission table.
func Routes() []Route {
	return []Route{
		{"GET", api.PathSelf, false, 0, nil, 10 * time.Second, nil, api.Self{}, (*Server).self},
		{"GET", api.PathStatus, false, 0, nil, 10 * time.Second, nil, api.Status{}, (*Server).status},
		{"GET", api.PathLog, false, 0, []string{api.QueryStart, api.QueryFormat}, 30 * time.Second, nil, evidence.Log{}, (*Server).log},
		// A host was seen to hold a report back for 62 seconds.
		{"POST", api.PathEvidence, false, api.MaxEvidenceRequest, nil, 90 * time.Second, api.EvidenceRequest{}, evidence.Evidence{}, (*Server).evidence},
		{"GET", api.PathAK, false, 0, nil, 30 * time.Second, nil, api.AK{}, (*Server).ak},
		{"GET", api.PathApps, true, 0, nil, 10 * time.Second, nil, api.Apps{}, (*Server).apps},
		{"POST", api.PathMeasure, true, 0, nil, 5 * time.Minute, nil, api.App{}, (*Server).measure},
		{"POST", api.PathReload, true, 0, nil, 5 * time.Minute, nil, api.Reloaded{}, (*Server).reload},
		{"POST", api.PathActivate, true, api.MaxActivateRequest, nil, 30 * time.Second, api.ActivateRequest{}, api.Activated{}, (*Server).activate},
	}
}

// match finds the row for method and path, with the segment that stands for braces.
// Where only the method is wrong, allow lists those that are right.
func match(method, path string) (r *Route, segment string, allow []string) {
	for _, row := range Routes() {
		value, ok := matchPath(row.Path, path)
		if !ok {
			continue
		}
		if row.Method == method {
			return &row, value, nil
		}
		allow = append(allow, row.Method)
	}
	return nil, "", allow
}

func matchPath(pattern, path string) (segment string, ok bool) {
	before, rest, braces := strings.Cut(pattern, "{")
	if !braces {
		return "", pattern == path
	}
	_, after, _ := strings.Cut(rest, "}")
	middle, ok := strings.CutPrefix(path, before)
	if !ok {
		return "", false
	}
	segment, ok = strings.CutSuffix(middle, after)
	return segment, ok && segment != "" && !strings.Contains(segment, "/")
}
