// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// Fresh evidence takes a place until the platform has made a report. Anchored evidence takes
// one for as long as a quote.
const (
	freshBody    = `{"nonce":"%N","freshness":"fresh","log":"none"}`
	anchoredBody = `{"nonce":"%N","freshness":"anchored"}`
)

// Asking for the attestation key does not occupy the TPM: evidence does not wait for it, and
// neither does a unit whose files changed.
func TestAttestationKeyFlood(t *testing.T) {
	m := switchOn(t)
	flood := m.attackers(1, party{Connections: 256, Method: "GET", Path: "/v1/ak"})
	m.compare(m.anchored(), 5, flood...)
	m.compare(m.measureChanged(), 5, flood...)
}

// Case 106: clients of any number and any uid, 0 included, who take what the client socket
// has keep root from nothing.
func TestRootIsNotLockedOut(t *testing.T) {
	waiting := party{Method: "POST", Path: "/v1/evidence", Body: freshBody}
	for name, attack := range map[string]func(m *machine) []party{
		"root of a container": func(m *machine) []party {
			p := waiting
			p.Connections = 900
			p.Socket = m.Socket() // of uid 0
			return []party{p}
		},
		"six users": func(m *machine) []party {
			p := waiting
			p.Connections = 700
			return m.attackers(6, p)
		},
		"users who only connect": func(m *machine) []party {
			return m.attackers(6, party{Connections: 700, Hoard: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := switchOn(t, "--spacing", "2s")
			work := m.measure()
			work.For = 2 * time.Second // attackers who are refused ask again meanwhile
			m.compare(work, 5, attack(m)...)
		})
	}
}

// Users who open connections without end delay others little, and keep none out.
func TestConnectFlood(t *testing.T) {
	m := switchOn(t)
	work := m.asVictim(party{Method: "GET", Path: "/v1/self", Requests: 100, For: usual, New: true, Pause: time.Millisecond})
	flood := party{Connections: 64, Method: "GET", Path: "/v1/self", New: true}
	m.compare(work, 10, m.attackers(1, flood)...)
	flood.Connections = 16
	m.compare(work, 10, m.attackers(6, flood)...)
	m.compare(m.measure(), 5, m.attackers(6, flood)...) // on the admin socket
}

// Of eight users with the same wish, for whom there are not enough places, the one who is
// served most gets at most twice what the one who is served least gets. It does not help to
// ask over more connections.
func TestUsersAreServedEqually(t *testing.T) {
	for name, connections := range map[string]func(i int) int{
		"equal":    func(int) int { return 16 },
		"stronger": func(i int) int { return 4 + 8*i },
	} {
		t.Run(name, func(t *testing.T) {
			m := switchOnAs(t, setup{config: "[limits]\nrequests = 4\nrequests_per_user = 4\n", flags: []string{"--fault", "throttle=20ms"}})
			users := m.attackers(8, party{Method: "POST", Path: "/v1/evidence", Body: freshBody})
			for i := range users {
				users[i].Connections, users[i].For = connections(i), 3*time.Second
			}
			var served []int
			text := ""
			for _, x := range startAll(t, users...) {
				a := x.end(false)
				served = append(served, len(a.Times))
				text += fmt.Sprintf(" %d %v", len(a.Times), a.Refused)
			}
			t.Logf("served:%s", text)
			if least, most := slices.Min(served), slices.Max(served); least == 0 || most > 2*least {
				t.Errorf("served: %v, want at most a factor of two between least and most", served)
			}
		})
	}
}

// Case 106: no call that a client can make keeps root, or a client with other work, from an
// answer: each route is flooded, with each value of its parameters.
func TestEveryRouteIsFlooded(t *testing.T) {
	routes := []api.Route{
		api.CallSelf.Route, api.CallStatus.Route, api.CallLog.Route, api.CallEvidence.Route, api.CallAK.Route,
		api.CallDerive.Route, api.CallSign.Route, api.CallPublic.Route, api.CallSeal.Route, api.CallUnseal.Route, api.CallDiscard.Route, api.CallContract.Route,
		api.CallOpenAPI.Route, api.CallMetrics.Route, api.CallProcess.Route, api.CallEvents.Route,
	}
	everyRoute(t, append(routes, api.CallEmit.Route, api.CallCertify.Route)) // which tests of their own flood
	m := switchOn(t)
	for _, r := range routes {
		paths := []string{r.Path}
		for _, q := range r.Query {
			for _, word := range q.Words {
				paths = append(paths, r.Path+"?"+q.Name+"="+word)
			}
		}
		switch r.Path {
		case api.CallPublic.Path:
			paths = []string{r.Path + "?label=host&algorithm=ecdsa-p384"}
		case api.CallProcess.Path:
			paths = []string{r.Path + "?pid=1"}
		}
		for _, path := range paths {
			t.Run(r.Name+" "+path, func(t *testing.T) {
				m := *m
				m.t = t
				flood := m.asOther(party{Connections: 64, Method: r.Method, Path: path, Body: r.Example})
				for _, work := range []party{m.measure(), m.anchored()} {
					work.Requests, work.For = 30, 0
					m.compare(work, 5, flood)
				}
			})
		}
	}
}

// everyRoute checks that all routes of the client socket are among these.
func everyRoute(t *testing.T, routes []api.Route) {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct {
			Socket api.Sockets `json:"x-agentd-socket"`
		}
	}
	must(t, json.Unmarshal([]byte(api.OpenAPI{}.String()), &document))
	n := 0
	for path, methods := range document.Paths {
		for method, x := range methods {
			if n++; x.Socket != api.OnAdmin && !slices.ContainsFunc(routes, func(r api.Route) bool { return r.Path == path && strings.EqualFold(r.Method, method) }) {
				t.Errorf("no test floods %s %s", method, path)
			}
		}
	}
	if n < len(routes) {
		t.Errorf("the document of the API has %d routes", n)
	}
}

// Evidence of several users, of both kinds, does not delay a unit that starts, whose files have changed.
func TestEvidenceFlood(t *testing.T) {
	for name, body := range map[string]string{"fresh": freshBody, "anchored": anchoredBody} {
		t.Run(name, func(t *testing.T) {
			m := switchOn(t)
			m.compare(m.measureChanged(), 5, m.attackers(3, party{Connections: 32, Method: "POST", Path: "/v1/evidence", Body: body})...)
		})
	}
}

// A user whose callers come one after the other, so that the agent waits for more of them before each
// batch, holds up the evidence of others little.
func TestCallersWhoTrickleIn(t *testing.T) {
	m := switchOn(t)
	for _, pause := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond} {
		m.compare(m.anchored(), 5, m.attackers(1, party{Connections: 64, Method: "POST", Path: "/v1/evidence", Body: anchoredBody, Pause: pause})...)
	}
}

// Case 106: an app that has the TPM make key after key, which takes the TPM longest, keeps neither a unit
// that starts, nor evidence, nor the keys of another app waiting.
func TestKeysInTheTPMAreFlooded(t *testing.T) {
	m := switchOnAs(t, setup{config: "[keys]\nwrites_per_minute = 65536\ncertify_apps = [\"other\"]\n"})
	own := m.asVictim(party{Method: "POST", Path: api.CallSign.Path, Body: `{"label":"host","algorithm":"tpm-ecdsa-p256","message":"AAAA"}`})
	for name, attack := range map[string]party{
		"a new key each time": {Path: api.CallSign.Path, Body: `{"label":"%N","algorithm":"tpm-ecdsa-p256","message":"AAAA"}`},
		"one certified key":   {Path: api.CallCertify.Path, Body: api.CallCertify.Example},
	} {
		t.Run(name, func(t *testing.T) {
			m := *m
			m.t = t
			attack.Connections, attack.Method = 64, "POST"
			flood := m.asOther(attack)
			for _, work := range []party{m.measure(), m.anchored(), own} {
				work.Requests, work.For, work.Pause = 30, 0, time.Millisecond
				m.compare(work, 5, flood)
			}
		})
	}
}
