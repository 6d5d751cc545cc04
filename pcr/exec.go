// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// The events of the gate, a program that holds up each start of a program of an application until
// the agent knows what it is. docs/measurements.md shows one record of each.
const (
	EventGateStart EventType = "gate-start" // the gate guards these applications from now on, and no other
	EventGateGap   EventType = "gate-gap"   // programs may have started without the gate
	EventExec      EventType = "exec"       // a program that no manifest in force lists was started, or refused
)

// GateStartEvent says which applications the gate guards. It replaces the event before.
type GateStartEvent struct {
	Gate    evidence.Digest `json:"gate"`             // SHA-256 of the executable of the gate
	Apps    GatedApps       `json:"apps,omitempty"`   // ascending by app, each once
	Carried bool            `json:"carried,omitzero"` // the same process guarded them since the agent before ended, and nothing started without it
}

// GatedApp is an application that the gate guards.
type GatedApp struct {
	App     string `json:"app"`              // name of the application
	Enforce bool   `json:"enforce,omitzero"` // a program that its manifest does not list does not start
}

// GateGapEvent says that programs may have started without the gate before this record.
type GateGapEvent struct {
	App    string `json:"app,omitzero"` // name of the application; of all applications if it is empty
	Reason string `json:"reason"`       // for people, 1 to MaxReason bytes
}

// ExecEvent is a program that the manifest of its application does not list. The record comes
// before the program starts.
type ExecEvent struct {
	App     string          `json:"app"`              // name of the application
	Path    string          `json:"path"`             // absolute path as the kernel showed it, 1 to evidence.MaxPath bytes
	Digest  evidence.Digest `json:"digest"`           // SHA-256 of the content of the file
	Refused bool            `json:"refused,omitzero"` // it did not start
}

// GatedApps is at most MaxDeclarations applications.
type GatedApps []GatedApp

// UnmarshalJSONFrom reads at most MaxDeclarations applications.
func (l *GatedApps) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxDeclarations, GatedApp{})
}

func (g *GateStartEvent) check() error {
	if len(g.Apps) > MaxDeclarations {
		return fmt.Errorf("gateStart.apps has %d entries, want at most %d", len(g.Apps), MaxDeclarations)
	}
	for i, a := range g.Apps {
		if err := name("app", a.App); err != nil {
			return fmt.Errorf("gateStart.apps[%d]: %w", i, err)
		}
		if i > 0 && a.App <= g.Apps[i-1].App {
			return fmt.Errorf("gateStart.apps[%d]: %q is not in ascending order", i, a.App)
		}
	}
	return nil
}

func (g *GateGapEvent) check() error {
	if err := text.Check("gateGap.app", g.App, 0, evidence.MaxName); err != nil {
		return err
	}
	return text.Check("gateGap.reason", g.Reason, 1, MaxReason)
}

func (x *ExecEvent) check() error {
	if err := name("exec.app", x.App); err != nil {
		return err
	}
	if err := text.Check("exec.path", x.Path, 1, evidence.MaxPath); err != nil {
		return err
	}
	if x.Path[0] != '/' {
		return errors.New("exec.path is not absolute")
	}
	return nil
}
