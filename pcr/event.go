// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// EventType names what an event of the measurement log records.
type EventType string

// The events. docs/measurements.md shows one record of each.
const (
	EventStart      EventType = "log-start"      // first of a log, and only there: the value of the PCR
	EventAgent      EventType = "agent-start"    // the daemon started
	EventReload     EventType = "agent-reload"   // the daemon read its configuration again
	EventStop       EventType = "agent-stop"     // the daemon stopped in order: only agent-start may follow
	EventApp        EventType = "app"            // an application as the agent found it
	EventSame       EventType = "app-same"       // an application that is what its last record says
	EventUnmeasured EventType = "app-unmeasured" // a declared application that the agent could not measure
	EventGap        EventType = "gap"            // changes may have been missed
	EventContainer  EventType = "container"      // a container as the agent found it before it ran
	EventEmitted    EventType = "app-event"      // an application's own words
	EventFull       EventType = "full"           // last of a log: nothing is recorded after it
)

// Caps on events. They bind the agent as well as the verifier.
const (
	MaxContent      = 1 << 20   // bytes of the JSON of one event
	MaxManifest     = 20000     // files of one application
	MaxDeclarations = 4096      // declared applications
	MaxAppUsers     = 16        // further users of one application
	MaxReason       = 1024      // bytes of a reason
	MaxTime         = 1<<53 - 1 // milliseconds: JSON carries larger numbers to no two readers alike
)

// An Event is the content of one record: a type, and the member that belongs to it.
// Its JSON is deterministic and read strictly. An event has one spelling, so that it has
// one digest. Later versions may add types; a reader refuses a type that it does not know.
type Event struct {
	Type       EventType        `json:"type"`                // what happened
	Time       uint64           `json:"time"`                // CLOCK_BOOTTIME of the guest in milliseconds; it never falls from record to record
	Start      *StartEvent      `json:"start,omitzero"`      // of EventStart
	Agent      *AgentEvent      `json:"agent,omitzero"`      // of EventAgent and EventReload
	Stop       *StopEvent       `json:"stop,omitzero"`       // of EventStop
	App        *AppEvent        `json:"app,omitzero"`        // of EventApp
	Same       *SameEvent       `json:"same,omitzero"`       // of EventSame
	Unmeasured *UnmeasuredEvent `json:"unmeasured,omitzero"` // of EventUnmeasured
	Gap        *GapEvent        `json:"gap,omitzero"`        // of EventGap
	Container  *ContainerEvent  `json:"container,omitzero"`  // of EventContainer
	Emitted    *EmittedEvent    `json:"emitted,omitzero"`    // of EventEmitted
	GateStart  *GateStartEvent  `json:"gateStart,omitzero"`  // of EventGateStart
	GateGap    *GateGapEvent    `json:"gateGap,omitzero"`    // of EventGateGap
	Exec       *ExecEvent       `json:"exec,omitzero"`       // of EventExec
}

// StartEvent is the value of the PCR before the first record of the log. Nothing proves a
// value other than zero: a verifier needs an explanation of it.
type StartEvent struct {
	PCR      uint32            `json:"pcr"`               // PCR of every record of this log, 0 to 15; with Events, of all but those of app-event
	Values   StartValues       `json:"values"`            // one for every active bank, ascending by TPM_ALG_ID
	Events   *EventsStart      `json:"events,omitzero"`   // a second PCR; nil if the log has one
	Previous *evidence.LogHead `json:"previous,omitzero"` // head of the log of an earlier boot, if one is known
}

// StartValue is the value of one bank before the first record.
type StartValue struct {
	Algorithm string         `json:"algorithm"` // "sha1", "sha256", "sha384" or "sha512"
	Value     evidence.Bytes `json:"value"`     // as long as the bank's digest
}

// AgentEvent is what the daemon is and what it was told to do.
type AgentEvent struct {
	Version       string           `json:"version"`                // version of the daemon, for people
	Digest        evidence.Digest  `json:"digest"`                 // SHA-256 of the daemon's executable
	Configuration evidence.Digest  `json:"configuration"`          // SHA-256 of its configuration file; of zero bytes if it has none
	Declarations  Declarations     `json:"declarations,omitempty"` // ascending by app, each once
	AgentKey      evidence.Bytes   `json:"agentKey"`               // Ed25519 public key, 32 bytes
	Previous      evidence.LogHead `json:"previous"`               // head of this log before this record; the appender sets it
}

// Declaration is one application file as it was read.
type Declaration struct {
	App    string          `json:"app"`    // name of the application
	Digest evidence.Digest `json:"digest"` // SHA-256 of the file
}

// StopEvent is the end of a daemon that had the time to say so. A start without one before it
// tells that the daemon before was killed, or crashed.
type StopEvent struct {
	AgentKey evidence.Bytes `json:"agentKey"` // Ed25519 public key of the daemon that ends, 32 bytes
}

// AppEvent is one application: everything that its declaration names, as the agent found it.
type AppEvent struct {
	App         string          `json:"app"`              // name of the application
	Unit        string          `json:"unit,omitzero"`    // systemd system unit
	User        string          `json:"user,omitzero"`    // user of the unit
	UID         *uint32         `json:"uid,omitzero"`     // uid of User when the declaration was read; nil exactly if User is empty, or Dynamic
	Dynamic     bool            `json:"dynamic,omitzero"` // systemd gives User a uid at each start of the unit, see [DynamicUID]
	Users       AppUsers        `json:"users,omitempty"`  // further users of the unit whose processes are the application, ascending by uid; nil if User is empty, or Dynamic
	Declaration evidence.Digest `json:"declaration"`      // SHA-256 of the declaration that named the files
	Manifest    Manifest        `json:"manifest"`         // ascending by the bytes of the path, each path once
	Digest      evidence.Digest `json:"digest"`           // ManifestDigest of Manifest
}

// AppUser is a further user of an application.
type AppUser struct {
	User string `json:"user"` // as declared, 1 to MaxName bytes
	UID  uint32 `json:"uid"`  // when the declaration was read
}

// HasUser reports whether the application can have processes of a user. An event without a user is
// of an application for any. Who has a dynamic uid at a time only the machine knows.
func (a *AppEvent) HasUser(uid uint32) bool {
	if a.Dynamic {
		return DynamicUID(uid)
	}
	return a.UID == nil || *a.UID == uid || a.Users.Has(uid)
}

// Has reports whether a user is in the list.
func (l AppUsers) Has(uid uint32) bool {
	return slices.ContainsFunc(l, func(u AppUser) bool { return u.UID == uid })
}

// SameEvent says that an application was measured again, and is what its last [AppEvent] says.
// It begins an interval of coverage, or carries one on (docs/measurements.md, section 4).
type SameEvent struct {
	App         string          `json:"app"`              // name of the application
	Declaration evidence.Digest `json:"declaration"`      // SHA-256 of the declaration that named the files, as in that AppEvent
	Digest      evidence.Digest `json:"digest"`           // ManifestDigest of what was found, as in that AppEvent
	Carried     bool            `json:"carried,omitzero"` // nothing can have changed since the interval before was ended
	Reason      string          `json:"reason"`           // for people: what Carried rests on, or why it is false; 1 to MaxReason bytes
}

// UnmeasuredEvent says that the agent could not measure a declared application. What runs
// under its name after this record is not known.
type UnmeasuredEvent struct {
	App    string `json:"app"`    // name of the application
	Reason string `json:"reason"` // for people, 1 to MaxReason bytes
}

// GapEvent says that changes may have been missed before this record.
type GapEvent struct {
	Reason string `json:"reason"` // for people, 1 to MaxReason bytes
}

// Encode checks e and returns its JSON, the value of the record's content: at most
// [MaxContent] bytes.
func (e *Event) Encode() ([]byte, error) {
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	b, err := strictjson.Encode(e)
	if err != nil {
		return nil, fmt.Errorf("encode event %q: %w", e.Type, err)
	}
	most := MaxContent
	if e.Type == EventContainer {
		most = MaxContainer
	}
	if len(b) > most {
		return nil, fmt.Errorf("encode event %q: %w", e.Type, &text.SizeError{Part: "event", Got: len(b), Min: 1, Max: most})
	}
	return b, nil
}

// ParseEvent decodes the JSON of an event, at most [MaxContent] bytes. Duplicate, unknown
// and differently-cased members, and any spelling other than that of [Event.Encode], are
// errors.
func ParseEvent(b []byte) (*Event, error) {
	var e Event
	if err := strictjson.Decode(b, MaxContent, &e); err != nil {
		return nil, fmt.Errorf("decode event: %w", err)
	}
	again, err := e.Encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errors.New("decode event: JSON is not in its canonical spelling")
	}
	return &e, nil
}

// Check reports the first member that the format does not allow.
func (e *Event) Check() error {
	known, exact := e.Type == EventFull, true
	var err error
	for _, m := range []struct {
		types   []EventType
		present bool
		check   func() error
	}{
		{[]EventType{EventStart}, e.Start != nil, e.Start.check},
		{[]EventType{EventAgent, EventReload}, e.Agent != nil, e.Agent.check},
		{[]EventType{EventStop}, e.Stop != nil, func() error { return agentKey("stop.agentKey", e.Stop.AgentKey) }},
		{[]EventType{EventApp}, e.App != nil, e.App.check},
		{[]EventType{EventSame}, e.Same != nil, func() error {
			return cmp.Or(name("same.app", e.Same.App), text.Check("same.reason", e.Same.Reason, 1, MaxReason))
		}},
		{[]EventType{EventUnmeasured}, e.Unmeasured != nil, func() error {
			return cmp.Or(name("unmeasured.app", e.Unmeasured.App), text.Check("unmeasured.reason", e.Unmeasured.Reason, 1, MaxReason))
		}},
		{[]EventType{EventGap}, e.Gap != nil, func() error { return text.Check("gap.reason", e.Gap.Reason, 1, MaxReason) }},
		{[]EventType{EventContainer}, e.Container != nil, e.Container.check},
		{[]EventType{EventEmitted}, e.Emitted != nil, e.Emitted.check},
		{[]EventType{EventGateStart}, e.GateStart != nil, e.GateStart.check},
		{[]EventType{EventGateGap}, e.GateGap != nil, e.GateGap.check},
		{[]EventType{EventExec}, e.Exec != nil, e.Exec.check},
	} {
		wanted := slices.Contains(m.types, e.Type)
		known, exact = known || wanted, exact && wanted == m.present
		if wanted && m.present {
			err = m.check()
		}
	}
	switch {
	case !known:
		return fmt.Errorf("event type %s is not known", text.Excerpt(e.Type))
	case !exact:
		return fmt.Errorf("event %q must have exactly the member that belongs to it", e.Type)
	case e.Time > MaxTime:
		return fmt.Errorf("event %q: time %d, want at most %d", e.Type, e.Time, uint64(MaxTime))
	case err != nil:
		return fmt.Errorf("event %q: %w", e.Type, err)
	}
	return nil
}

func (s *StartEvent) check() error {
	// Software that can reset a PCR can replay any log into it.
	if s.PCR > LastStatic {
		return fmt.Errorf("start.pcr %d, want 0 to %d, which only a start of the TPM resets", s.PCR, LastStatic)
	}
	if s.Previous != nil && (s.Previous.Count == 0 || s.Previous.Digest.IsZero()) {
		return errors.New("start.previous names an empty log: leave it out")
	}
	_, err := s.Registers()
	return err
}

// Digests returns the start values of the log's PCR as digests of their banks.
func (s *StartEvent) Digests() ([]Digest, error) { return s.Values.digests("start.values") }

func (a *AgentEvent) check() error {
	if err := text.Check("agent.version", a.Version, 1, evidence.MaxName); err != nil {
		return err
	}
	if err := agentKey("agent.agentKey", a.AgentKey); err != nil {
		return err
	}
	if (a.Previous.Count == 0) != a.Previous.Digest.IsZero() {
		return errors.New("agent.previous.digest must be zero exactly when its count is 0")
	}
	if len(a.Declarations) > MaxDeclarations {
		return fmt.Errorf("agent.declarations has %d entries, want at most %d", len(a.Declarations), MaxDeclarations)
	}
	for i, d := range a.Declarations {
		if err := name("app", d.App); err != nil {
			return fmt.Errorf("agent.declarations[%d]: %w", i, err)
		}
		if i > 0 && d.App <= a.Declarations[i-1].App {
			return fmt.Errorf("agent.declarations[%d]: %q is not in ascending order", i, d.App)
		}
	}
	return nil
}

func (a *AppEvent) check() error {
	err := cmp.Or(name("app.app", a.App), text.Check("app.unit", a.Unit, 0, evidence.MaxName), text.Check("app.user", a.User, 0, evidence.MaxName))
	if err != nil {
		return err
	}
	if err := a.checkUser(); err != nil {
		return err
	}
	if err := checkManifest(a.Manifest); err != nil {
		return fmt.Errorf("app.manifest%w", err)
	}
	if got := ManifestDigest(a.Manifest); got != a.Digest {
		return fmt.Errorf("app.digest is %s, the manifest hashes to %s", a.Digest, got)
	}
	return nil
}

func (a *AppEvent) checkUsers() error {
	if len(a.Users) > MaxAppUsers || len(a.Users) > 0 && a.UID == nil {
		return fmt.Errorf("app.users has %d entries, want at most %d, and none without app.user", len(a.Users), MaxAppUsers)
	}
	for i, u := range a.Users {
		switch {
		case u.UID == math.MaxUint32, u.UID == *a.UID:
			return fmt.Errorf("app.users[%d].uid %d is not that of a further user", i, u.UID)
		case i > 0 && u.UID <= a.Users[i-1].UID:
			return fmt.Errorf("app.users[%d].uid %d is not in ascending order", i, u.UID)
		}
		if err := name("app.users.user", u.User); err != nil {
			return err
		}
	}
	return nil
}

func agentKey(part string, key []byte) error { return text.Size(part, len(key), 32, 32) }

func name(part, s string) error { return text.Check(part, s, 1, evidence.MaxName) }

// Lists of an event. Each stops reading at its cap, because a log is read before its
// author is known.
type (
	StartValues  []StartValue    // at most one for each bank that this program knows
	Declarations []Declaration   // at most MaxDeclarations
	Manifest     []ManifestEntry // at most MaxManifest
	AppUsers     []AppUser       // at most MaxAppUsers
)

// UnmarshalJSONFrom reads at most as many values as there are known banks.
func (l *StartValues) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, len(algorithms), StartValue{})
}

// UnmarshalJSONFrom reads at most MaxDeclarations declarations.
func (l *Declarations) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxDeclarations, Declaration{})
}

// UnmarshalJSONFrom reads at most MaxAppUsers users. One without a uid is refused, and not root.
func (l *AppUsers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxAppUsers, AppUser{UID: math.MaxUint32})
}

// UnmarshalJSONFrom reads at most MaxManifest entries.
func (l *Manifest) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxManifest, ManifestEntry{})
}
