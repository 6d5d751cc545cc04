// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// State is what a log said up to a head: the values of the PCR, and everything that a
// policy can ask of it. A verifier keeps it if it wants only the rest of the log the next
// time. It is as trustworthy as the place where it is kept.
type State struct {
	Head       evidence.LogHead `json:"head"`                // last record
	Time       uint64           `json:"time"`                // of that record: CLOCK_BOOTTIME of the guest in milliseconds
	ReportID   string           `json:"reportID,omitzero"`   // name of the boot that the processor signs (REPORT_ID), 32 bytes in hexadecimal; absent if the report shows none
	AKName     string           `json:"akName,omitzero"`     // AK of the quote at Head, hexadecimal; with ResetCount it names a boot. Absent in states of earlier versions
	ResetCount uint32           `json:"resetCount,omitzero"` // resets of the vTPM in that quote: comparable under one AK only
	PCR        uint32           `json:"pcr"`                 // PCR of the log
	Events     *EventsPCR       `json:"events,omitzero"`     // PCR of the events of applications; absent if that is PCR
	Start      []BankValue      `json:"start"`               // values before the first record
	Values     []BankValue      `json:"values"`              // values at Head, in every bank of the log
	AgentKey   evidence.Bytes   `json:"agentKey,omitzero"`   // agent key of the last start of the agent
	Stopped    bool             `json:"stopped,omitzero"`    // the last record says that this agent stopped: its key is over

	Declarations pcr.Declarations `json:"declarations,omitempty"` // in force

	Agents     []Agent      `json:"agents,omitempty"`     // each once, in the order of their first event
	Apps       []App        `json:"apps,omitempty"`       // in the order of their first event
	Gaps       []Gap        `json:"gaps,omitempty"`       // gaps that the agent recorded
	Unmeasured []Unmeasured `json:"unmeasured,omitempty"` // failures to measure
	Containers []Container  `json:"containers,omitempty"` // starts of containers, in their order
	Emitted    []Emitted    `json:"emitted,omitempty"`    // what applications had recorded, each value once, in the order of their first record
	Full       bool         `json:"full,omitzero"`        // the log took no further record: what came later is not in it

	IMA     *IMAState `json:"ima,omitzero"`      // what the list of IMA came to; nil if none was there. It does not change
	Gated   []Gated   `json:"gated,omitempty"`   // times in which the gate guarded applications, in their order
	Started []Started `json:"started,omitempty"` // programs of guarded applications that started and that no manifest lists
}

// BankValue is the value of a PCR in one bank.
type BankValue struct {
	Bank  string         `json:"bank"`  // name of the hash
	Value evidence.Bytes `json:"value"` // value of the PCR in that bank
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

// Clone returns a copy that can be added to without touching s, which is the caller's.
func (s *State) Clone() *State {
	c := *s
	if s.Events != nil {
		c.Events = new(*s.Events)
	}
	c.Agents = slices.Clone(s.Agents)
	c.Gaps = slices.Clone(s.Gaps)
	c.Unmeasured = slices.Clone(s.Unmeasured)
	c.Containers = slices.Clone(s.Containers)
	c.Emitted = slices.Clone(s.Emitted)
	c.Gated, c.Started = slices.Clone(s.Gated), slices.Clone(s.Started)
	c.Apps = make([]App, len(s.Apps))
	for i, a := range s.Apps {
		a.Versions = slices.Clone(a.Versions)
		a.Intervals = slices.Clone(a.Intervals)
		for j, v := range a.Intervals {
			a.Intervals[j].Joints = slices.Clone(v.Joints)
		}
		c.Apps[i] = a
	}
	return &c
}

// Check reports what a state that was read from elsewhere contradicts itself in.
func (s *State) Check() error {
	if err := s.IMA.check(); err != nil {
		return err
	}
	if err := s.checkEvents(); err != nil {
		return err
	}
	for _, a := range s.Apps {
		if a.Current < 0 || a.Current >= len(a.Versions) {
			return fmt.Errorf("app %q: version %d of %d", a.Name, a.Current, len(a.Versions))
		}
		for i, v := range a.Intervals {
			if v.End == nil && i != len(a.Intervals)-1 {
				return fmt.Errorf("app %q: interval %d has no end, and is not the last", a.Name, i)
			}
		}
		if a.Carriable && (len(a.Intervals) == 0 || a.Covered() != nil) {
			return fmt.Errorf("app %q: no interval has ended that could be carried on", a.Name)
		}
	}
	return s.checkGated()
}

// history adds events to a state. The indexes keep the time that a log takes in
// proportion to its length, whatever an attacker writes into it.
type history struct {
	*State
	agents    map[Agent]bool
	apps      map[string]int // index in Apps
	versions  map[appVersionKey]int
	declared  map[string]evidence.Digest // declarations in force
	open      map[int]bool               // apps with an open interval
	carriable map[int]bool               // apps whose last interval may be carried on
	inForce   map[int][]evidence.Digest  // executables of the last manifest
	replaced  map[int][]Executable       // executables of manifests before
	emitted   map[emittedKey]int         // index in Emitted

	containers map[containerKey]int // index in Containers of the last start
	gate       gate
}

type appVersionKey struct {
	app, unit, user     string
	uid                 int64  // -1 if there is none
	users               string // the further users, in words that differ if they do
	dynamic             bool
	digest, declaration evidence.Digest
}

func keyOf(app string, v *AppVersion) appVersionKey {
	k := appVersionKey{app: app, unit: v.Unit, user: v.User, uid: -1, dynamic: v.Dynamic, digest: v.Digest, declaration: v.Declaration}
	if v.UID != nil {
		k.uid = int64(*v.UID)
	}
	if len(v.Users) > 0 {
		k.users = fmt.Sprintf("%#v", v.Users)
	}
	return k
}

func newHistory(s *State) *history {
	h := &history{
		State: s, agents: make(map[Agent]bool), apps: make(map[string]int), versions: make(map[appVersionKey]int), declared: make(map[string]evidence.Digest),
		open: make(map[int]bool), carriable: make(map[int]bool), inForce: make(map[int][]evidence.Digest), replaced: make(map[int][]Executable),
		containers: make(map[containerKey]int), emitted: make(map[emittedKey]int), gate: newGate(s),
	}
	for i := range s.Emitted {
		h.emitted[s.Emitted[i].key()] = i
	}
	for _, c := range s.Agents {
		c.Record = 0
		h.agents[c] = true
	}
	for _, d := range s.Declarations {
		h.declared[d.App] = d.Digest
	}
	for i := range s.Containers {
		h.containers[containerKey{s.Containers[i].Engine, s.Containers[i].ID}] = i
	}
	for i := range s.Apps {
		a := &s.Apps[i]
		h.apps[a.Name] = i
		for j := range a.Versions {
			h.versions[keyOf(a.Name, &a.Versions[j])] = j
		}
		if a.Covered() != nil {
			h.open[i] = true
		}
		if a.Carriable {
			h.carriable[i] = true
		}
		for _, x := range a.Executables {
			if x.Until == 0 {
				h.inForce[i] = append(h.inForce[i], x.Digest)
			} else {
				h.replaced[i] = append(h.replaced[i], x)
			}
		}
	}
	return h
}

// add adds one event to the history. What a policy can ask of a later event can
// be asked of every earlier one too, so nothing that differs is dropped. The error says
// what the event contradicts; it is added all the same, as far as that is possible.
func (h *history) add(number uint64, e *pcr.Event) (err error) {
	before := h.Time
	h.Time = e.Time
	switch {
	case e.Agent != nil:
		if e.Type == pcr.EventAgent {
			h.endAll(End{Mark{number, before}, Crashed})
			h.suspend(number)
		}
		h.Stopped = false
		h.AgentKey = e.Agent.AgentKey
		c := Agent{Version: e.Agent.Version, Digest: e.Agent.Digest, Configuration: e.Agent.Configuration}
		if !h.agents[c] {
			h.agents[c] = true
			c.Record = number
			h.Agents = append(h.Agents, c)
		}
		declared := h.declared
		h.declare(number, e.Agent.Declarations)
		h.redeclared(number, declared)
	case e.Stop != nil:
		h.Stopped = true
		h.endAll(End{Mark{number, h.Time}, Stopped})
		h.suspend(number)
	case e.App != nil:
		h.addApp(number, e.App)
	case e.Same != nil:
		err = h.same(number, e.Same)
	case e.Unmeasured != nil:
		h.Unmeasured = append(h.Unmeasured, Unmeasured{Record: number, App: e.Unmeasured.App, Reason: e.Unmeasured.Reason})
		if i, ok := h.apps[e.Unmeasured.App]; ok {
			if h.open[i] {
				h.end(i, End{Mark{number, h.Time}, Failed})
			}
			h.forget(i)
		}
	case e.Gap != nil:
		h.Gaps = append(h.Gaps, Gap{Record: number, Reason: e.Gap.Reason})
		h.endAll(End{Mark{number, h.Time}, Missed})
	case e.Container != nil:
		h.addContainer(number, e.Container)
	case e.Emitted != nil:
		err = h.emit(number, e.Emitted)
	case e.Type == pcr.EventFull:
		h.Full = true
		h.endAll(End{Mark{number, h.Time}, Filled})
		h.ungateAll(GateEnd{Mark: Mark{number, h.Time}, Why: GateFilled})
		h.resumeAll() // no record can say any more that a gate went on
	default:
		h.addGate(number, e)
	}
	return err
}

// addGate adds an event of the gate.
func (h *history) addGate(number uint64, e *pcr.Event) {
	switch {
	case e.GateStart != nil:
		h.gateStart(number, e.GateStart)
	case e.GateGap != nil:
		h.gateGap(number, e.GateGap)
	case e.Exec != nil:
		h.exec(number, e.Exec)
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
	var declaration evidence.Digest
	if ok {
		declaration = app.declaration()
	}
	v := AppVersion{Record: number, Unit: e.Unit, User: e.User, UID: e.UID, Dynamic: e.Dynamic, Users: e.Users, Digest: e.Digest, Declaration: e.Declaration, Interpreter: pcr.Interpreter(e.Manifest)}
	key := keyOf(e.App, &v)
	j, known := h.versions[key]
	if !known {
		j = len(app.Versions)
		h.versions[key] = j
		app.Versions = append(app.Versions, v)
	}
	app.Current = j
	h.measured(i, number, declaration, e)
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
	Name        string       `json:"name"`                  // name of the declaration
	Current     int          `json:"current"`               // index in Versions of the last measurement
	Versions    []AppVersion `json:"versions"`              // each once, in the order of their first event
	Intervals   []Interval   `json:"intervals,omitempty"`   // times in which it was covered, in their order
	Carriable   bool         `json:"carriable,omitzero"`    // nothing but the end of the last interval says that it cannot be carried on
	Executables []Executable `json:"executables,omitempty"` // of the last manifest, and of those replaced in the ten minutes before the end of the log
}

// AppVersion is an application as it was measured.
type AppVersion struct {
	Record      uint64          `json:"record"`               // number of its first event
	Unit        string          `json:"unit"`                 // systemd unit
	User        string          `json:"user"`                 // user that the unit runs as
	UID         *uint32         `json:"uid,omitzero"`         // uid of that user; absent if there is none, or Dynamic
	Dynamic     bool            `json:"dynamic,omitzero"`     // systemd gives that user a uid at each start of the unit
	Users       pcr.AppUsers    `json:"users,omitempty"`      // further users of the unit whose processes are the application
	Digest      evidence.Digest `json:"digest"`               // digest of the manifest
	Declaration evidence.Digest `json:"declaration"`          // digest of the file that declares it
	Interpreter string          `json:"interpreter,omitzero"` // path of the interpreter, if interpreters and libraries are all that the manifest lists: what it runs is not covered
}

// Unmeasured is a declared application that could not be measured.
type Unmeasured struct {
	Record uint64 `json:"record"` // number of the record
	App    string `json:"app"`    // name of the application
	Reason string `json:"reason"` // reason that the agent gave
}

// Gap is a reason for a gap that the agent recorded.
type Gap struct {
	Record uint64 `json:"record"` // number of the record
	Reason string `json:"reason"` // reason that the agent gave
}
