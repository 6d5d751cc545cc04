// SPDX-License-Identifier: Apache-2.0

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
	Method   string
	Path     string  // a segment in braces stands for any one segment
	On       Sockets // where it is served
	Body     int64   // bytes of the body that are read; 0: the body is passed over
	Query    []string
	Timeout  time.Duration // until the answer is there, once the body is
	Request  any           // zero value of the body's type, nil for none
	Response any           // zero value of the answer's type
	prepare  func(*Server, *call) (job, error)
}

// Sockets says on which sockets a route is served.
type Sockets string

const (
	OnBoth   Sockets = "both"
	OnAdmin  Sockets = "admin"  // administration
	OnClient Sockets = "client" // secrets of an app, which who administrates is never handed
)

// serves reports whether a connection of socket may use a route.
func (s Sockets) serves(socket Socket) bool { return s == OnBoth || string(s) == string(socket) }

// Routes is the permission table.
func Routes() []Route {
	return []Route{
		{"GET", api.PathSelf, OnBoth, 0, nil, 10 * time.Second, nil, api.Self{}, (*Server).self},
		{"GET", api.PathStatus, OnBoth, 0, nil, 10 * time.Second, nil, api.Status{}, (*Server).status},
		{"GET", api.PathLog, OnBoth, 0, []string{api.QueryStart, api.QueryFormat}, 30 * time.Second, nil, evidence.Log{}, (*Server).log},
		// A host was seen to hold a report back for 62 seconds.
		{"POST", api.PathEvidence, OnBoth, api.MaxEvidenceRequest, nil, 90 * time.Second, api.EvidenceRequest{}, evidence.Evidence{}, (*Server).evidence},
		{"GET", api.PathAK, OnBoth, 0, nil, 30 * time.Second, nil, api.AK{}, (*Server).ak},
		{"GET", api.PathApps, OnAdmin, 0, nil, 10 * time.Second, nil, api.Apps{}, (*Server).apps},
		{"POST", api.PathMeasure, OnAdmin, 0, nil, 5 * time.Minute, nil, api.App{}, (*Server).measure},
		{"POST", api.PathReload, OnAdmin, 0, nil, 5 * time.Minute, nil, api.Reloaded{}, (*Server).reload},
		{"POST", api.PathReplace, OnAdmin, 0, nil, 5 * time.Minute, nil, api.Replaced{}, (*Server).replaceAK},
		{"POST", api.PathActivate, OnAdmin, api.MaxActivateRequest, nil, 30 * time.Second, api.ActivateRequest{}, api.Activated{}, (*Server).activate},

		// A root key may have to wait for the SNP firmware, as evidence does.
		{"POST", api.PathDerive, OnClient, api.MaxKeyRequest, nil, 90 * time.Second, api.DeriveRequest{}, api.Derived{}, (*Server).derive},
		{"POST", api.PathSeal, OnClient, api.MaxSealRequest, nil, 90 * time.Second, api.SealRequest{}, api.Sealed{}, (*Server).seal},
		{"POST", api.PathUnseal, OnClient, api.MaxSealRequest, nil, 90 * time.Second, api.UnsealRequest{}, api.Unsealed{}, (*Server).unseal},
		{"POST", api.PathDiscard, OnClient, api.MaxKeyRequest, nil, 90 * time.Second, api.DiscardRequest{}, api.Discarded{}, (*Server).discard},
		{"GET", api.PathContract, OnClient, 0, []string{api.QueryName}, 90 * time.Second, nil, api.Contract{}, (*Server).contract},

		{"GET", api.PathStore, OnAdmin, 0, nil, 90 * time.Second, nil, api.Store{}, (*Server).store},
		{"GET", api.PathStoreContract, OnAdmin, 0, []string{api.QueryApp, api.QueryName}, 90 * time.Second, nil, api.Contract{}, (*Server).storeContract},
		{"POST", api.PathRewrap, OnAdmin, 0, nil, 5 * time.Minute, nil, api.Rewritten{}, (*Server).rewrap},
		{"POST", api.PathRotate, OnAdmin, api.MaxKeyRequest, nil, 5 * time.Minute, api.RotateRequest{}, api.RootVersion{}, (*Server).rotate},
		{"POST", api.PathRetire, OnAdmin, api.MaxKeyRequest, nil, 90 * time.Second, api.RetireRequest{}, api.RootVersion{}, (*Server).retire},
		{"POST", api.PathRecover, OnAdmin, api.MaxStoreRequest, nil, 5 * time.Minute, api.RecoverRequest{}, api.Rewritten{}, (*Server).recover},
		{"POST", api.PathRecipients, OnAdmin, api.MaxKeyRequest, nil, 5 * time.Minute, api.RecipientsRequest{}, api.Rewritten{}, (*Server).recipients},
		{"POST", api.PathAccept, OnAdmin, 0, nil, 90 * time.Second, nil, api.Store{}, (*Server).acceptRollback},
		{"POST", api.PathDigests, OnAdmin, api.MaxKeyRequest, nil, 90 * time.Second, api.DigestRequest{}, api.Contract{}, (*Server).digests},
		{"POST", api.PathProbe, OnAdmin, 0, nil, 5 * time.Minute, nil, api.Probed{}, (*Server).probe},
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
