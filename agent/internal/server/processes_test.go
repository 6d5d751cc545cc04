// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

func about(pid string) string { return api.CallProcess.Path + "?" + api.QueryPID + "=" + pid }

// TestWhoMayAsk: only root on the admin socket, and a unit that is named, and neither of them from a
// measured container or with a pid namespace of its own (case 150). A refusal does not look at the process, so it
// says nothing of it.
func TestWhoMayAsk(t *testing.T) {
	own := fmt.Errorf("%w: it is in a pid namespace of its own", caller.ErrUnknown)
	for _, c := range []struct {
		name    string
		askers  []string
		fake    *fake
		beside  bool
		numbers error
		uid     uint32
		admin   bool
		allowed bool
	}{
		{name: "a named unit", askers: []string{"spire.service", "billing.service"}, fake: &fake{}, uid: 1000, allowed: true},
		{name: "no unit is named", fake: &fake{}, uid: 1000},
		{name: "another unit is named", askers: []string{"billing@1.service"}, fake: &fake{}, uid: 1000},
		{name: "root on the client socket", fake: &fake{}, uid: 0},
		{name: "in a measured container", askers: []string{"billing.service"}, fake: &fake{container: inContainer(webApp)}, uid: 1000},
		{name: "beside a measured container", askers: []string{"billing.service"}, fake: &fake{}, beside: true, uid: 1000},
		{name: "other numbers", askers: []string{"billing.service"}, fake: &fake{}, numbers: own, uid: 1000},
		{name: "an administrator", fake: &fake{}, uid: 1000, admin: true, allowed: true},
		{name: "an administrator with other numbers", fake: &fake{}, numbers: own, uid: 1000, admin: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.fake.beside.Store(c.beside)
			var asked atomic.Int64
			r := run(t, c.fake, Limits{}, func(o *Config) {
				o.AdminUIDs, o.Askers, o.Processes = []uint32{0, 1000}, c.askers, fakeProcesses{numbers: c.numbers, asked: &asked}
			})
			socket := r.client
			if c.admin {
				socket = r.admin
			}
			var refusals []string
			for _, pid := range []string{"4711", "9999"} {
				_, b, p := ask(t, as(socket, c.uid), "GET", about(pid), "")
				switch {
				case !c.allowed && (p == nil || p.Code != api.CodeProcessNotPermitted):
					t.Errorf("process %s: %s", pid, b)
				case c.allowed && pid == "4711" && p != nil, c.allowed && pid == "9999" && (p == nil || p.Code != api.CodeNoSuchProcess):
					t.Errorf("process %s: %s", pid, b)
				case !c.allowed:
					refusals = append(refusals, string(b))
				}
			}
			if !c.allowed && (asked.Load() != 0 || refusals[0] != refusals[1]) {
				t.Errorf("%d processes were looked at, refusals %q", asked.Load(), refusals)
			}
		})
	}
}

// TestWhichProcess: the number is a plain decimal number, and a process that ended, before or while the
// agent looked at it, gives no answer.
func TestWhichProcess(t *testing.T) {
	r := run(t, &fake{}, Limits{}, nil)
	for pid, want := range map[string]api.Code{
		"9999": api.CodeNoSuchProcess, "9998": api.CodeProcessUnknown, "9997": api.CodeNoSuchProcess,
		"": api.CodeInvalidValue, "0": api.CodeInvalidValue, "-1": api.CodeInvalidValue, "0x10": api.CodeInvalidValue, "self": api.CodeInvalidValue,
		"1%2Ftask": api.CodeInvalidValue, "2147483648": api.CodeInvalidValue, "4711": "",
	} {
		_, b, p := ask(t, as(r.client, 1000), "GET", about(pid), "")
		if want == "" && p != nil || want != "" && (p == nil || p.Code != want) {
			t.Errorf("%q: %s", pid, b)
		}
	}
}

// TestSinceStart: a digest of what a process can have run is said only of an app that was measured
// before, covered and unchanged since. The process started at 5000 ms.
func TestSinceStart(t *testing.T) {
	digest := &evidence.Digest{7}
	app := func(changed uint64, covered *api.Covered) []api.App {
		return []api.App{{Name: "billing", Unit: "billing.service", State: api.AppMeasured, Digest: digest, Changed: changed, Covered: covered}}
	}
	since := func(at uint64) *api.Covered { return &api.Covered{Since: at, Record: 3} }
	for _, c := range []struct {
		name            string
		apps            []api.App
		container       *caller.App
		unit            string
		earlier         uint64 // when the unit's first process started
		measured, start bool
		digest          *evidence.Digest
	}{
		{name: "measured before", apps: app(4000, since(4000)), measured: true, start: true, digest: digest},
		{name: "measured before, but not before the first process of the unit", apps: app(4000, since(3000)), earlier: 3500, measured: true, digest: digest},
		{name: "measured before the first process of the unit", apps: app(3000, since(3000)), earlier: 3500, measured: true, start: true, digest: digest},
		{name: "changed since", apps: app(6000, since(4000)), measured: true, digest: digest},
		{name: "changed in the tick of its start", apps: app(5009, since(4000)), measured: true, digest: digest},
		{name: "covered since later", apps: app(4000, since(6000)), measured: true, digest: digest},
		{name: "covered since the tick of its start", apps: app(4000, since(5000)), measured: true, digest: digest},
		{name: "not covered", apps: app(4000, nil), measured: true, digest: digest},
		{name: "not measured", apps: []api.App{{Name: "billing", State: api.AppUnmeasured, Reason: "a file is missing", Covered: since(4000)}}},
		{name: "withdrawn", apps: []api.App{{Name: "other"}}},
		{name: "of no app", unit: "other.service"},
		{name: "in a container", container: webApp, measured: true, start: true, digest: &evidence.Digest{1}},
	} {
		f := &fake{apps: c.apps}
		if c.container != nil {
			f.container = func(p *caller.Peer) *caller.Container {
				if p.PID != 4711 { // the asker
					return nil
				}
				return inContainer(c.container)(p)
			}
		}
		r := run(t, f, Limits{}, func(o *Config) { o.Processes = fakeProcesses{unit: c.unit, earlier: c.earlier} })
		_, b, p := ask(t, as(r.client, 1000), "GET", about("4711"), "")
		if p != nil {
			t.Errorf("%s: %s", c.name, b)
			continue
		}
		var out api.Process
		if err := json.Unmarshal(b, &out); err != nil {
			t.Fatal(err)
		}
		if out.Measured.Yes != c.measured || out.SinceStart.Yes != c.start || out.Measured.Reason == "" || out.SinceStart.Reason == "" {
			t.Errorf("%s: %s", c.name, b)
		}
		if (out.Digest == nil) != (c.digest == nil) || out.Digest != nil && *out.Digest != *c.digest {
			t.Errorf("%s: digest %v, want %v", c.name, out.Digest, c.digest)
		}
		if strings.Contains(string(b), "agentKey") || out.PID != 4711 || out.Started != 5000 {
			t.Errorf("%s: %s", c.name, b)
		}
	}
}
