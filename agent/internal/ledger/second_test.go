// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/pcr"
)

// twoPCRs is a machine with a PCR for events, and its log with two of them.
func twoPCRs(t *testing.T) (*machine, *ledger.Ledger) {
	t.Helper()
	m := newMachine()
	m.events = second
	m.tpm.extendSecond("boot loader")
	l := m.restart(t)
	appendAll(t, l, agentEvent(pcr.EventAgent), emittedEvent("1"), appEvent("a"), emittedEvent("2"))
	return m, l
}

// recorded returns the records of a log.
func recorded(t *testing.T, v ledger.View) []pcr.Record {
	t.Helper()
	whole, err := v.Log(0)
	if err != nil {
		t.Fatal(err)
	}
	return must(pcr.DecodeLog(whole.Records, 0))
}

// TestSecondPCR: only events of applications extend it, the first record states its value, and
// both are explained by the one log, also after a restart.
func TestSecondPCR(t *testing.T) {
	m := newMachine()
	m.events = second
	m.tpm.extendSecond("boot loader")
	before := m.tpm.both()
	l := m.restart(t)
	if start := must(startOf(t, l).Registers()); !pcr.EqualRegisters(start, before) {
		t.Errorf("the log begins at %x, want %x", start, before)
	}
	appendAll(t, l, agentEvent(pcr.EventAgent), emittedEvent("1"))
	first := m.tpm.now()
	appendAll(t, l, emittedEvent("2"))
	if !pcr.Equal(m.tpm.now(), first) {
		t.Error("an event of an application extended the first PCR")
	}
	others := m.tpm.both()[1].Values
	appendAll(t, l, appEvent("a"))
	if !pcr.Equal(m.tpm.both()[1].Values, others) {
		t.Error("a measurement extended the PCR of events")
	}
	for range 2 {
		v := l.View()
		if got, want := apps(t, v, m.tpm.now()), []string{"log-start", "agent-start", "said 1", "said 2", "a"}; !slices.Equal(got, want) {
			t.Errorf("log is %v, want %v", got, want)
		}
		if !pcr.EqualRegisters(v.Registers, m.tpm.both()) || hold(l) != nil || v.State.Pending != "" {
			t.Errorf("%+v, hold: %v", v.State, hold(l))
		}
		l = m.restart(t)
	}
}

// TestOrderIsInTimes: with a clock that stands still, a record has a later time than the one
// before it if that is in another PCR. So no other order of the two fits the values.
func TestOrderIsInTimes(t *testing.T) {
	m := newMachine()
	c := m.config()
	c.Now, c.Events = func() uint64 { return 5 }, second
	l := must(ledger.Open(background, c))
	appendAll(t, l, agentEvent(pcr.EventAgent), emittedEvent("1"), emittedEvent("2"), appEvent("a"), appEvent("b"), emittedEvent("3"))
	records := recorded(t, l.View())
	var times []uint64
	for _, r := range records {
		times = append(times, must(r.Event()).Time)
	}
	if want := []uint64{5, 5, 6, 6, 7, 7, 8}; !slices.Equal(times, want) {
		t.Errorf("times %v, want %v", times, want)
	}
	for i := range records[1:] {
		if records[i].PCR == records[i+1].PCR {
			continue
		}
		p, _, err := pcr.NewWholeReplayer(records)
		swapped := slices.Clone(records)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		swapped[i].Number, swapped[i+1].Number = uint64(i), uint64(i+1)
		for _, r := range swapped {
			if err == nil {
				err = p.Next(r)
			}
		}
		if err == nil {
			t.Errorf("records %d and %d can change places", i, i+1)
		}
	}
}

// TestOtherProgramExtendsSecond: what another program extends into the PCR of events is found, and
// the reason names that PCR. Case 20.
func TestOtherProgramExtendsSecond(t *testing.T) {
	for name, use := range map[string]func(*machine, *ledger.Ledger) error{
		"hold": func(_ *machine, l *ledger.Ledger) error { return hold(l) },
		"event": func(_ *machine, l *ledger.Ledger) error {
			_, err := l.Append(background, emittedEvent("3"))
			return err
		},
		"measurement": func(_ *machine, l *ledger.Ledger) error { _, err := l.Append(background, appEvent("b")); return err },
		"quote that fails": func(_ *machine, l *ledger.Ledger) error {
			return l.Quote(background, func(ledger.View) (bool, error) { return false, nil })
		},
		"restart": func(m *machine, _ *ledger.Ledger) error { return hold(must(m.open())) },
	} {
		m, l := twoPCRs(t)
		m.tpm.extendSecond("another program")
		m.log.Kill()
		err := use(m, l)
		if !errors.Is(err, ledger.ErrDesynchronised) || name != "restart" && !strings.Contains(err.Error(), "PCR 12 does not contain") {
			t.Errorf("%s: %v", name, err)
		}
		if s := m.restart(t).State(); s.Synchronised {
			t.Errorf("%s: the next start finds nothing", name)
		}
	}
}

// TestConfigurationOfSecond: only a boot changes which PCR has events. Until then the log goes on
// as it began, says so, and both PCRs stay explained.
func TestConfigurationOfSecond(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to uint32
		says     string
	}{
		{"on", 0, second, "events of apps in PCR 14, with all others; the configuration asks for them in PCR 12"},
		{"off", second, 0, "events of apps in PCR 12; the configuration asks for them in PCR 14, with all others"},
		{"another", second, 9, "events of apps in PCR 12; the configuration asks for them in PCR 9"},
	} {
		m := newMachine()
		m.events = c.from
		appendAll(t, m.restart(t), agentEvent(pcr.EventAgent), emittedEvent("1"))
		m.events = c.to
		l := m.restart(t)
		s := l.State()
		if !s.Synchronised || !strings.Contains(s.Pending, c.says) || !strings.HasSuffix(s.Pending, "with the next boot") {
			t.Errorf("%s: %+v", c.name, s)
		}
		appendAll(t, l, agentEvent(pcr.EventAgent), emittedEvent("2"), appEvent("a"))
		if got := apps(t, l.View(), m.tpm.now()); len(got) != 6 {
			t.Errorf("%s: %v", c.name, got)
		}
		if c.from != 0 && !pcr.EqualRegisters(l.View().Registers, m.tpm.both()) {
			t.Errorf("%s: the log does not explain both PCRs", c.name)
		}
		m.events = c.from
		if s := m.restart(t).State(); s.Pending != "" || !s.Synchronised {
			t.Errorf("%s, and set back: %+v", c.name, s)
		}
		if m.events = c.to; c.to == 9 {
			continue // the TPM here has no such PCR
		}
		m.reboot()
		l = m.restart(t)
		if s := l.State(); s.Pending != "" || !s.Synchronised || len(l.View().Registers) != 1+min(1, int(c.to)) {
			t.Errorf("%s, after a boot: %+v", c.name, s)
		}
	}
}

// TestBootWithKeptLogOfTwo: a log on a disk that is of an earlier boot does not say which PCRs the
// new one has.
func TestBootWithKeptLogOfTwo(t *testing.T) {
	for _, events := range [][2]uint32{{0, second}, {second, 0}, {second, second}} {
		m := newMachine()
		m.disk, m.events = true, events[0]
		appendAll(t, m.restart(t), agentEvent(pcr.EventAgent), emittedEvent("1"))
		m.tpm.reset()
		m.kernel, m.events = "kernel-2", events[1]
		l := m.restart(t)
		if s := l.State(); !s.Synchronised || s.Pending != "" || len(l.View().Registers) != 1+min(1, int(events[1])) {
			t.Errorf("from %d to %d: %+v", events[0], events[1], s)
		}
		appendAll(t, l, agentEvent(pcr.EventAgent), emittedEvent("2"))
		apps(t, l.View(), m.tpm.now())
	}
}

// TestUnusableSecond: a PCR that cannot have events begins nothing.
func TestUnusableSecond(t *testing.T) {
	for i := range uint32(30) {
		m := newMachine()
		m.events = i
		_, err := m.open()
		if usable := i == 0 || i == second; (err == nil) != usable {
			t.Errorf("PCR %d: %v", i, err)
		}
	}
}

// TestLogOfLaterAgent: a member of the first record that this agent does not know, as an agent
// without a second PCR finds it, makes it refuse the log and all that it would claim from it.
func TestLogOfLaterAgent(t *testing.T) {
	m, _ := twoPCRs(t)
	m.log.Kill()
	b := m.log.Get(ledger.LogFile)
	m.log.Set(ledger.LogFile, bytes.Replace(b, []byte(`"events":{`), []byte(`"evenss":{`), 1))
	l := m.restart(t)
	if s := l.State(); s.Synchronised || !strings.Contains(s.Reason, "evenss") {
		t.Errorf("%+v", s)
	}
	if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
		t.Error(err)
	}
}
