// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

var statedCaller = check.Definition{ID: "log.caller", Class: check.Binding, Ground: check.OnAgent, Checks: "the container that the statement names as the caller's is the last one of its id in the log, with the same start, image, root file system and application, or none if its declaration is not in force any more. Otherwise the application that it names as caller is in the log with the caller's unit or its template, and with the caller's user as its user or a further one, or with a uid that systemd gives to units if its user is dynamic, and its manifest lists the executable if the statement says so", Stops: "a statement about the caller that the agent's own log contradicts"}

// checkCaller compares what the statement says of the caller with the log. The agent wrote
// both, so a contradiction shows that another program signed the statement.
func (w *walk) checkCaller() {
	c := w.in.Caller
	if c == nil {
		return
	}
	x := c.Executable
	covered := x != nil && x.Covered
	if c.Container != nil {
		if ok, isApp := w.inContainer(c); !ok || isApp || c.App == "" && !covered {
			return
		}
	} else if c.App == "" && !covered {
		w.Skip(statedCaller.ID, "the statement says that the caller is not a declared application, and in no container")
		return
	}
	i, measured := w.state.apps[c.App]
	if !measured {
		w.Decide(statedCaller.ID, !covered && w.state.knows(c.App), fmt.Sprintf("application %q in the log", c.App), "nothing of it",
			"the statement names %q as the caller's application, and the log says nothing of it", c.App)
		return
	}
	app := &w.state.Apps[i]
	if !slices.ContainsFunc(app.Versions, func(v AppVersion) bool {
		return evidence.InUnit(v.Unit, c.Unit) && v.hasUser(c.UID)
	}) {
		v := app.Versions[app.Current]
		w.Decide(statedCaller.ID, false, fmt.Sprintf("%q as unit %q, uid %s", c.App, v.Unit, v.uidText()), fmt.Sprintf("unit %q, uid %d", c.Unit, c.UID),
			"the statement names %q as the caller's application, and the log has it with another unit or user", c.App)
		return
	}
	if !covered {
		w.Decide(statedCaller.ID, true, "", "", "")
		return
	}
	var listed bool
	found := "no digest"
	if x.Digest != nil {
		listed, found = app.Lists(*x.Digest, w.in.since()), x.Digest.String()
	}
	w.Decide(statedCaller.ID, listed, fmt.Sprintf("an executable in the manifest of %q", c.App), found,
		"the statement says that the manifest of %q lists the caller's executable, and the log's does not", c.App)
}

// knows reports whether the log names an application that was never measured.
func (h *history) knows(app string) bool {
	_, declared := h.declared[app]
	return declared || slices.ContainsFunc(h.Unmeasured, func(u Unmeasured) bool { return u.App == app })
}

// since returns the earliest time at which the statement can have been made, by the
// guest's clock: not before its caller started, and not long before its batch. The
// application may have been upgraded while the statement waited for the quote.
func (in *Input) since() uint64 {
	return max(in.Caller.Started, in.Time-min(in.Time, kept))
}

// hasUser reports whether the application can have processes of a user, by the rule of
// [pcr.AppEvent.HasUser].
func (v *AppVersion) hasUser(uid uint32) bool {
	e := pcr.AppEvent{UID: v.UID, Users: v.Users, Dynamic: v.Dynamic}
	return e.HasUser(uid)
}

func (v *AppVersion) uidText() string {
	switch {
	case v.Dynamic:
		return fmt.Sprintf("%d to %d", pcr.MinDynamicUID, pcr.MaxDynamicUID)
	case v.UID == nil:
		return "any"
	}
	return fmt.Sprint(*v.UID)
}
