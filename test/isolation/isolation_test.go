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
