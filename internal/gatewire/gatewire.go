// SPDX-License-Identifier: Apache-2.0

// Package gatewire has the messages between the gate and the agent (docs/gate.md). A message is
// its length in four bytes, big-endian, and that many bytes of JSON: an object with one member.
package gatewire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Names of the service of the gate.
const (
	Unit   = "agentd-gate.service"   // that the gate runs in
	Agent  = "agentd.service"        // that the agent runs in
	Socket = "/run/agentd/gate.sock" // of the agent
	Name   = "gate"                  // of that socket, for systemd
)

// Version is the version of the messages. Gate and agent come in one package. An upgrade restarts
// the agent alone, so a new version makes a gap: the agent refuses another one.
const Version = 1

// Limits.
const (
	MaxToAgent = 256 << 10 // bytes of a message to the agent
	MaxToGate  = 16 << 20  // bytes of a message to the gate
	MaxAsked   = 256       // questions that wait for an answer
	MaxFolders = 4096      // of all apps of rules
)

// ToAgent is a message of the gate. It has exactly one member.
type ToAgent struct {
	Hello *Hello `json:"hello,omitzero"` // first, and only then
	Ready *Ready `json:"ready,omitzero"` // answers Rules
	Ask   *Ask   `json:"ask,omitzero"`
	Gap   *Gap   `json:"gap,omitzero"`
	Pong  *Ping  `json:"pong,omitzero"` // answers Ping, after all that was to be said before
}

// ToGate is a message of the agent. It has exactly one member.
type ToGate struct {
	Rules    *Rules    `json:"rules,omitzero"`
	Recorded *Recorded `json:"recorded,omitzero"`
	Answer   *Answer   `json:"answer,omitzero"`
	Noted    *Noted    `json:"noted,omitzero"`
	Ping     *Ping     `json:"ping,omitzero"`
}

// Hello is what a gate says of itself.
type Hello struct {
	Version int    `json:"version"`
	Held    []Held `json:"held,omitempty"` // apps that it has guarded without a break since an agent recorded that
	Gaps    []Gap  `json:"gaps,omitempty"` // that no agent has noted
}

// Held is an app that a gate has guarded since an agent recorded that.
type Held struct {
	App     string `json:"app"`
	Enforce bool   `json:"enforce,omitzero"`
}

// Rules are the apps to guard. They replace those before.
type Rules struct {
	Generation uint64 `json:"generation"`
	Apps       []App  `json:"apps,omitempty"` // each once
}

// App is one app to guard.
type App struct {
	App     string   `json:"app"`
	Enforce bool     `json:"enforce,omitzero"`
	Folders []Folder `json:"folders,omitempty"`
}

// Folder is a folder that contains files of an app.
type Folder struct {
	Path  string   `json:"path"`            // absolute
	Names []string `json:"names,omitempty"` // of the app's files in it; empty if all are
}

// Ready says which apps of a generation the gate guards.
type Ready struct {
	Generation uint64   `json:"generation"`
	Apps       []string `json:"apps,omitempty"`
	Failed     []Failed `json:"failed,omitempty"`
}

// Failed is an app that the gate cannot guard.
type Failed struct {
	App    string `json:"app"`
	Reason string `json:"reason"`
}

// Recorded says that the log lists the apps of a generation that the gate was ready for.
type Recorded struct {
	Generation uint64   `json:"generation"`
	Apps       []string `json:"apps,omitempty"` // that the log lists
}

// Ask asks whether a program may start.
type Ask struct {
	ID     uint64          `json:"id"`
	App    string          `json:"app"`
	Path   string          `json:"path"` // as it may be shown
	Digest evidence.Digest `json:"digest"`
	Loose  bool            `json:"loose,omitzero"` // it may be no program of the app: it is recorded, and not refused
	PID    int             `json:"pid"`            // for people
}

// Answer answers one Ask.
type Answer struct {
	ID    uint64 `json:"id"`
	Start bool   `json:"start,omitzero"` // it may start, and the log says all that it must say before
	Gap   bool   `json:"gap,omitzero"`   // it may start, and is not recorded: the gate notes a gap, which outlives the agent, and forgets the answer
}

// Gap says that programs may have started without a question.
type Gap struct {
	Number uint64 `json:"number"`       // of this gate, from 1
	App    string `json:"app,omitzero"` // empty: of all apps
	Reason string `json:"reason"`
}

// Noted says that a gap is in the log.
type Noted struct {
	Number uint64 `json:"number"`
}

// Ping asks for a sign of life.
type Ping struct {
	ID uint64 `json:"id"`
}

// Write writes one message.
func Write[M ToAgent | ToGate](w io.Writer, m *M) error {
	b, err := strictjson.Encode(m)
	if err != nil {
		return fmt.Errorf("encode a message of the gate: %w", err)
	}
	if most := limit(m); len(b) > most {
		return fmt.Errorf("a message of the gate has %d bytes, at most %d are sent", len(b), most)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
	return err
}

// Read reads one message, strictly. It is io.EOF at the end of the connection.
func Read[M ToAgent | ToGate](r io.Reader, m *M) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if most := limit(m); n > uint32(most) {
		return fmt.Errorf("a message of the gate has %d bytes, at most %d are read", n, most)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return errors.Join(io.ErrUnexpectedEOF, err)
	}
	if err := strictjson.Decode(b, int(n), m); err != nil {
		return fmt.Errorf("decode a message of the gate: %w", err)
	}
	return one(m)
}

func limit(m any) int {
	if _, ok := m.(*ToAgent); ok {
		return MaxToAgent
	}
	return MaxToGate
}

// one checks that a message has exactly one member.
func one(m any) error {
	var members []bool
	switch m := m.(type) {
	case *ToAgent:
		members = []bool{m.Hello != nil, m.Ready != nil, m.Ask != nil, m.Gap != nil, m.Pong != nil}
	case *ToGate:
		members = []bool{m.Rules != nil, m.Recorded != nil, m.Answer != nil, m.Noted != nil, m.Ping != nil}
	}
	n := 0
	for _, is := range members {
		if is {
			n++
		}
	}
	if n != 1 {
		return fmt.Errorf("a message of the gate has %d members, want one", n)
	}
	return nil
}
