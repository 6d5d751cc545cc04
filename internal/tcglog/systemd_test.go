// SPDX-License-Identifier: Apache-2.0

package tcglog_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
)

// systemdRecord returns a record as systemd writes it: an event with digests in some banks.
func systemdRecord(index int, word string, banks ...pcr.Algorithm) string {
	var digests []string
	for _, bank := range banks {
		digests = append(digests, fmt.Sprintf(`{"hashAlg":%q,"digest":%q}`, bank, hex.EncodeToString(bank.Sum([]byte(word)))))
	}
	return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[%s],\"content_type\":\"systemd\",\"content\":{\"eventType\":\"phase\",\"string\":%q,\"bootId\":null,\"timestamp\":18446744073709551615}}\n",
		index, strings.Join(digests, ","), word)
}

// TestSystemdLog: what systemd extended continues the values of the firmware's log.
func TestSystemdLog(t *testing.T) {
	log := systemdRecord(11, "enter-initrd", pcr.SHA256) + "\x1e{\"content_type\":\"systemd\",\"nv_index\":7}\n" +
		systemdRecord(13, "os-separator", pcr.SHA256, pcr.SHA384) + systemdRecord(13, "more", pcr.SHA256)
	events, err := tcglog.ParseSystemd([]byte(log))
	if err != nil || len(events) != 3 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	extend := func(bank pcr.Algorithm, value []byte, words ...string) []byte {
		for _, w := range words {
			value = bank.Sum(value, bank.Sum([]byte(w)))
		}
		return value
	}
	firmware := pcr.Values{}
	to := bytes.Repeat([]byte{9}, 32)
	firmware.Set(pcr.SHA256, 13, to)
	zero := make([]byte, 32)
	for _, c := range []struct {
		replayed pcr.Values
		bank     pcr.Algorithm
		index    uint32
		want     []byte
	}{
		{nil, pcr.SHA256, 13, extend(pcr.SHA256, zero, "os-separator", "more")},
		{firmware, pcr.SHA256, 13, extend(pcr.SHA256, to, "os-separator", "more")},
		{firmware, pcr.SHA256, 11, extend(pcr.SHA256, zero, "enter-initrd")},
		{firmware, pcr.SHA256, 14, zero},
		{nil, pcr.SHA384, 13, nil}, // the last event lacks this bank
	} {
		if got := tcglog.Continue(c.replayed, events, c.bank, c.index); !bytes.Equal(got, c.want) {
			t.Errorf("PCR %d of bank %s: %x, want %x", c.index, c.bank, got, c.want)
		}
	}
}

func TestSystemdLogRefused(t *testing.T) {
	good := systemdRecord(13, "a", pcr.SHA256)
	for _, c := range []struct{ name, log, message string }{
		{"no separator", good[1:], "event 0 at byte 0: want a record separator"},
		{"cut off", good + good[:len(good)-1], fmt.Sprintf("event 1 at byte %d: want a record separator", len(good))},
		{"a separator alone", "\x1e", "want a record separator"},
		{"an empty record", "\x1e\n", "event 0"},
		{"two values", "\x1e{}{}\n", "event 0"},
		{"a member twice", "\x1e{\"pcr\":1,\"pcr\":2}\n", "pcr"},
		{"case 32 PCR 99", strings.Replace(good, "13", "99", 1), "PCR 99"},
		{"a negative PCR", strings.Replace(good, "13", "-1", 1), "event 0"},
		{"a short digest", strings.Replace(good, `"digest":"`, `"digest":"","x":"`, 1), `digest ""`},
		{"a bank twice", systemdRecord(13, "a", pcr.SHA256, pcr.SHA256), "two digests of bank sha256"},
		{"case 32 too many records", strings.Repeat("\x1e{}\n", 8193), "more than 8192"},
		{"a record too long", "\x1e{\"x\":\"" + strings.Repeat("x", 64<<10) + "\"}\n", "65536"},
		{"too long", strings.Repeat("x", tcglog.MaxSystemdLog+1), "at most"},
	} {
		_, err := tcglog.ParseSystemd([]byte(c.log))
		if err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.message)
		}
		var e *tcglog.Error
		if c.name != "too long" && (!errors.As(err, &e) || !strings.HasPrefix(err.Error(), "systemd's log, event ")) {
			t.Errorf("%s: %v does not say where", c.name, err)
		}
	}
	if events, err := tcglog.ParseSystemd(nil); err != nil || len(events) != 0 {
		t.Errorf("an empty log: %d events, %v", len(events), err)
	}
	if _, err := tcglog.ParseSystemd([]byte(strings.Replace(good, `"sha256"`, `"sm3_256"`, 1))); err != nil {
		t.Errorf("a bank that is not known: %v", err)
	}
}

func FuzzParseSystemd(f *testing.F) {
	f.Add([]byte(systemdRecord(13, "os-separator", pcr.SHA256, pcr.SHA384)))
	f.Add([]byte("\x1e{\"nv_index\":1}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		events, err := tcglog.ParseSystemd(b)
		if err != nil {
			return
		}
		for _, e := range events {
			if e.PCR >= pcr.Count || len(e.Digests) > 4 {
				t.Errorf("event %+v", e)
			}
			tcglog.Continue(nil, events, pcr.SHA256, e.PCR)
		}
	})
}
