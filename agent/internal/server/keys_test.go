// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/sealing"
)

// unitless takes the unit away from everybody.
type unitless struct{ fakeIdentifier }

func (u unitless) Identify(c *net.UnixConn) (*caller.Peer, error) {
	p, err := u.fakeIdentifier.Identify(c)
	if p != nil {
		p.Unit, p.UnitReason = "", "a test says so"
	}
	return p, err
}

// TestKeysAreForTheApp: unit and uid make the owner, and no other caller gets anything
// (cases 85 to 87).
func TestKeysAreForTheApp(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	without := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = unitless{} })
	for _, route := range []struct{ method, target, body string }{
		{"POST", api.CallDerive.Path, `{"label":"disk","length":32}`},
		{"POST", api.CallSeal.Path, `{"name":"token","data":"AAAA"}`},
		{"POST", api.CallUnseal.Path, `{"name":"token"}`},
		{"POST", api.CallDiscard.Path, `{"name":"token"}`},
		{"POST", api.CallSign.Path, `{"label":"host","algorithm":"ed25519","message":"AAAA"}`},
		{"POST", api.CallCertify.Path, `{"label":"host","algorithm":"tpm-ecdsa-p256","data":"AAAA"}`},
		{"GET", api.CallPublic.Path + "?label=host&algorithm=ed25519", ""},
		{"GET", api.CallContract.Path, ""},
		{"POST", api.CallEvidence.Path, `{"nonce":"AAAAAAAAAAAAAAAAAAAAAA==","signingKey":{"label":"host","algorithm":"ed25519"}}`},
	} {
		for _, c := range []struct {
			name, socket string
			uid          uint32
			want         api.Code
		}{
			{"the app", r.client, 1000, ""},
			{"another user in the same unit", r.client, 1001, api.CodeNoApp},
			{"a dynamic user", r.client, 61200, ""},
			{"another dynamic user in the same unit", r.client, 61201, api.CodeNoApp},
			{"a further user of the app", r.client, 1033, api.CodeNoApp},
			{"root in the same unit", r.client, 0, api.CodeNoApp},
			{"no system unit", without.client, 1000, api.CodeNoSystemUnit},
			{"an administrator", r.admin, 1000, api.CodeNotPermitted},
		} {
			_, b, p := ask(t, as(c.socket, c.uid), route.method, route.target, route.body)
			if c.want == "" && p != nil || c.want != "" && (p == nil || p.Code != c.want || p.Status != 403) {
				t.Errorf("%s, %s: %s", route.target, c.name, b)
			}
		}
	}
	_, b, _ := ask(t, as(r.client, 1000), "POST", api.CallDerive.Path, `{"label":"disk","length":32}`)
	if want := base64Of([]byte("billing 1000 disk")); !strings.Contains(string(b), want) {
		t.Errorf("got %s", b)
	}
}

// TestKeysBeforeReady: an agent that does not know the apps yet does not say that there are none.
func TestKeysBeforeReady(t *testing.T) {
	starting := errors.New("starting")
	r := run(t, &fake{awaitErr: starting}, Limits{}, func(c *Config) { c.Errors = []ErrorCode{{starting, api.CodeUnavailable, 0}} })
	if _, b, p := ask(t, as(r.admin, 1000), "GET", api.CallApps.Path, ""); p == nil || p.Code != api.CodeUnavailable {
		t.Errorf("the list: %s", b)
	}
	for _, uid := range []uint32{1000, 1001} {
		_, b, p := ask(t, as(r.client, uid), "POST", api.CallUnseal.Path, `{"name":"token"}`)
		if p == nil || p.Code != api.CodeUnavailable {
			t.Errorf("uid %d: %s", uid, b)
		}
	}
}

// TestSealingCodes: a refusal of package sealing is answered with its own code and detail.
func TestSealingCodes(t *testing.T) {
	for _, x := range api.Codes() {
		for _, err := range []error{&sealing.Error{Code: x.Code, Field: "chip-id", Detail: "d"}, errors.Join(errors.New("open"), &sealing.Error{Code: x.Code, Field: "chip-id", Detail: "d"})} {
			p := (&Server{}).problem(err)
			if p.Code != x.Code || p.Detail != "chip-id: d" || p.Status != x.Status {
				t.Errorf("%v: %+v", err, p)
			}
		}
	}
}

// TestIdentityIsNotRepeated: an identity in the place of its recipient is refused
// without a word of it.
func TestIdentityIsNotRepeated(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for _, c := range []struct{ path, body, where string }{
		{api.CallRecipients.Path, `{"recipients":["age1x","AGE-SECRET-KEY-1QYQSZ"]}`, "/recipients/1"},
		{api.CallRecover.Path, `{"recipients":["AGE-SECRET-KEY-1QYQSZ"]}`, "/recipients/0"},
		{api.CallRecover.Path, `{"storeKey":"AGE-SECRET-KEY-1QYQSZ"}`, "/storeKey"},
	} {
		_, b, p := ask(t, as(r.admin, 1000), "POST", c.path, c.body)
		if p == nil || p.Code != api.CodeInvalidValue || p.Where != c.where || strings.Contains(string(b), "SECRET") {
			t.Errorf("%s: got %s", c.body, b)
		}
	}
}
