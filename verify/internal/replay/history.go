// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// State is what a log said up to a head: the values of the PCR, and everything that a
// policy can ask of it. A verifier keeps it if it wants only the rest of the log the next
// time. It is as trustworthy as the place where it is kept.
type State struct {
	Head       evidence.LogHead `json:"head"`                 // last record
	ReportID   string           `json:"reportID,omitzero"`    // name of the boot that the processor signs (REPORT_ID), 32 bytes in hexadecimal; absent if the report shows none
	AKName     string           `json:"akName,omitzero"`      // AK of the quote at Head, hexadecimal; with ResetCount it names a boot. Absent in states of earlier versions
	ResetCount uint32           `json:"resetCount,omitzero"`  // resets of the vTPM in that quote: comparable under one AK only
	PCR        uint32           `json:"pcr"`                  // PCR of the log
	Start      []BankValue      `json:"start"`                // values before the first record
	Values     []BankValue      `json:"values"`               // values at Head, in every bank of the log
	AgentKey   evidence.Bytes   `json:"agentKey,omitzero"`    // agent key of the last start of the agent
	Agents     []Agent          `json:"agents,omitempty"`     // each once, in the order of their first event
	Apps       []App            `json:"apps,omitempty"`       // in the order of their first event
	Gaps       []Gap            `json:"gaps,omitempty"`       // gaps that the agent recorded
	Unmeasured []Unmeasured     `json:"unmeasured,omitempty"` // failures to measure
	Full       bool             `json:"full,omitzero"`        // the log took no further record: what came later is not in it
}

// BankValue is the value of a PCR in one bank.
type BankValue struct {
	Bank  string         `json:"bank"`
	Value evidence.Bytes `json:"value"`
}

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

// Began returns the values before the first record, which a state that is kept elsewhere may
// spell in a way that cannot be read.
func (s *State) Began() ([]pcr.Digest, error) { return digestsOf(s.Start) }

// FromZero reports whether the log began with zero in this bank.
func (s *State) FromZero(bank pcr.Algorithm) bool {
	return slices.ContainsFunc(s.Start, func(v BankValue) bool { return v.Bank == bank.String() && check.Zero(v.Value) })
}

// Clone returns a copy that can be added to without touching s, which is the caller's.
func (s *State) Clone() *State {
	c := *s
	c.Agents = slices.Clone(s.Agents)
	c.Gaps = slices.Clone(s.Gaps)
	c.Unmeasured = slices.Clone(s.Unmeasured)
	c.Apps = make([]App, len(s.Apps))
	for i, a := range s.Apps {
		a.Versions = slices.Clone(a.Versions)
		c.Apps[i] = a
	}
	return &c
}

// history adds events to a state. The indexes keep the time that a log takes in
// proportion to its length, whatever an attacker writes into it.
type history struct {
	*State
	agents   map[Agent]bool
	apps     map[string]int // index in Apps
	versions map[appVersionKey]int
}

type appVersionKey struct {
	app     string
	version AppVersion // Record 0
}

func newHistory(s *State) *history {
	h := &history{State: s, agents: make(map[Agent]bool), apps: make(map[string]int), versions: make(map[appVersionKey]int)}
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

// add adds one event to the history. What a policy can ask of a later event can
// be asked of every earlier one too, so nothing that differs is dropped.
func (h *history) add(number uint64, e *pcr.Event) {
	switch {
	case e.Agent != nil:
		h.AgentKey = e.Agent.AgentKey
		c := Agent{Version: e.Agent.Version, Digest: e.Agent.Digest, Configuration: e.Agent.Configuration}
		if !h.agents[c] {
			h.agents[c] = true
			c.Record = number
			h.Agents = append(h.Agents, c)
		}
	case e.App != nil:
		h.addApp(number, e.App)
	case e.Unmeasured != nil:
		h.Unmeasured = append(h.Unmeasured, Unmeasured{Record: number, App: e.Unmeasured.App, Reason: e.Unmeasured.Reason})
	case e.Gap != nil:
		h.Gaps = append(h.Gaps, Gap{Record: number, Reason: e.Gap.Reason})
	case e.Type == pcr.EventFull:
		h.Full = true
	}
}

func (h *history) addApp(number uint64, e *pcr.AppEvent) {
	i, ok := h.apps[e.App]
	if !ok {
		i = len(h.Apps)
		h.apps[e.App] = i
		h.Apps = append(h.Apps, App{Name: e.App})
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

// Agent is one agent that the log names.
type Agent struct {
	Record        uint64          `json:"record"`        // number of its first event
	Version       string          `json:"version"`       // version that it states
	Digest        evidence.Digest `json:"digest"`        // SHA-256 of the executable
	Configuration evidence.Digest `json:"configuration"` // digest of the configuration in force
}

// App is one application with everything that it was since boot.
type App struct {
	Name     string       `json:"name"`
	Current  int          `json:"current"`  // index in Versions of the last measurement
	Versions []AppVersion `json:"versions"` // each once, in the order of their first event
}

// AppVersion is an application as it was measured.
type AppVersion struct {
	Record      uint64          `json:"record"`      // number of its first event
	Unit        string          `json:"unit"`        // systemd unit
	User        string          `json:"user"`        // user that the unit runs as
	Digest      evidence.Digest `json:"digest"`      // digest of the manifest
	Declaration evidence.Digest `json:"declaration"` // digest of the file that declares it
}

// Unmeasured is a declared application that could not be measured.
type Unmeasured struct {
	Record uint64 `json:"record"`
	App    string `json:"app"`
	Reason string `json:"reason"`
}

// Gap is a reason for a gap that the agent recorded.
type Gap struct {
	Record uint64 `json:"record"`
	Reason string `json:"reason"`
}
