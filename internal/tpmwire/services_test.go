// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// unknown is a service that no specification names.
var unknown = tpmwire.ServiceGUID([]byte("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"))

// TestServiceGUIDs: GUIDs are printed as specifications write them.
func TestServiceGUIDs(t *testing.T) {
	for g, want := range map[tpmwire.ServiceGUID]string{
		tpmwire.ServiceVTPM: "c476f1eb-0123-45a5-9641-b4e7dde5bfe3", tpmwire.ServiceUEFI: "a4453a59-9e1b-4787-a033-1986d6adbe55",
		unknown: "04030201-0605-0807-090a-0b0c0d0e0f10",
	} {
		if g.String() != want {
			t.Errorf("%s, want %s", g, want)
		}
	}
}

// TestServices: the manifest of all services has each, known or not, as it was put in.
func TestServices(t *testing.T) {
	vtpm := tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: rsaEK()}
	uefi := tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: []byte{0, 0, 0, 0, 2, 0, 0, 0}}
	other := tpmwire.Service{GUID: unknown, Data: bytes.Repeat([]byte{7}, 300)}
	empty := tpmwire.Service{GUID: unknown}
	for name, want := range map[string][]tpmwire.Service{
		"none": {}, "the vTPM": {vtpm}, "as COCONUT": {vtpm, uefi}, "an unknown one": {other, uefi, vtpm}, "an empty one": {empty},
		"an empty one first": {empty, vtpm}, "an empty one between": {vtpm, empty, uefi}, "an empty one last": {uefi, empty},
	} {
		b := evidencetest.Services(want...)
		got, err := tpmwire.ParseServices(b)
		if err != nil || !slices.EqualFunc(got, want, func(a, b tpmwire.Service) bool { return a.GUID == b.GUID && bytes.Equal(a.Data, b.Data) }) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
		if m, err := tpmwire.ParseManifest(b); !errors.Is(err, tpmwire.ErrServices) {
			t.Errorf("%s: is read as that of a vTPM: %+v, %v", name, m, err)
		}
		for i := range b {
			if got, err := tpmwire.ParseServices(b[:i]); err == nil {
				t.Errorf("%s: read from %d bytes of %d: %x", name, i, len(b), got)
			}
		}
	}
	// The manifests may be in another order than the table.
	b := evidencetest.Services(uefi, tpmwire.Service{GUID: unknown, Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}})
	u32 := binary.LittleEndian.PutUint32
	u32(b[24+16:], 80)
	u32(b[48+16:], 72)
	if got, err := tpmwire.ParseServices(b); err != nil || !bytes.Equal(got[0].Data, []byte{1, 2, 3, 4, 5, 6, 7, 8}) {
		t.Errorf("in another order: %x, %v", got, err)
	}
}

// TestServicesRefused: a manifest of all services has one form. Its size, its number of services and
// their places are chosen by the maker of the file.
func TestServicesRefused(t *testing.T) {
	const size, count, first, second = 16, 20, 24, 48 // offsets of the fields, and of two entries
	for name, c := range map[string]struct {
		change func(b []byte) []byte
		says   string
	}{
		"empty":                      {func([]byte) []byte { return nil }, "0 bytes"},
		"another GUID":               {set(0, 0), "begin with"},
		"too large":                  {func(b []byte) []byte { return append(b, make([]byte, tpmwire.MaxServices)...) }, "at most"},
		"a byte after it":            {func(b []byte) []byte { return append(b, 0) }, "it says that it has"},
		"cut short":                  {func(b []byte) []byte { return b[:len(b)-1] }, "it says that it has"},
		"size of zero":               {set(size, 0), "it says that it has"},
		"size of the largest number": {set(size, math.MaxUint32), "it says that it has"},
		"too many services":          {set(count, 65), "65 services"},
		"services without end":       {set(count, math.MaxUint32), "services, want at most"},
		"one service too many":       {set(count, 10), "entry of a service"},
		"one service too few":        {set(count, 1), "at offset 72, want 48"},
		"no services":                {set(count, 0), "follow the last"},
		"in the table":               {set(first+16, 71), "at offset 71"},
		"in the header":              {set(first+16, 0), "at offset 0"},
		"after the end":              {set(second+16, 93), "ends after the whole"},
		"an offset that wraps":       {set(second+16, math.MaxUint32-3), "ends after the whole"},
		"a size that wraps":          {set(second+20, math.MaxUint32), "ends after the whole"},
		"overlapping":                {set(second+16, 79), "overlaps another"},
		"one within the other":       {func(b []byte) []byte { return set(second+20, 4)(set(second+16, 76)(b)) }, "overlaps another"},
		"the same place":             {set(second+16, 72), "overlaps another"},
		"something between":          {func(b []byte) []byte { return set(second+20, 11)(set(second+16, 81)(b)) }, "something between"},
		"something after":            {set(second+20, 11), "1 bytes follow"},
		"an empty one far away":      {func(b []byte) []byte { return set(first+16, 92)(set(first+20, 0)(b)) }, "at offset 80, want 72"},
		"the same service twice":     {func(b []byte) []byte { copy(b[second:], b[first:first+16]); return b }, "is there twice"},
	} {
		b := evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: make([]byte, 8)}, tpmwire.Service{GUID: unknown, Data: make([]byte, 12)})
		if _, err := tpmwire.ParseServices(b); err != nil {
			t.Fatal(err)
		}
		if got, err := tpmwire.ParseServices(c.change(b)); err == nil || got != nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %x, %v, want %q", name, got, err, c.says)
		}
	}
}

// set returns what writes a number.
func set(at int, n uint32) func([]byte) []byte {
	return func(b []byte) []byte { binary.LittleEndian.PutUint32(b[at:], n); return b }
}

// TestUEFI: each flag of the service of UEFI variables is read, and what is not known is kept.
func TestUEFI(t *testing.T) {
	for flags, want := range map[uint32]tpmwire.UEFI{
		0: {}, 1: {Persistent: true}, 2: {SecureBoot: true}, 4: {Updatable: true}, 7: {true, true, true, 0},
		8: {Reserved: 8}, math.MaxUint32: {true, true, true, math.MaxUint32 &^ 7},
	} {
		b := binary.LittleEndian.AppendUint32(make([]byte, 4), flags)
		if got, err := tpmwire.ParseUEFI(b); err != nil || *got != want {
			t.Errorf("%x: %+v, %v", flags, got, err)
		}
		for _, bad := range [][]byte{nil, b[:7], append(b, 0), append([]byte{1}, b[1:]...)} {
			if got, err := tpmwire.ParseUEFI(bad); err == nil {
				t.Errorf("%x: %+v", bad, got)
			}
		}
	}
}

func FuzzServices(f *testing.F) {
	f.Add(evidencetest.Services())
	f.Add(evidencetest.Services(tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: rsaEK()}, tpmwire.Service{GUID: tpmwire.ServiceUEFI, Data: make([]byte, 8)}))
	f.Add(evidencetest.Services(tpmwire.Service{GUID: unknown}, tpmwire.Service{GUID: tpmwire.ServiceVTPM, Data: evidencetest.EK('e')}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := tpmwire.ParseServices(b)
		if err != nil {
			return
		}
		total := 24
		for i, s := range all {
			total += 24 + len(s.Data)
			if slices.ContainsFunc(all[:i], func(o tpmwire.Service) bool { return o.GUID == s.GUID }) {
				t.Errorf("%x has %s twice", b, s.GUID)
			}
			if cap(s.Data) != len(s.Data) {
				t.Errorf("%x: who appends to the manifest of %s overwrites what follows", b, s.GUID)
			}
			_, _ = tpmwire.ParseUEFI(s.Data)
			_, _ = tpmwire.ParseManifest(s.Data)
		}
		if total != len(b) {
			t.Errorf("%x: %d bytes of %d belong to a service or the table", b, total, len(b))
		}
		again, err := tpmwire.ParseServices(evidencetest.Services(all...))
		if err != nil || len(again) != len(all) {
			t.Errorf("%x is read as %x, and that again as %x, %v", b, all, again, err)
		}
	})
}
