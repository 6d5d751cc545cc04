// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// A replay that begins at the log's own word ends where one ends that was told the start.
func TestWholeReplayer(t *testing.T) {
	records, banks := plainLog()
	p, start, err := pcr.NewWholeReplayer(records)
	if err != nil {
		t.Fatal(err)
	}
	values, err := start.Digests()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := p.Next(r); err != nil {
			t.Fatal(err)
		}
		own, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Event(); got.Type != own.Type {
			t.Errorf("record %d: event %q, want %q", r.Number, got.Type, own.Type)
		}
	}
	want, err := pcr.Replay(records, banks, values)
	if err != nil {
		t.Fatal(err)
	}
	if !pcr.Equal(p.Values(), want) || p.Head() != pcr.Head(evidence.LogHead{}, records) {
		t.Errorf("values %x and head %v, want %x and %v", p.Values(), p.Head(), want, pcr.Head(evidence.LogHead{}, records))
	}
	if _, _, err := pcr.NewWholeReplayer(records[1:]); err == nil {
		t.Error("began a log at its second record")
	}
}

// The start values that a replay began with are not those of another first record.
func TestWholeReplayerReadsWhatItFollows(t *testing.T) {
	records, banks := plainLog()
	p, _, err := pcr.NewWholeReplayer(records)
	if err != nil {
		t.Fatal(err)
	}
	said := &pcr.StartEvent{PCR: records[0].PCR}
	for _, a := range banks {
		said.Values = append(said.Values, pcr.StartValue{Algorithm: a.String(), Value: bytes.Repeat([]byte{0x5a}, a.Size())})
	}
	other, err := pcr.NewRecord(0, records[0].PCR, banks, &pcr.Event{Type: pcr.EventStart, Start: said})
	if err != nil {
		t.Fatal(err)
	}
	var l *pcr.LogError
	if err := p.Next(other); !errors.As(err, &l) || l.Code != pcr.LogBanks {
		t.Errorf("followed a first record with other start values: %v, want %s", err, pcr.LogBanks)
	}
}
