// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestRecordsRefused: records that were not decoded, but made, are held to the same rules.
func TestRecordsRefused(t *testing.T) {
	gap := &pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "x"}}
	banks := []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
	if _, err := pcr.NewRecord(1, 14, banks, &pcr.Event{Type: pcr.EventGap}); err == nil {
		t.Error("a record of something that is not an event")
	}
	if _, err := pcr.NewRecord(1, 14, []pcr.Algorithm{0x12}, gap); err == nil || !strings.Contains(err.Error(), "cannot be hashed") {
		t.Errorf("a record for a bank that cannot be hashed: %v", err)
	}
	func() {
		defer func() {
			if r, _ := recover().(string); !strings.Contains(r, "cannot be hashed") {
				t.Errorf("panicked with %q", r)
			}
		}()
		pcr.Algorithm(0x12).Sum(nil)
	}()

	good, err := pcr.NewRecord(1, 14, banks, gap)
	if err != nil {
		t.Fatal(err)
	}
	content := func(b ...byte) pcr.Record { return pcr.Record{Content: b} }
	for name, r := range map[string]pcr.Record{
		"nothing":      content(),
		"a short head": content(pcr.ContentType, 0, 0, 0),
		"another type": {Content: append([]byte{5}, good.Content[1:]...)},
		"too short":    {Content: good.Content[:len(good.Content)-1]},
		"too long":     {Content: append(slices.Clone(good.Content), ' ')},
	} {
		if e, err := r.Event(); err == nil {
			t.Errorf("%s: read as %+v", name, e)
		} else if strings.Contains(err.Error(), "event:") {
			t.Errorf("%s: taken for an event: %v", name, err)
		}
	}

	values := pcr.Zero(banks)
	for name, change := range map[string]func(d []pcr.Digest) []pcr.Digest{
		"too few": func(d []pcr.Digest) []pcr.Digest { return d[:1] },
		"short":   func(d []pcr.Digest) []pcr.Digest { d[1].Value = d[1].Value[1:]; return d },
		"unknown": func(d []pcr.Digest) []pcr.Digest { d[1].Algorithm = pcr.SHA384; return d },
	} {
		r := good
		r.Digests = change(slices.Clone(good.Digests))
		if v, err := r.Extend(values); err == nil {
			t.Errorf("%s: extended to %v", name, v)
		}
	}
	odd := []pcr.Digest{{Algorithm: 0x12, Value: nil}}
	if v, err := (pcr.Record{Digests: odd}).Extend(odd); err == nil {
		t.Errorf("an unknown bank is extended to %v", v)
	}
}

func TestEqual(t *testing.T) {
	a := []pcr.Digest{{Algorithm: pcr.SHA1, Value: []byte{1}}, {Algorithm: pcr.SHA256, Value: []byte{2}}}
	for name, b := range map[string][]pcr.Digest{
		"fewer": a[:1], "more": append(slices.Clone(a), a[0]), "none": nil,
		"another bank":  {a[0], {Algorithm: pcr.SHA384, Value: []byte{2}}},
		"another value": {a[0], {Algorithm: pcr.SHA256, Value: []byte{3}}},
		"another order": {a[1], a[0]},
	} {
		if pcr.Equal(a, b) || pcr.Equal(b, a) {
			t.Errorf("%s: equal", name)
		}
	}
	if !pcr.Equal(a, slices.Clone(a)) || !pcr.Equal(nil, nil) {
		t.Error("not equal to itself")
	}
}

// TestReplayRefused: a replay does not rest on what was decoded before it.
func TestReplayRefused(t *testing.T) {
	records, banks := plainLog()
	zero := pcr.Zero(banks)
	for name, c := range map[string]struct {
		banks []pcr.Algorithm
		start []pcr.Digest
	}{
		"no banks":             {nil, nil},
		"another bank":         {banks, []pcr.Digest{zero[0], {Algorithm: pcr.SHA512, Value: make([]byte, 64)}}},
		"unknown bank":         {[]pcr.Algorithm{0x12}, []pcr.Digest{{Algorithm: 0x12}}},
		"short value":          {banks, []pcr.Digest{zero[0], {Algorithm: zero[1].Algorithm, Value: zero[1].Value[1:]}}},
		"banks not in order":   {[]pcr.Algorithm{banks[1], banks[0]}, []pcr.Digest{zero[1], zero[0]}},
		"a bank that is twice": {[]pcr.Algorithm{banks[0], banks[0]}, []pcr.Digest{zero[0], zero[0]}},
	} {
		if _, err := pcr.NewReplayer(c.banks, c.start); err == nil {
			t.Errorf("%s: begun", name)
		}
	}
	refused := func(name string, code pcr.LogCode, index uint64, records []pcr.Record) {
		t.Helper()
		var le *pcr.LogError
		if _, err := pcr.Replay(records, banks, nil); !errors.As(err, &le) || le.Code != code || le.Index != index {
			t.Errorf("%s: got %v, want %s at %d", name, err, code, index)
		} else if strings.Contains(le.Error(), "at byte") {
			t.Errorf("%s: names a byte, which is not known here: %v", name, le)
		}
	}
	twice, _ := plainLog()
	twice[2].Number = 1
	refused("a number twice", pcr.LogNumber, 2, twice)
	beyond, _ := plainLog()
	for i := range beyond {
		beyond[i].PCR = pcr.Count
	}
	refused("PCR 24", pcr.LogPCR, 0, beyond)

	records[0].Number = 5
	var le *pcr.LogError
	if _, err := pcr.StartOf(records); !errors.As(err, &le) || le.Code != pcr.LogOrder {
		t.Errorf("a log from record 5 on: %v", err)
	}
	if _, err := pcr.EncodeCELJSON([]pcr.Record{{Number: 7}}); err == nil || !strings.Contains(err.Error(), "export record 7") {
		t.Errorf("a record without content is exported: %v", err)
	}
}

// TestDigestListRefused: a list of digests is not a log that was cut off, whatever its
// entries say, and contains no unknown bank.
func TestDigestListRefused(t *testing.T) {
	tlv := func(typ byte, value ...byte) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(value))), value...)
	}
	sha1 := tlv(4, make([]byte, 20)...)
	for name, digests := range map[string][]byte{
		"unknown and empty": tlv(0x12),
		"unknown":           tlv(0x12, make([]byte, 32)...),
		"beyond the list":   sha1[:len(sha1)-1],
		"half a length":     append(bytes.Clone(sha1), 11, 0, 0),
	} {
		b := slices.Concat(tlv(0, make([]byte, 8)...), tlv(1, 14), tlv(3, digests...), tlv(pcr.ContentType, 'x'))
		var le *pcr.LogError
		if _, err := pcr.DecodeLog(b, 0); !errors.As(err, &le) || le.Code != pcr.LogMalformed {
			t.Errorf("%s: got %v, want %s", name, err, pcr.LogMalformed)
		}
	}
}

// TestEventMembers: each member is held to its own rule, and the error says to which.
func TestEventMembers(t *testing.T) {
	agent := func(change func(*pcr.AgentEvent)) *pcr.Event {
		a := &pcr.AgentEvent{Version: "1", AgentKey: make([]byte, 32)}
		change(a)
		return &pcr.Event{Type: pcr.EventAgent, Agent: a}
	}
	start := func(change func(*pcr.StartEvent)) *pcr.Event {
		s := &pcr.StartEvent{PCR: 14, Values: []pcr.StartValue{{Algorithm: "sha256", Value: make([]byte, 32)}}}
		change(s)
		return &pcr.Event{Type: pcr.EventStart, Start: s}
	}
	unmeasured := func(app, reason string) *pcr.Event {
		return &pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: app, Reason: reason}}
	}
	many := make(pcr.Declarations, pcr.MaxDeclarations+1)
	for i := range many {
		many[i].App = string(rune(0x4e00 + i))
	}
	for name, e := range map[string]*pcr.Event{
		"two declarations":  agent(func(a *pcr.AgentEvent) { a.Declarations = pcr.Declarations{{App: "a"}, {App: "b"}} }),
		"most declarations": agent(func(a *pcr.AgentEvent) { a.Declarations = many[:pcr.MaxDeclarations] }),
		"unmeasured":        unmeasured("a", "x"),
		"gate of nothing":   {Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{}},
		"gate":              {Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{Apps: pcr.GatedApps{{App: "a"}, {App: "b", Enforce: true}}}},
		"gap of all":        {Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{Reason: "x"}},
		"gap of one":        {Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: "a", Reason: "x"}},
		"program":           {Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: "a", Path: "/a"}},
	} {
		if _, err := e.Encode(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string]struct {
		e    *pcr.Event
		want string
	}{
		"too many declarations":     {agent(func(a *pcr.AgentEvent) { a.Declarations = many }), "agent.declarations has 4097"},
		"declaration without app":   {agent(func(a *pcr.AgentEvent) { a.Declarations = pcr.Declarations{{}} }), "agent.declarations[0]"},
		"unmeasured without app":    {unmeasured("", "x"), "unmeasured.app"},
		"unmeasured without reason": {unmeasured("a", ""), "unmeasured.reason"},
		"unmeasured of nothing":     {&pcr.Event{Type: pcr.EventUnmeasured}, "exactly the member"},
		"count before, no digest":   {start(func(s *pcr.StartEvent) { s.Previous = &evidence.LogHead{Count: 1} }), "start.previous"},
		"digest before, no count":   {start(func(s *pcr.StartEvent) { s.Previous = &evidence.LogHead{Digest: evidence.Digest{1}} }), "start.previous"},
		"unknown bank, no value":    {start(func(s *pcr.StartEvent) { s.Values = pcr.StartValues{{Algorithm: "sm3_256"}} }), "sm3_256"},
		"gate without app":          {&pcr.Event{Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{Apps: pcr.GatedApps{{}}}}, "gateStart.apps[0]"},
		"gate of one app twice":     {&pcr.Event{Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{Apps: pcr.GatedApps{{App: "a"}, {App: "a"}}}}, "not in ascending order"},
		"gate of too many":          {&pcr.Event{Type: pcr.EventGateStart, GateStart: &pcr.GateStartEvent{Apps: make(pcr.GatedApps, pcr.MaxDeclarations+1)}}, "gateStart.apps has 4097"},
		"gap without reason":        {&pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: "a"}}, "gateGap.reason"},
		"gap of a long name":        {&pcr.Event{Type: pcr.EventGateGap, GateGap: &pcr.GateGapEvent{App: strings.Repeat("a", 257), Reason: "x"}}, "gateGap.app"},
		"program without app":       {&pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{Path: "/a"}}, "app"},
		"program without path":      {&pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: "a"}}, "exec.path"},
		"program with a name":       {&pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: "a", Path: "a"}}, "not absolute"},
		"program and gap":           {&pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: "a", Path: "/a"}, GateGap: &pcr.GateGapEvent{Reason: "x"}}, "exactly the member"},
		"manifest too long": {&pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{App: "a", Manifest: make(pcr.Manifest, pcr.MaxManifest+1)}},
			"has 20001 entries"},
	} {
		if _, err := c.e.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	for text, want := range map[string]string{`{"type":"gap","time":1}`: "exactly the member", `{"type":"gap2","time":1}`: "not known"} {
		if _, err := pcr.ParseEvent([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

// TestMissingValue: a value that is not there is told from one of the wrong size.
func TestMissingValue(t *testing.T) {
	if _, err := (pcr.Values{}).Get(pcr.SHA256, 14); err == nil || !strings.Contains(err.Error(), "no value for PCR 14") {
		t.Errorf("got %v", err)
	}
}
