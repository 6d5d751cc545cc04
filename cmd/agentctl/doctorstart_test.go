// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestDoctorStartValue: the doctor names a value that verifiers know, and for another one
// says which log of the machine leads to it, and what to do (case 102).
func TestDoctorStartValue(t *testing.T) {
	dir := t.TempDir()
	firmwareDigest := bytes.Repeat([]byte{7}, 32)
	word := func(s string) []byte { return pcr.SHA256.Sum([]byte(s)) }
	record := func(index int, digest []byte) string {
		return fmt.Sprintf("\x1e{\"pcr\":%d,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":%q}]}\n", index, hex.EncodeToString(digest))
	}
	firmware, systemd := filepath.Join(dir, "firmware"), filepath.Join(dir, "systemd")
	for file, b := range map[string][]byte{
		firmware:                     evidencetest.FirmwareLog(evidencetest.FirmwareEvent{PCR: 9, Digest: firmwareDigest}),
		systemd:                      []byte(record(9, word("one")) + record(12, word("two"))),
		filepath.Join(dir, "broken"): []byte("no log"),
	} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	zero := make([]byte, 32)
	byFirmware := pcr.SHA256.Sum(zero, firmwareDigest)
	for _, c := range []struct {
		name              string
		index             uint32
		value             []byte
		firmware, systemd string
		ok, note          bool
		says, todo        string
	}{
		{"zero", 13, zero, firmware, systemd, true, false, "PCR 13 (sha256) had the value zero", ""},
		{"a separator", 13, pcr.SHA256.Sum(zero, word("os-separator")), "", "", true, false, "had the value after one os-separator of systemd", ""},
		{"by the firmware", 9, byFirmware, firmware, "", true, true, "the firmware's log leads to it", "bank = \"sha256\""},
		{"by firmware and systemd", 9, pcr.SHA256.Sum(byFirmware, word("one")), firmware, systemd, true, true, "the logs of firmware and systemd lead to it", "[[start_value]]"},
		{"by systemd", 12, pcr.SHA256.Sum(zero, word("two")), "", systemd, true, true, "lead to it", "[[start_value]]"},
		{"by nothing", 13, byFirmware, firmware, systemd, false, false, "no log of the machine leads to it", "find what extended the PCR"},
		{"logs that are absent", 9, byFirmware, filepath.Join(dir, "none"), filepath.Join(dir, "none"), false, false, "no log of the machine leads to it", "measurement.pcr"},
		{"logs that are broken", 9, byFirmware, filepath.Join(dir, "broken"), filepath.Join(dir, "broken"), false, false, "broken was not read: systemd's log, event 0", "measurement.pcr"},
		{"a folder for a log", 9, byFirmware, dir, dir, false, false, "was not read", "measurement.pcr"},
	} {
		d := new(doctor)
		start := &pcr.StartEvent{PCR: c.index, Values: pcr.StartValues{{Algorithm: "sha1", Value: bytes.Repeat([]byte{1}, 20)}, {Algorithm: "sha256", Value: c.value}}}
		d.judgeStart(start, readBootLogs(c.firmware, c.systemd))
		if len(d.symptoms) != 1 {
			t.Fatalf("%s: %+v", c.name, d.symptoms)
		}
		s := d.symptoms[0]
		if (s.Level != levelBad) != c.ok || (s.Level == levelNote) != c.note || !strings.Contains(s.Says, c.says) || !strings.Contains(s.Todo, c.todo) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

// TestEventsStart: the start value of a second PCR is judged as well, with the key that names it.
func TestEventsStart(t *testing.T) {
	start := &pcr.StartEvent{
		PCR: 13, Values: pcr.StartValues{{Algorithm: "sha256", Value: make([]byte, 32)}},
		Events: &pcr.EventsStart{PCR: 14, Values: pcr.StartValues{{Algorithm: "sha256", Value: bytes.Repeat([]byte{1}, 32)}}},
	}
	d := new(doctor)
	d.judgeStart(start, bootLogs{})
	if len(d.symptoms) != 2 || d.symptoms[0].Level == levelBad {
		t.Fatalf("%+v", d.symptoms)
	}
	if s := d.symptoms[1]; s.Level != levelBad || !strings.Contains(s.Says, "PCR 14 (sha256) had the value 0101") || !strings.Contains(s.Todo, "measurement.events_pcr") {
		t.Errorf("%+v", s)
	}
	start.Events.PCR = 13
	d = new(doctor)
	d.judgeStart(start, bootLogs{})
	if len(d.symptoms) != 1 || d.symptoms[0].Level != levelBad {
		t.Errorf("%+v", d.symptoms)
	}
}

// TestSystemdLogIsLocked: while systemd writes its log, the doctor neither reads nor waits.
func TestSystemdLogIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if b := readBootLogs("", path); len(b.unread) != 1 || !strings.Contains(b.unread[0], "lock") {
		t.Errorf("%+v", b)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_UN); err != nil {
		t.Fatal(err)
	}
	if b := readBootLogs("", path); len(b.unread) != 0 {
		t.Errorf("%+v", b)
	}
}

// TestStartText: the log is printed with the names of start values.
func TestStartText(t *testing.T) {
	separated := pcr.SHA256.Sum(make([]byte, 32), pcr.SHA256.Sum([]byte("os-separator")))
	for _, c := range []struct {
		value pcr.StartValue
		want  string
	}{
		{pcr.StartValue{Algorithm: "sha256", Value: make([]byte, 32)}, "zero"},
		{pcr.StartValue{Algorithm: "sha256", Value: separated}, hex.EncodeToString(separated) + ", the value after one os-separator of systemd"},
		{pcr.StartValue{Algorithm: "sha256", Value: bytes.Repeat([]byte{1}, 32)}, strings.Repeat("01", 32)},
		{pcr.StartValue{Algorithm: "md5", Value: []byte{1, 2}}, "0102"},
	} {
		if got := startText(13, c.value); got != c.want {
			t.Errorf("%+v: %q, want %q", c.value, got, c.want)
		}
	}
}
