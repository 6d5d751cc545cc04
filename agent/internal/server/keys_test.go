// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"regexp"
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

// TestKeysAreForTheApp: unit and uid make the owner, and nobody else is handed anything
// (cases 85 to 87).
func TestKeysAreForTheApp(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	without := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = unitless{} })
	for _, route := range []struct{ path, body string }{
		{api.PathDerive, `{"label":"disk","length":32}`},
		{api.PathSeal, `{"name":"token","data":"AAAA"}`},
		{api.PathUnseal, `{"name":"token"}`},
		{api.PathDiscard, `{"name":"token"}`},
	} {
		for _, c := range []struct {
			name, socket string
			uid          uint32
			want         api.Code
		}{
			{"the app", r.client, 1000, ""},
			{"another user in the same unit", r.client, 1001, api.CodeNoApp},
			{"root in the same unit", r.client, 0, api.CodeNoApp},
			{"no system unit", without.client, 1000, api.CodeNoSystemUnit},
			{"who administrates", r.admin, 1000, api.CodeNotPermitted},
		} {
			_, b, p := ask(t, as(c.socket, c.uid), "POST", route.path, route.body)
			if c.want == "" && p != nil || c.want != "" && (p == nil || p.Code != c.want || p.Status != 403) {
				t.Errorf("%s, %s: %s", route.path, c.name, b)
			}
		}
	}
	_, b, _ := ask(t, as(r.client, 1000), "POST", api.PathDerive, `{"label":"disk","length":32}`)
	if want := base64Of([]byte("billing 1000 disk")); !strings.Contains(string(b), want) {
		t.Errorf("got %s", b)
	}
}

// TestKeysBeforeReady: an agent that does not know the apps yet does not say that there are none.
func TestKeysBeforeReady(t *testing.T) {
	starting := errors.New("starting")
	r := run(t, &fake{awaitErr: starting}, Limits{}, func(c *Config) { c.Errors = []ErrorCode{{starting, api.CodeUnavailable, 0}} })
	for _, uid := range []uint32{1000, 1001} {
		_, b, p := ask(t, as(r.client, uid), "POST", api.PathUnseal, `{"name":"token"}`)
		if p == nil || p.Code != api.CodeUnavailable {
			t.Errorf("uid %d: %s", uid, b)
		}
	}
}

// TestSealingCodes: each code of package sealing is one of the API, and says as much.
func TestSealingCodes(t *testing.T) {
	found := regexp.MustCompile(`(?m)^\t\w+ +Code = "([a-z-]+)"`).FindAllStringSubmatch(read(t, "../../sealing/code.go"), -1)
	if len(found) < 30 || len(found) != len(sealingCodes) {
		t.Errorf("%d codes in package sealing, %d in the table", len(found), len(sealingCodes))
	}
	for _, f := range found {
		code := sealing.Code(f[1])
		want := api.Code(code)
		if code == sealing.InvalidRequest {
			want = api.CodeInvalidValue
		}
		for _, err := range []error{&sealing.Error{Code: code, Field: "chip-id", Detail: "d"}, errors.Join(errors.New("open"), &sealing.Error{Code: code, Field: "chip-id", Detail: "d"})} {
			p := (&Server{}).problem(err)
			if p.Code != want || p.Detail != "chip-id: d" || p.Status == 500 {
				t.Errorf("%v: %+v", err, p)
			}
		}
	}
}

// TestIdentityIsNotRepeated: an identity in the place of its recipient is refused
// without a word of it.
func TestIdentityIsNotRepeated(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	_, b, p := ask(t, as(r.admin, 1000), "POST", api.PathRecipients, `{"recipients":["age1x","AGE-SECRET-KEY-1QYQSZ"]}`)
	if p == nil || p.Code != api.CodeInvalidValue || p.Where != "/recipients/1" || strings.Contains(string(b), "SECRET") {
		t.Errorf("got %s", b)
	}
}
