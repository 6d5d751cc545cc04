// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// inContainer makes evidence of a caller in a container of an application, and then changes what
// the statement says of it.
func inContainer(app string, change func(*evidence.Caller)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.In(evidencetest.Container("c0ffee", app, "ledger"))
		change(&r.Statement.Caller)
	}
}

var containerMutations = []mutation{
	{id: LogCaller, name: "another container of the engine", recipe: inContainer("", func(c *evidence.Caller) { c.Container.ID = "decaf" })},
	{id: LogCaller, name: "a container of another engine", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Engine = "docker" })},
	{id: LogCaller, name: "another root file system", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Root[0] ^= 1 })},
	{id: LogCaller, name: "another image", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Image = new(evidence.Digest{1}) })},
	{id: LogCaller, name: "no image", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Image = nil })},
	{id: LogCaller, name: "another start", recipe: inContainer("", func(c *evidence.Caller) { c.Container.Started-- })},
	{id: LogCaller, name: "another application than the container's", recipe: inContainer("ledger", func(c *evidence.Caller) { c.App = "billing" })},
	{id: LogCaller, name: "no application", recipe: inContainer("ledger", func(c *evidence.Caller) { c.App = "" })},
	{id: LogCaller, name: "covered by a manifest that there is not", recipe: inContainer("ledger", func(c *evidence.Caller) {
		c.Executable = &evidence.Executable{State: evidence.ExecutableFile, Path: "/usr/bin/billing", Digest: new(evidence.Digest{1}), Covered: true}
	})},
	{id: LogCaller, name: "the start before the last one", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		inContainer("ledger", func(*evidence.Caller) {})(t, r)
		again := evidencetest.Container("c0ffee", "ledger", "ledger")
		again.Container.Started = 4500
		r.Events = append(r.Events, again)
	}},
}

// TestCallerInContainer: a caller in a container that the log records is accepted, whether the
// container is an application itself, or one runs in it by its unit.
func TestCallerInContainer(t *testing.T) {
	for name, app := range map[string]string{"an application": "ledger", "in the unit of one": ""} {
		m := mutation{recipe: inContainer(app, func(*evidence.Caller) {})}
		a := m.run(t, nil)
		if a.Verdict != Pass {
			t.Errorf("%s: %s", name, explain(a))
		}
		c, err := a.Claims()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(c.Log.Containers) != 1 || c.Log.Containers[0].ID != "c0ffee" || c.Log.Containers[0].Record != 3 {
			t.Errorf("%s: the log has %+v", name, c.Log.Containers)
		}
	}
}
