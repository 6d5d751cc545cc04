// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// inUnit puts everybody into one unit.
type inUnit struct {
	fakeIdentifier
	unit string
}

func (u inUnit) Identify(c *net.UnixConn) (*caller.Peer, error) {
	p, err := u.fakeIdentifier.Identify(c)
	if p != nil {
		p.Unit = u.unit
	}
	return p, err
}

// TestEventsAreOfTheApp: unit and uid decide whose event it is, and no other caller records or
// reads one: not root, not a further user, not a unit of another name, no container's scope, and
// no administrator. Cases 85, 86, 87 and 128.
func TestEventsAreOfTheApp(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	in := func(unit string) string {
		return run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = inUnit{unit: unit} }).client
	}
	without := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = unitless{} })
	for _, route := range []struct{ method, target, body string }{
		{"POST", api.CallEmit.Path, `{"domain":"model","content":"AAAA"}`},
		{"GET", api.CallEvents.Path, ""},
	} {
		for _, c := range []struct {
			name, socket string
			uid          uint32
			want         api.Code
		}{
			{"the app", r.client, 1000, ""},
			{"another user in the same unit", r.client, 1001, api.CodeNoApp},
			{"a further user of the app", r.client, 1033, api.CodeNoApp},
			{"root in the same unit", r.client, 0, api.CodeNoApp},
			{"another unit", in("payment.service"), 1000, api.CodeNoApp},
			{"a container", in("docker-4d4d.scope"), 1000, api.CodeNoApp},
			{"root of a container", in("libpod-4d4d.scope"), 0, api.CodeNoApp},
			{"a user's manager", in("user@1000.service"), 1000, api.CodeNoApp},
			{"no system unit", without.client, 1000, api.CodeNoSystemUnit},
			{"an administrator", r.admin, 1000, api.CodeNotPermitted},
		} {
			_, b, p := ask(t, as(c.socket, c.uid), route.method, route.target, route.body)
			if c.want == "" && p != nil || c.want != "" && (p == nil || p.Code != c.want || p.Status != 403) {
				t.Errorf("%s %s, %s: %s", route.method, route.target, c.name, b)
			}
			if p != nil && strings.Contains(p.Detail, "keys") {
				t.Errorf("%s, %s: the refusal speaks of keys: %s", route.target, c.name, b)
			}
		}
	}
	_, b, _ := ask(t, as(r.client, 1000), "POST", api.CallEmit.Path, `{"domain":"model","content":"AAAA"}`)
	if !strings.Contains(string(b), "billing billing.service 1000") {
		t.Errorf("got %s", b)
	}
	_, b, _ = ask(t, as(r.client, 1000), "GET", api.CallEvents.Path+"?start=17&domain=model", "")
	if !strings.Contains(string(b), `"record":17`) || !strings.Contains(string(b), `"domain":"model"`) {
		t.Errorf("got %s", b)
	}
}

// TestEventRequests: what the log could not contain, or the agent says itself, is refused with the
// member that is wrong. Cases 9 and 128.
func TestEventRequests(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	digest := base64Of(make([]byte, 32))
	for _, c := range []struct{ name, body, where string }{
		{"no domain", `{"content":"AAAA"}`, "/domain"},
		{"an empty domain", `{"domain":"","content":"AAAA"}`, "/domain"},
		{"a long domain", `{"domain":"` + strings.Repeat("x", 129) + `","content":"AAAA"}`, "/domain"},
		{"a domain with a line feed", `{"domain":"a\nb","content":"AAAA"}`, "/domain"},
		{"a domain that turns its direction", "{\"domain\":\"a\u202eb\",\"content\":\"AAAA\"}", "/domain"},
		{"a domain of the agent", `{"domain":"agentd/app","content":"AAAA"}`, "/domain"},
		{"nothing said", `{"domain":"model"}`, "/content"},
		{"an empty content", `{"domain":"model","content":""}`, "/content"},
		{"a long content", `{"domain":"model","content":"` + base64Of(make([]byte, 1025)) + `"}`, "/content"},
		{"content and digest", `{"domain":"model","content":"AAAA","digest":"` + digest + `"}`, "/content"},
	} {
		_, b, p := ask(t, as(r.client, 1000), "POST", api.CallEmit.Path, c.body)
		if p == nil || p.Code != api.CodeInvalidValue || p.Where != c.where {
			t.Errorf("%s: %s", c.name, b)
		}
	}
	for name, body := range map[string]string{
		"the app chosen":  `{"domain":"model","content":"AAAA","app":"other"}`,
		"the unit chosen": `{"domain":"model","content":"AAAA","unit":"other.service"}`,
		"twice":           `{"domain":"model","domain":"model","content":"AAAA"}`,
		"a short digest":  `{"domain":"model","digest":"AAAA"}`,
		"loose base64":    `{"domain":"model","content":"AAAB=="}`,
		"too much":        fmt.Sprintf(`{"domain":"model","content":"%s"}`, base64Of(make([]byte, 4<<10))),
	} {
		if _, b, p := ask(t, as(r.client, 1000), "POST", api.CallEmit.Path, body); p == nil || p.Status/100 != 4 {
			t.Errorf("%s: %s", name, b)
		}
	}
	for _, body := range []string{
		`{"domain":"model","digest":"` + digest + `"}`,
		`{"domain":"` + strings.Repeat("x", 128) + `","content":"` + base64Of(make([]byte, 1024)) + `"}`,
		`{"domain":"agentd","content":"AAAA"}`,
	} {
		if status, b, _ := ask(t, as(r.client, 1000), "POST", api.CallEmit.Path, body); status != 200 {
			t.Errorf("%.60s: %s", body, b)
		}
	}
	if _, b, p := ask(t, as(r.client, 1000), "GET", api.CallEvents.Path+"?start=-1", ""); p == nil || p.Where != api.QueryStart {
		t.Errorf("a negative record: %s", b)
	}
}
