// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/delivery"
)

// TestCarrierAdministersNothing: case 130. The unit that strangers can reach over the network has of all
// administration what it needs. On the client socket it is a client as others are.
func TestCarrierAdministersNothing(t *testing.T) {
	for _, unit := range []string{delivery.Unit, "other.service"} {
		r := run(t, &fake{}, Limits{}, func(c *Config) { c.Identifier = inUnit{unit: unit} })
		permitted := 0
		for _, x := range routes {
			if x.On == api.OnClient {
				continue
			}
			_, b, p := ask(t, as(r.admin, 1000), x.Method, exampleTarget(x), x.Example)
			ok := p == nil || p.Code != api.CodeNotPermitted
			if ok {
				permitted++
			}
			want := unit != delivery.Unit || x.Path == api.CallTicket.Path || x.Path == api.CallReceive.Path
			if ok != want {
				t.Errorf("%s: %s %s: %s", unit, x.Method, x.Path, b)
			}
		}
		if permitted < 2 {
			t.Errorf("%s: %d routes", unit, permitted)
		}
		if _, b, p := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); p != nil {
			t.Errorf("%s, on the client socket: %s", unit, b)
		}
	}
}
