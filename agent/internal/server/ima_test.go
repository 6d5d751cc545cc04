// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net/http"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// TestIMAIsForRootAndApplications: the kernel shows its list to root alone, so the agent shows it to
// root and declared applications, and to no other user.
func TestIMAIsForRootAndApplications(t *testing.T) {
	asked := make(chan api.EvidenceRequest, 10) // so that no answer waits, whichever is wrong
	r := run(t, &fake{attest: func(_ context.Context, r api.EvidenceRequest, c evidence.Caller) ([]byte, error) {
		asked <- r
		return answerFor(r, c), nil
	}}, Limits{}, func(c *Config) { c.AdminUIDs = []uint32{0, 77} })
	body := `{"nonce":"` + goodNonce + `","ima":true,"imaStart":7}`
	for uid, permitted := range map[uint32]bool{0: true, 77: true, 1000: true, 1001: false} {
		status, b, p := ask(t, as(r.client, uid), "POST", api.CallEvidence.Path, body)
		if !permitted {
			if status != http.StatusForbidden || p == nil || p.Code != api.CodeIMANotPermitted {
				t.Errorf("uid %d: %d %s", uid, status, b)
			}
			continue
		}
		if status != http.StatusOK {
			t.Fatalf("uid %d: %s", uid, b)
		}
		if got := <-asked; !got.IMA || got.IMAStart != 7 {
			t.Errorf("uid %d: %+v", uid, got)
		}
	}
	// Root of a container has root's uid, and the kernel shows it nothing.
	for what, app := range map[string]*caller.App{"no app": nil, "an app": webApp} {
		in := run(t, &fake{container: inContainer(app)}, Limits{}, func(c *Config) { c.AdminUIDs = []uint32{0} })
		_, b, p := ask(t, as(in.client, 0), "POST", api.CallEvidence.Path, body)
		if refused := p != nil && p.Code == api.CodeIMANotPermitted; refused != (app == nil) {
			t.Errorf("root of a container of %s: %s", what, b)
		}
	}
	if status, b, _ := ask(t, as(r.client, 1001), "POST", api.CallEvidence.Path, `{"nonce":"`+goodNonce+`"}`); status != http.StatusOK {
		t.Errorf("without the list: %s", b)
	}
}

// TestIMACountsInFull: nothing says how long a list will be, so a request counts as the longest.
func TestIMACountsInFull(t *testing.T) {
	s := &Server{Config: Config{Log: &fake{}}}
	c := &call{socket: Client, peer: &caller.Peer{}}
	for list, least := range map[bool]int64{false: 0, true: 4 * evidence.MaxIMA} {
		j, err := s.evidence(c, api.EvidenceRequest{Nonce: make([]byte, 16), Log: api.LogNone, IMA: list})
		if err != nil || j.bytes < least || j.bytes > least+small {
			t.Errorf("list %v: %d bytes, %v", list, j.bytes, err)
		}
	}
}
