// SPDX-License-Identifier: Apache-2.0

package isolation

import (
	"testing"
	"time"
)

// evidenceBody asks for evidence that needs no report of its own.
const evidenceBody = `{"nonce":"%N","freshness":"anchored"}`

// Case 105: an app that hangs up in the middle of storing keeps no other app from its keys.
func TestHangingUpWhileSealing(t *testing.T) {
	m := switchOn(t, "--spacing", "2s")
	m.compare(m.derive(), 5, party{
		UID: number(t, m.other.Uid), Group: m.group, Unit: "other.service", Socket: m.Socket(),
		Connections: 8, Method: "POST", Path: "/v1/seal", Body: `{"name":"token","data":"AAAA"}`, Hang: 5 * time.Millisecond,
	})
	status, err := m.Client().Status(t.Context())
	must(t, err)
	if status.Keys.State != "ok" {
		t.Errorf("the store is %s afterwards: %s", status.Keys.State, status.Keys.Reason)
	}
}

// An app that stores without end delays no derivation from memory.
func TestSealFlood(t *testing.T) {
	m := switchOn(t)
	m.compare(m.derive(), 5, party{
		UID: number(t, m.other.Uid), Group: m.group, Unit: "other.service", Socket: m.Socket(),
		Connections: 16, Method: "POST", Path: "/v1/seal", Body: `{"name":"token","data":"AAAA"}`,
	})
}

// An app that writes too often is refused, by each call that writes, and others are not.
func TestWritesAreBounded(t *testing.T) {
	m := switchOnWriting(t, 1) // and two at once
	seal := m.asVictim(party{Method: "POST", Path: "/v1/seal", Body: `{"name":"token","data":"AAAA"}`, Requests: 3})
	if a := start(t, seal).end(false); len(a.Times) != 2 || a.Refused["429 throttled"] != 1 {
		t.Errorf("of three writes %d succeeded, others %v; want two, and one throttled", len(a.Times), a.Refused)
	}
	discard := seal
	discard.Path, discard.Body, discard.Requests = "/v1/discard", `{"name":"token"}`, 1
	if a := start(t, discard).end(false); a.Refused["429 throttled"] != 1 {
		t.Errorf("a deletion: others %v, want it throttled", a.Refused)
	}
	other := seal
	other.UID, other.Unit, other.Requests = number(t, m.other.Uid), "other.service", 1
	if a := start(t, other).end(false); len(a.Times) != 1 {
		t.Errorf("another app: others %v, want its write to succeed", a.Refused)
	}
}

// Asking for the attestation key does not occupy the TPM.
func TestAttestationKeyFlood(t *testing.T) {
	m := switchOn(t)
	m.compare(m.anchored(), 5, m.attackers(1, party{Connections: 64, Method: "GET", Path: "/v1/ak"})...)
}

// Case 106: clients of any number and any uid, 0 included, who take what the client socket
// has keep root from nothing.
func TestRootIsNotLockedOut(t *testing.T) {
	m := switchOn(t)
	hoard := m.attackers(3, party{Connections: 700, Hoard: true})
	flood := m.attackers(1, party{Connections: 200, Method: "POST", Path: "/v1/evidence", Body: evidenceBody})
	flood[0].UID = 0
	m.compare(m.measure(), 5, append(hoard, flood...)...)
}

// A user who opens connections without end delays others little, and keeps none out.
func TestConnectFlood(t *testing.T) {
	m := switchOn(t)
	work := m.asVictim(party{Method: "GET", Path: "/v1/self", Requests: 100, New: true, Pause: time.Millisecond})
	m.compare(work, 10, m.attackers(1, party{Connections: 64, Method: "GET", Path: "/v1/self", New: true})...)
}
