// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// twoPCRs is a log of PCR 13 whose events of applications are in PCR 14.
func twoPCRs(t *testing.T) []pcr.Record {
	t.Helper()
	one, banks := exampleLog()
	var out []pcr.Record
	for i, r := range one {
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		if e.Start != nil {
			e.Start.Events = &pcr.EventsStart{PCR: 14, Values: slices.Clone(e.Start.Values)}
			e.Start.Events.Values[0].Value = bytes.Repeat([]byte{7}, 32)
		}
		if e.Agent != nil {
			e.Agent.Previous = pcr.Head(evidence.LogHead{}, out)
		}
		index := uint32(13)
		if e.Emitted != nil {
			index = 14
		}
		r, err := pcr.NewRecord(uint64(i), index, banks, e)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// replayed follows a whole log.
func replayed(records []pcr.Record) (*pcr.Replayer, error) {
	p, _, err := pcr.NewWholeReplayer(records)
	for _, r := range records {
		if err == nil {
			err = p.Next(r)
		}
	}
	return p, err
}

// TestTwoPCRs: each record extends its own PCR, from the values of log-start, and a part of the log
// goes on from there.
func TestTwoPCRs(t *testing.T) {
	records := twoPCRs(t)
	p, err := replayed(records)
	if err != nil {
		t.Fatal(err)
	}
	start, err := pcr.StartOf(records)
	if err != nil {
		t.Fatal(err)
	}
	want, err := start.Registers()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		i := 0
		if e, _ := r.Event(); e.Emitted != nil {
			i = 1
		}
		if want[i].Values, err = r.Extend(want[i].Values); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.Registers(); !pcr.EqualRegisters(got, want) || !pcr.Equal(p.Values(), want[0].Values) {
		t.Errorf("registers %x, want %x", got, want)
	}
	for n := 1; n < len(records); n++ {
		before, err := replayed(records[:n])
		if err != nil {
			t.Fatal(err)
		}
		rest, err := pcr.NewRegisterReplayer(before.Registers())
		for _, r := range records[n:] {
			if err == nil {
				err = rest.Next(r)
			}
		}
		if err != nil || !pcr.EqualRegisters(rest.Registers(), want) {
			t.Errorf("from record %d on: %v", n, err)
		}
	}
}

// TestTwoPCRsRefused: a record is in the PCR of its event, and two records of different PCRs have
// different times.
func TestTwoPCRsRefused(t *testing.T) {
	const said = 8 // record of the event of an application
	retimed := func(r []pcr.Record, i int, time uint64) {
		e, err := r[i].Event()
		if err != nil {
			t.Fatal(err)
		}
		e.Time = time
		x, err := pcr.NewRecord(r[i].Number, r[i].PCR, []pcr.Algorithm{pcr.SHA256, pcr.SHA384}, e)
		if err != nil {
			t.Fatal(err)
		}
		r[i] = x
	}
	for name, c := range map[string]struct {
		change func([]pcr.Record)
		code   pcr.LogCode
		index  uint64
	}{
		"an event in the first PCR":          {func(r []pcr.Record) { r[said].PCR = 13 }, pcr.LogPCR, said},
		"a measurement in the second":        {func(r []pcr.Record) { r[2].PCR = 14 }, pcr.LogPCR, 2},
		"log-start in the second":            {func(r []pcr.Record) { r[0].PCR = 14 }, pcr.LogPCR, 0},
		"an event in a third":                {func(r []pcr.Record) { r[said].PCR = 15 }, pcr.LogPCR, said},
		"an event as late as the one before": {func(r []pcr.Record) { retimed(r, said, 64417) }, pcr.LogTime, said},
		"a stop as late as the event before": {func(r []pcr.Record) { retimed(r, said+1, 70512) }, pcr.LogTime, said + 1},
	} {
		records := twoPCRs(t)
		c.change(records)
		_, err := replayed(records)
		if le, ok := errors.AsType[*pcr.LogError](err); !ok || le.Code != c.code || le.Index != c.index {
			t.Errorf("%s: %v, want %s at %d", name, err, c.code, c.index)
		}
	}
	one, banks := exampleLog()
	retimed(one, said, 64417)
	one[said+1].PCR = 14
	if _, err := replayed(one); err == nil || !strings.Contains(err.Error(), "PCR 14, the log is for PCR 13") {
		t.Errorf("a second PCR in a log that has one: %v", err)
	}
	if _, err := replayed(one[:said+1]); err != nil {
		t.Errorf("two records of one time in one PCR: %v", err)
	}
	if _, err := pcr.Replay(twoPCRs(t), banks, nil); err == nil {
		t.Error("a log of two PCRs was replayed as one of one")
	}
}

// TestEventsStartRefused: what a first record may say of a second PCR.
func TestEventsStartRefused(t *testing.T) {
	records := twoPCRs(t)
	for index := range uint32(24) {
		e, err := records[0].Event()
		if err != nil {
			t.Fatal(err)
		}
		e.Start.Events.PCR = index
		want := slices.Contains([]uint32{8, 9, 11, 12, 14, 15}, index)
		if err := e.Check(); (err == nil) != want || (pcr.CheckEventsPCR(index, 13) == nil) != want {
			t.Errorf("PCR %d: %v", index, err)
		}
	}
	for name, change := range map[string]func(*pcr.EventsStart){
		"no values":          func(s *pcr.EventsStart) { s.Values = nil },
		"fewer banks":        func(s *pcr.EventsStart) { s.Values = s.Values[:1] },
		"another bank":       func(s *pcr.EventsStart) { s.Values[1] = pcr.StartValue{Algorithm: "sha512", Value: make([]byte, 64)} },
		"an unknown bank":    func(s *pcr.EventsStart) { s.Values[1].Algorithm = "md5" },
		"a short value":      func(s *pcr.EventsStart) { s.Values[0].Value = s.Values[0].Value[1:] },
		"banks not in order": func(s *pcr.EventsStart) { slices.Reverse(s.Values) },
	} {
		e, err := records[0].Event()
		if err != nil {
			t.Fatal(err)
		}
		change(e.Start.Events)
		if err := e.Check(); err == nil || !strings.Contains(err.Error(), "start.events") {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := e.Encode(); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
}

// TestRegistersRefused: a replay does not begin with what no log can have.
func TestRegistersRefused(t *testing.T) {
	zero := pcr.Zero([]pcr.Algorithm{pcr.SHA256, pcr.SHA384})
	for name, registers := range map[string][]pcr.Register{
		"none":           nil,
		"three":          {{PCR: 13, Values: zero}, {PCR: 14, Values: zero}, {PCR: 15, Values: zero}},
		"one twice":      {{PCR: 13, Values: zero}, {PCR: 13, Values: zero}},
		"IMA's":          {{PCR: 13, Values: zero}, {PCR: 10, Values: zero}},
		"no bank":        {{PCR: 13}},
		"fewer banks":    {{PCR: 13, Values: zero}, {PCR: 14, Values: zero[:1]}},
		"another bank":   {{PCR: 13, Values: zero[:1]}, {PCR: 14, Values: zero[1:]}},
		"a bank of none": {{PCR: 13, Values: []pcr.Digest{{Algorithm: 0x12}}}},
	} {
		if _, err := pcr.NewRegisterReplayer(registers); err == nil {
			t.Errorf("%s: begun", name)
		}
		if _, err := pcr.NewStart(registers); err == nil {
			t.Errorf("%s: a log begins", name)
		}
	}
	r := twoPCRs(t)[8]
	if _, err := r.ExtendIn([]pcr.Register{{PCR: 13, Values: zero}}); err == nil {
		t.Error("a record extends a PCR that it does not name")
	}
}
