// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"
	"time"
)

// seal stores a secret.
var seal = party{Method: "POST", Path: "/v1/seal", Body: `{"name":"token","data":"AAAA"}`}

// Case 105: an app that hangs up in the middle of what it asks of the store keeps no other app
// from its keys, by any call and any number of connections.
func TestHangingUpWhileSealing(t *testing.T) {
	m := switchOn(t, "--spacing", "200ms")
	store := []party{
		seal,
		{Method: "POST", Path: "/v1/keys/derive", Body: `{"label":"x","length":32}`},
		{Method: "POST", Path: "/v1/unseal", Body: `{"name":"token"}`},
		{Method: "POST", Path: "/v1/discard", Body: `{"name":"token"}`},
		{Method: "GET", Path: "/v1/contract?name=token"},
		{Method: "POST", Path: "/v1/store/rotate", Body: `{"app":"other"}`, Socket: m.AdminSocket()},
		{Method: "POST", Path: "/v1/store/rewrap", Socket: m.AdminSocket()},
	}
	var each []party
	for _, p := range store {
		admin := p.Socket
		if p = m.asOther(p); admin != "" {
			p.Socket, p.UID, p.Unit = admin, 0, ""
		}
		p.Connections, p.Hang = 1, 5*time.Millisecond
		each = append(each, p)
	}
	m.compare(m.derive(), 5, each...)
	many := each[0]
	many.Connections = 8
	m.compare(m.derive(), 5, many)
	status, err := m.Client().Status(t.Context())
	must(t, err)
	if status.Keys.State != "ok" {
		t.Errorf("the store is %s afterwards: %s", status.Keys.State, status.Keys.Reason)
	}
}

// An app that stores without end delays no derivation from memory, and no unit that starts whose files
// have changed.
func TestSealFlood(t *testing.T) {
	m := switchOn(t)
	flood := m.asOther(seal)
	flood.Connections = 16
	m.compare(m.derive(), 5, flood)
	m.compare(m.measureChanged(), 5, flood)
}

// An app that writes too often is refused, by each call that writes, and others are not. A
// write increments a counter in memory of the TPM that wears out.
func TestWritesAreBounded(t *testing.T) {
	m := switchOnAs(t, setup{config: "[keys]\nwrites_per_minute = 1\n"}) // and two at once
	first := m.asVictim(seal)
	first.Requests = 3
	if a := start(t, first).end(false); len(a.Times) != 2 || a.Refused["429 throttled"] != 1 {
		t.Errorf("of three writes %d succeeded, others %v; want two, and one throttled", len(a.Times), a.Refused)
	}
	discard := first
	discard.Path, discard.Body, discard.Requests = "/v1/discard", `{"name":"token"}`, 1
	if a := start(t, discard).end(false); a.Refused["429 throttled"] != 1 {
		t.Errorf("a deletion: others %v, want it throttled", a.Refused)
	}
	other := m.asOther(seal)
	other.Connections, other.Requests = 1, 1
	if a := start(t, other).end(false); len(a.Times) != 1 {
		t.Errorf("another app: others %v, want its write to succeed", a.Refused)
	}
	before, err := m.Client().Status(t.Context())
	must(t, err)
	flood := first
	flood.Connections, flood.Requests, flood.For = 16, 0, usual
	a := start(t, flood).end(false)
	after, err := m.Client().Status(t.Context())
	must(t, err)
	if n := after.Keys.Generation - before.Keys.Generation; n > 1 || a.Refused["429 throttled"] < 16 {
		t.Errorf("a flood of writes: %d generations in %v, others %v; want at most one, and the rest throttled", n, usual, a.Refused)
	}
}
