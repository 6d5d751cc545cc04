// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/pcr"
)

func bankValues(in []pcr.Digest) []BankValue {
	out := make([]BankValue, len(in))
	for i, d := range in {
		out[i] = BankValue{Bank: d.Algorithm.String(), Value: d.Value}
	}
	return out
}

func digestsOf(in []BankValue) ([]pcr.Digest, error) {
	out := make([]pcr.Digest, len(in))
	for i, v := range in {
		a, err := pcr.ParseAlgorithm(v.Bank)
		if err != nil {
			return nil, err
		}
		if len(v.Value) != a.Size() {
			return nil, fmt.Errorf("value of %d bytes for bank %s", len(v.Value), a)
		}
		out[i] = pcr.Digest{Algorithm: a, Value: v.Value}
	}
	return out, nil
}

// fromZero tells whether the log began with zero in this bank.
func (s *LogState) fromZero(bank pcr.Algorithm) bool {
	return slices.ContainsFunc(s.Start, func(v BankValue) bool { return v.Bank == bank.String() && isZero(v.Value) })
}

// clone is a copy that can be added to without touching s, which is the caller's.
func (s *LogState) clone() *LogState {
	c := *s
	c.Agents = slices.Clone(s.Agents)
	c.Gaps = slices.Clone(s.Gaps)
	c.Unmeasured = slices.Clone(s.Unmeasured)
	c.Apps = make([]AppClaim, len(s.Apps))
	for i, a := range s.Apps {
		a.Versions = slices.Clone(a.Versions)
		c.Apps[i] = a
	}
	return &c
}

// history adds events to a state. The indexes keep the time that a log takes in
// proportion to its length, whoever wrote it.
type history struct {
	*LogState
	agents   map[AgentClaim]bool
	apps     map[string]int // index in Apps
	versions map[appVersionKey]int
}

type appVersionKey struct {
	app     string
	version AppVersion // Record 0
}

func newHistory(s *LogState) *history {
	h := &history{LogState: s, agents: make(map[AgentClaim]bool), apps: make(map[string]int), versions: make(map[appVersionKey]int)}
	for _, c := range s.Agents {
		c.Record = 0
		h.agents[c] = true
	}
	for i, c := range s.Apps {
		h.apps[c.Name] = i
		for j, v := range c.Versions {
			v.Record = 0
			h.versions[appVersionKey{c.Name, v}] = j
		}
	}
	return h
}

// add takes one event into the history. What a policy can ask of a later event can
// be asked of every earlier one too, so nothing that differs is dropped.
func (h *history) add(number uint64, e *pcr.Event) {
	switch {
	case e.Agent != nil:
		h.AgentKey = e.Agent.AgentKey
		c := AgentClaim{Version: e.Agent.Version, Digest: e.Agent.Digest, Configuration: e.Agent.Configuration}
		if !h.agents[c] {
			h.agents[c] = true
			c.Record = number
			h.Agents = append(h.Agents, c)
		}
	case e.App != nil:
		h.addApp(number, e.App)
	case e.Unmeasured != nil:
		h.Unmeasured = append(h.Unmeasured, UnmeasuredClaim{Record: number, App: e.Unmeasured.App, Reason: e.Unmeasured.Reason})
	case e.Gap != nil:
		h.Gaps = append(h.Gaps, RecordedReason{Record: number, Reason: e.Gap.Reason})
	case e.Type == pcr.EventFull:
		h.Full = true
	}
}

func (h *history) addApp(number uint64, e *pcr.AppEvent) {
	i, ok := h.apps[e.App]
	if !ok {
		i = len(h.Apps)
		h.apps[e.App] = i
		h.Apps = append(h.Apps, AppClaim{Name: e.App})
	}
	app := &h.Apps[i]
	v := AppVersion{Unit: e.Unit, User: e.User, Digest: e.Digest, Declaration: e.Declaration}
	key := appVersionKey{e.App, v}
	j, ok := h.versions[key]
	if !ok {
		j = len(app.Versions)
		h.versions[key] = j
		v.Record = number
		app.Versions = append(app.Versions, v)
	}
	app.Current = j
}
