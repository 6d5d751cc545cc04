// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
)

// fakeContainers records each container.
type fakeContainers struct{}

var aContainer = api.Container{Engine: "podman", ID: "4f1c", Recorded: true, App: "web", Image: "sha256:" + strings.Repeat("a", 64), Root: &evidence.Digest{1}, Files: 2, Bytes: 3, Record: new(uint64(7)), Started: 40, Running: true}

func (fakeContainers) Record(_ context.Context, _ *caller.Peer, r api.ContainerRequest) (api.Container, error) {
	c := aContainer
	c.ID = r.ID
	return c, nil
}
func (fakeContainers) List() []api.Container { return []api.Container{aContainer} }

// inContainer has each caller be in a container, with an app whose first process has uid 1000.
func inContainer(app *caller.App) func(*caller.Peer) *caller.Container {
	return func(*caller.Peer) *caller.Container {
		return &caller.Container{Container: evidence.Container{Engine: "podman", ID: "4f1c", Root: evidence.Digest{1}}, App: app}
	}
}

var webApp = &caller.App{Name: "web", UID: 1000, Engine: "podman"}

// TestKeysInAContainer: in a measured container the image's app is the owner, for the user of the
// first process alone. The app of the unit around it, whose user has the same uid, is not: neither
// for a container of another app nor for one of none.
func TestKeysInAContainer(t *testing.T) {
	for _, c := range []struct {
		name string
		app  *caller.App
		uid  uint32
		want api.Code
	}{
		{"the app", webApp, 1000, ""},
		{"another user in the container", webApp, 1001, api.CodeNoApp},
		{"root in the container", webApp, 0, api.CodeNoApp},
		{"a container of no app, in the unit of billing", nil, 1000, api.CodeNoApp},
	} {
		r := run(t, &fake{container: inContainer(c.app)}, Limits{}, nil)
		_, b, p := ask(t, as(r.client, c.uid), "POST", api.CallDerive.Path, `{"label":"disk","length":32}`)
		if c.want == "" && (p != nil || strings.Contains(string(b), "billing")) || c.want != "" && (p == nil || p.Code != c.want) {
			t.Errorf("%s: %s", c.name, b)
		}
		_, b, p = ask(t, as(r.client, c.uid), "POST", api.CallEmit.Path, `{"domain":"model","content":"AAAA"}`)
		if c.want == "" && (p != nil || !strings.Contains(string(b), "4f1c")) || c.want != "" && (p == nil || p.Code != c.want) {
			t.Errorf("an event of %s: %s", c.name, b)
		}
		_, b, _ = ask(t, as(r.client, c.uid), "GET", api.CallSelf.Path, "")
		if yes := strings.Contains(string(b), `"app":"web"`); yes != (c.app != nil) || !strings.Contains(string(b), `"id":"4f1c"`) || strings.Contains(string(b), `"app":"billing"`) {
			t.Errorf("%s: %s", c.name, b)
		}
	}
}

// TestNoAdministrationInAContainer: root of a container has root's uid on the admin socket too, and
// administers nothing (case 87).
func TestNoAdministrationInAContainer(t *testing.T) {
	r := run(t, &fake{container: inContainer(webApp)}, Limits{}, nil)
	for _, e := range []struct{ method, path, body string }{
		{"GET", api.CallApps.Path, ""},
		{"POST", api.CallReload.Path, ""},
		{"POST", api.CallRecordContainer.Path, api.CallRecordContainer.Example},
		{"GET", api.CallStatus.Path, ""},
	} {
		if _, b, p := ask(t, as(r.admin, 1000), e.method, e.path, e.body); p == nil || p.Code != api.CodeNotPermitted {
			t.Errorf("%s %s: %s", e.method, e.path, b)
		}
	}
	outside := run(t, &fake{}, Limits{}, nil)
	if _, b, p := ask(t, as(outside.admin, 1000), "POST", api.CallRecordContainer.Path, api.CallRecordContainer.Example); p != nil {
		t.Errorf("outside: %s", b)
	}
	if _, b, p := ask(t, as(outside.client, 1000), "POST", api.CallRecordContainer.Path, api.CallRecordContainer.Example); p == nil || p.Code != api.CodeNotPermitted {
		t.Errorf("on the client socket: %s", b)
	}
}

// TestContainerTakesNoConnections: a process in a container is turned away from the admin socket when it
// connects. However many connections it opens, that of root of the machine does not give way (case 87).
func TestContainerTakesNoConnections(t *testing.T) {
	var outside atomic.Pointer[caller.Peer] // the first to connect
	r := run(t, &fake{container: func(p *caller.Peer) *caller.Container {
		if outside.CompareAndSwap(nil, p) || outside.Load() == p {
			return nil
		}
		return inContainer(webApp)(p)
	}}, Limits{OpenEach: 1e6, OpenBurst: 1e6}, nil)
	open := func() (status func() int) {
		c, err := dial(r.admin, 1000)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		in := bufio.NewReader(c)
		return func() int {
			if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: agentd\r\n\r\n", api.CallStatus.Path); err != nil {
				t.Errorf("ask: %v", err)
				return 0
			}
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Errorf("answer: %v", err)
				return 0
			}
			defer answer.Body.Close()
			io.Copy(io.Discard, answer.Body)
			return answer.StatusCode
		}
	}
	root := open()
	if status := root(); status != http.StatusOK {
		t.Fatalf("root: status %d", status)
	}
	var last func() int
	for range adminConnections {
		last = open()
	}
	if status := last(); status != http.StatusForbidden { // connections are accepted in their order
		t.Errorf("in a container: status %d", status)
	}
	if status := root(); status != http.StatusOK {
		t.Errorf("root, after connections from a container: status %d", status)
	}
}

// TestBesideAContainer: what is in the control group of a measured container, and not in the
// container, has no keys of the unit around it, and administers nothing (case 125). Its connection
// may be older than what the agent knows of containers.
func TestBesideAContainer(t *testing.T) {
	f := &fake{}
	r := run(t, f, Limits{}, nil)
	derive := func() *api.Problem {
		_, _, p := ask(t, as(r.client, 1000), "POST", api.CallDerive.Path, `{"label":"disk","length":32}`)
		return p
	}
	admin := as(r.admin, 1000)
	reload := func() *api.Problem {
		_, _, p := ask(t, admin, "POST", api.CallReload.Path, "")
		return p
	}
	if p := derive(); p != nil {
		t.Fatal(p)
	}
	if p := reload(); p != nil {
		t.Fatal(p)
	}
	f.beside.Store(true)
	if p := derive(); p == nil || p.Code != api.CodeNoApp {
		t.Error(p)
	}
	for range 2 { // on the connection that is open, and on a new one
		if p := reload(); p == nil || p.Code != api.CodeNotPermitted {
			t.Error(p)
		}
	}
	if _, b, p := ask(t, as(r.client, 1000), "GET", api.CallSelf.Path, ""); p != nil || strings.Contains(string(b), `"app":"billing"`) {
		t.Errorf("%s", b)
	}
}
