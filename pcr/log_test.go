// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// A record put together by hand from the tables of docs/measurements.md, with digests
// from sha256sum and sha384sum over the content field.
func TestRecordByHand(t *testing.T) {
	const content = "ad" + "0000002c" + "7b2274797065223a22676170222c2274696d65223a372c22676170223a7b22726561736f6e223a2278227d7d"
	want, err := hex.DecodeString("" +
		"00" + "00000008" + "0102030405060708" + // recnum
		"01" + "00000001" + "0e" + // pcr
		"03" + "0000005a" + // digests
		"0b" + "00000020" + "09ca784ab7b5edcf307d9a0109cc997a5ff1df45f4a3d3aad57f628e4ff343b8" +
		"0c" + "00000030" + "6823b1d740a303a5904f92feb78a0b28d01fcd3aa32942fe5092d290fcbec90a73614c75d93906d74a11ace77d926351" +
		content)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcr.NewRecord(0x0102030405060708, 14, []pcr.Algorithm{pcr.SHA256, pcr.SHA384},
		&pcr.Event{Type: pcr.EventGap, Time: 7, Gap: &pcr.GapEvent{Reason: "x"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Encode(); !bytes.Equal(got, want) {
		t.Errorf("record\n%x, want\n%x", got, want)
	}
	back, err := pcr.DecodeLog(want, 0x0102030405060708)
	if err != nil || len(back) != 1 || !pcr.Equal(back[0].Digests, r.Digests) || back[0].PCR != 14 || !bytes.Equal(back[0].Content, r.Content) {
		t.Errorf("decoded %+v, %v", back, err)
	}
}

func encode(records []pcr.Record) []byte {
	var b []byte
	for _, r := range records {
		b = append(b, r.Encode()...)
	}
	return b
}

// check is what a verifier does with the bytes of a whole log.
func check(b []byte, banks []pcr.Algorithm) ([]pcr.Digest, error) {
	records, err := pcr.DecodeLog(b, 0)
	if err != nil {
		return nil, err
	}
	start, err := pcr.StartOf(records)
	if err != nil {
		return nil, err
	}
	values, err := start.Digests()
	if err != nil {
		return nil, err
	}
	return pcr.Replay(records, banks, values)
}

// Cases 28, 29 and 30, and 22: every tampering with a log is refused, or gives other
// values, and the error names the record.
func TestTamperedLog(t *testing.T) {
	good, banks := plainLog()
	final, err := check(encode(good), banks)
	if err != nil {
		t.Fatal(err)
	}
	stopped, full := len(good)-2, len(good)-1 // the records of these events
	rerecord := func(r pcr.Record, banks []pcr.Algorithm, change func(*pcr.Event)) pcr.Record {
		e, err := r.Event()
		if err != nil {
			t.Fatal(err)
		}
		change(e)
		out, err := pcr.NewRecord(r.Number, r.PCR, banks, e)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for _, tc := range []struct {
		name   string
		change func(r []pcr.Record) []pcr.Record
		code   pcr.LogCode // empty: it replays, to other values
		index  uint64
	}{
		{"case 28: digest flipped", func(r []pcr.Record) []pcr.Record { r[2].Digests[1].Value[5] ^= 1; return r }, pcr.LogDigest, 2},
		{"case 28: dropped", func(r []pcr.Record) []pcr.Record { return slices.Delete(r, 3, 4) }, pcr.LogNumber, 3},
		{"case 28: dropped and renumbered", func(r []pcr.Record) []pcr.Record {
			r = slices.Delete(r, 3, 5)
			r[3].Number = 3
			return r[:3]
		}, "", 0},
		{"case 28: dropped before an agent event", func(r []pcr.Record) []pcr.Record {
			r = slices.Delete(r, 3, 4)
			for i := range r {
				r[i].Number = uint64(i)
			}
			return r
		}, pcr.LogPrevious, 4},
		{"case 28: first dropped", func(r []pcr.Record) []pcr.Record { return r[1:] }, pcr.LogNumber, 0},
		{"case 28: swapped", func(r []pcr.Record) []pcr.Record { r[3], r[4] = r[4], r[3]; return r }, pcr.LogNumber, 3},
		{"case 28: swapped and renumbered", func(r []pcr.Record) []pcr.Record {
			r[3], r[4] = r[4], r[3]
			r[3].Number, r[4].Number = 3, 4
			return r[:5]
		}, "", 0},
		{"case 28: duplicated", func(r []pcr.Record) []pcr.Record { return slices.Insert(r, 3, r[3]) }, pcr.LogNumber, 4},
		{"case 28: inserted", func(r []pcr.Record) []pcr.Record {
			r = slices.Insert(r, 3, rerecord(r[4], banks, func(e *pcr.Event) { e.Gap.Reason = "not so" }))
			for i := range r {
				r[i].Number = uint64(i)
			}
			return r
		}, pcr.LogPrevious, 6},
		{"case 29: content edited, digest kept", func(r []pcr.Record) []pcr.Record {
			r[2].Content = bytes.Replace(r[2].Content, []byte("billing.service"), []byte("bi11ing.service"), 1)
			return r
		}, pcr.LogDigest, 2},
		{"case 29: content and digest edited", func(r []pcr.Record) []pcr.Record {
			r[3] = rerecord(r[3], banks, func(e *pcr.Event) { e.Unmeasured.Reason = "" + "harmless" })
			return r[:4]
		}, "", 0},
		{"case 30: cut after a record", func(r []pcr.Record) []pcr.Record { return r[:4] }, "", 0},
		{"case 30: cut to nothing", func(r []pcr.Record) []pcr.Record { return nil }, pcr.LogOrder, 0},
		{"case 22: bank missing in one record", func(r []pcr.Record) []pcr.Record { r[3].Digests = r[3].Digests[:1]; return r }, pcr.LogBanks, 3},
		{"case 22: bank not active", func(r []pcr.Record) []pcr.Record {
			r[3] = rerecord(r[3], []pcr.Algorithm{pcr.SHA256, pcr.SHA512}, func(*pcr.Event) {})
			return r
		}, pcr.LogBanks, 3},
		{"case 22: one bank too many", func(r []pcr.Record) []pcr.Record {
			r[3] = rerecord(r[3], []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384}, func(*pcr.Event) {})
			return r
		}, pcr.LogBanks, 3},
		{"another PCR", func(r []pcr.Record) []pcr.Record { r[4].PCR = 15; return r }, pcr.LogPCR, 4},
		{"another PCR throughout", func(r []pcr.Record) []pcr.Record {
			for i := range r {
				r[i].PCR = 15
			}
			return r
		}, pcr.LogPCR, 0},
		{"start in the middle", func(r []pcr.Record) []pcr.Record {
			r[3].Content = r[0].Content
			r[3].Digests = pcr.Digests(banks, r[3].Content)
			return r
		}, pcr.LogOrder, 3},
		{"first is not a start", func(r []pcr.Record) []pcr.Record {
			r[0].Content = r[4].Content
			r[0].Digests = pcr.Digests(banks, r[0].Content)
			return r
		}, pcr.LogOrder, 0},
		{"something after full", func(r []pcr.Record) []pcr.Record {
			r[4], r[full] = r[full], r[4]
			r[4].Number, r[full].Number = 4, uint64(full)
			r[5] = rerecord(r[5], banks, func(e *pcr.Event) { e.Time = pcr.MaxTime })
			return r
		}, pcr.LogOrder, 5},
		{"a record older than the one before it", func(r []pcr.Record) []pcr.Record {
			r[3] = rerecord(r[3], banks, func(e *pcr.Event) { e.Time = 5306 })
			return r
		}, pcr.LogTime, 3},
		{"the last record older than the one before it", func(r []pcr.Record) []pcr.Record {
			r[full] = rerecord(r[full], banks, func(e *pcr.Event) { e.Time = 90209 })
			return r
		}, pcr.LogTime, uint64(full)},
		{"an app after the stop", func(r []pcr.Record) []pcr.Record {
			r[full] = rerecord(r[full], banks, func(e *pcr.Event) {
				e.Type, e.Gap = pcr.EventGap, &pcr.GapEvent{Reason: "x"}
			})
			return r
		}, pcr.LogOrder, uint64(full)},
		{"a reload after the stop", func(r []pcr.Record) []pcr.Record {
			reload, _ := r[5].Event()
			r[full] = rerecord(r[full], banks, func(e *pcr.Event) { e.Type, e.Agent = pcr.EventReload, reload.Agent })
			return r
		}, pcr.LogOrder, uint64(full)},
		{"a stop after the stop", func(r []pcr.Record) []pcr.Record {
			stop, _ := r[stopped].Event()
			r[full] = rerecord(r[full], banks, func(e *pcr.Event) { e.Type, e.Stop = pcr.EventStop, stop.Stop })
			return r
		}, pcr.LogOrder, uint64(full)},
		{"a stop of another agent", func(r []pcr.Record) []pcr.Record {
			r[stopped] = rerecord(r[stopped], banks, func(e *pcr.Event) { e.Stop = &pcr.StopEvent{AgentKey: make([]byte, 32)} })
			return r
		}, pcr.LogOrder, uint64(stopped)},
		{"a stop without a start", func(r []pcr.Record) []pcr.Record {
			stop, _ := r[stopped].Event()
			r[1] = rerecord(r[1], banks, func(e *pcr.Event) { e.Type, e.Agent, e.Stop = pcr.EventStop, nil, stop.Stop })
			return r
		}, pcr.LogOrder, 1},
		{"no digests", func(r []pcr.Record) []pcr.Record { r[3].Digests = nil; return r }, pcr.LogMalformed, 3},
		{"banks in another order", func(r []pcr.Record) []pcr.Record { slices.Reverse(r[3].Digests); return r }, pcr.LogMalformed, 3},
		{"bank twice", func(r []pcr.Record) []pcr.Record { r[3].Digests[1] = r[3].Digests[0]; return r }, pcr.LogMalformed, 3},
		{"PCR 16", func(r []pcr.Record) []pcr.Record { r[3].PCR = 16; return r }, pcr.LogMalformed, 3},
		{"PCR 24", func(r []pcr.Record) []pcr.Record { r[3].PCR = 24; return r }, pcr.LogMalformed, 3},
		{"another content type", func(r []pcr.Record) []pcr.Record { r[3].Content[0] = 5; return r }, pcr.LogMalformed, 3},
		{"an unknown event", func(r []pcr.Record) []pcr.Record {
			r[3].Content = content(`{"type":"gap2","time":1,"gap":{"reason":"x"}}`)
			r[3].Digests = pcr.Digests(banks, r[3].Content)
			return r
		}, pcr.LogContent, 3},
		{"an event in another spelling", func(r []pcr.Record) []pcr.Record {
			r[3].Content = content(`{"type":"gap","time":1, "gap":{"reason":"x"}}`)
			r[3].Digests = pcr.Digests(banks, r[3].Content)
			return r
		}, pcr.LogContent, 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			records, _ := plainLog()
			got, err := check(encode(tc.change(records)), banks)
			var le *pcr.LogError
			switch {
			case tc.code == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.code == "" && pcr.Equal(got, final):
				t.Error("gives the same PCR")
			case tc.code == "":
			case !errors.As(err, &le):
				t.Errorf("got %v, want a log error", err)
			case le.Code != tc.code || le.Index != tc.index:
				t.Errorf("got %s at %d (%v), want %s at %d", le.Code, le.Index, le, tc.code, tc.index)
			case !strings.Contains(le.Error(), "log record "):
				t.Errorf("the error does not name the record: %v", le)
			}
		})
	}
}

func content(json string) []byte {
	return append([]byte{pcr.ContentType, 0, 0, 0, byte(len(json))}, json...)
}

// Cases 28 and 30 for every byte: no log with one bit flipped, or cut anywhere, explains
// the PCR, and none is decoded that would not be encoded the same.
func TestEveryByteCounts(t *testing.T) {
	records, banks := plainLog()
	b := encode(records)
	final, err := check(b, banks)
	if err != nil {
		t.Fatal(err)
	}
	ends := map[int]bool{}
	for n, i := 0, 0; i < len(records); i++ {
		n += len(records[i].Encode())
		ends[n] = true
	}
	for i := range b {
		flipped := bytes.Clone(b)
		flipped[i] ^= 1 << (i % 8)
		if got, err := check(flipped, banks); err == nil && pcr.Equal(got, final) {
			t.Errorf("byte %d flipped: still explains the PCR", i)
		}
		_, err := pcr.DecodeLog(b[:i], 0)
		var le *pcr.LogError
		if cut := i > 0 && !ends[i]; cut && (!errors.As(err, &le) || le.Code != pcr.LogTruncated) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
		if got, err := check(b[:i], banks); err == nil && pcr.Equal(got, final) {
			t.Errorf("cut to %d bytes: still explains the PCR", i)
		}
	}
}

// Case 31: what decoding allocates depends on the bytes that are there, not on those that
// are promised.
func TestDecodingIsBounded(t *testing.T) {
	var le *pcr.LogError
	if _, err := pcr.DecodeLog(make([]byte, evidence.MaxLog+1), 0); !errors.As(err, &le) || le.Code != pcr.LogTooLarge {
		t.Errorf("a log beyond the cap: %v", err)
	}
	bomb := []byte{0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 14, 3, 0xff, 0xff, 0xff, 0xff}
	for _, b := range [][]byte{
		bomb,
		{0, 0xff, 0xff, 0xff, 0xff},
		append(bytes.Clone(bomb[:19]), 3, 0, 0, 0, 37, 11, 0xff, 0xff, 0xff, 0xff),
	} {
		if n := allocated(func() { pcr.DecodeLog(b, 0) }); n > 64<<10 {
			t.Errorf("%x: %d bytes allocated", b, n)
		}
	}
	// As many records as fit: a million do not.
	small, err := pcr.NewRecord(0, 14, []pcr.Algorithm{pcr.SHA1}, &pcr.Event{Type: pcr.EventFull})
	if err != nil {
		t.Fatal(err)
	}
	one := small.Encode()
	var many []byte
	for n := uint64(0); len(many)+len(one) <= evidence.MaxLog; n++ {
		small.Number = n
		many = append(many, small.Encode()...)
	}
	var records []pcr.Record
	n := allocated(func() { records, err = pcr.DecodeLog(many, 0) })
	if err != nil || len(records) > 1_000_000 {
		t.Fatalf("%d records, %v", len(records), err)
	}
	t.Logf("%d bytes of log with %d records: %d bytes allocated", len(many), len(records), n)
	if n > 8*uint64(len(many)) {
		t.Errorf("%d bytes allocated for %d", n, len(many))
	}
}

// Fields whose length is more than their value can have would have a second spelling.
func TestFieldLengths(t *testing.T) {
	tlv := func(typ byte, value []byte) []byte {
		n := len(value)
		return append([]byte{typ, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, value...)
	}
	record := func(number, index, digest, content int) []byte {
		return slices.Concat(
			tlv(0, make([]byte, number)), tlv(1, make([]byte, index)),
			tlv(3, tlv(4, make([]byte, digest))), tlv(pcr.ContentType, make([]byte, content)))
	}
	for _, n := range [][4]int{{8, 1, 20, 1}, {8, 1, 20, pcr.MaxContent}} {
		if _, err := pcr.DecodeLog(record(n[0], n[1], n[2], n[3]), 0); err != nil {
			t.Errorf("%v: %v", n, err)
		}
	}
	for _, n := range [][4]int{
		{7, 1, 20, 1}, {9, 1, 20, 1}, {8, 0, 20, 1}, {8, 2, 20, 1}, {8, 4, 20, 1},
		{8, 1, 19, 1}, {8, 1, 21, 1}, {8, 1, 20, 0}, {8, 1, 20, pcr.MaxContent + 1},
	} {
		var le *pcr.LogError
		if _, err := pcr.DecodeLog(record(n[0], n[1], n[2], n[3]), 0); !errors.As(err, &le) || le.Code != pcr.LogMalformed || le.Index != 0 {
			t.Errorf("%v: %v", n, err)
		}
	}
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestReplayStart(t *testing.T) {
	records, banks := plainLog()
	other := pcr.Zero(banks)
	other[0].Value[0] = 1
	var le *pcr.LogError
	if _, err := pcr.Replay(records, banks, other); !errors.As(err, &le) || le.Code != pcr.LogBanks || le.Index != 0 {
		t.Errorf("other start values than the log states: %v", err)
	}
	for name, start := range map[string][]pcr.Digest{
		"too few": other[:1], "too many": append(slices.Clone(other), other[1]), "other order": {other[1], other[0]},
	} {
		if _, err := pcr.Replay(records, banks, start); err == nil {
			t.Errorf("start values %s: accepted", name)
		}
	}
	if _, err := pcr.Replay(records, nil, nil); err == nil {
		t.Error("no banks: accepted")
	}
	// A part of a log replays from the values before it.
	whole, err := pcr.Replay(records, banks, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := pcr.Replay(records[:3], banks, nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := pcr.DecodeLog(encode(records[3:]), 3)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := pcr.Replay(part, banks, before); err != nil || !pcr.Equal(after, whole) {
		t.Errorf("a part of the log: %v", err)
	}
	if _, err := pcr.DecodeLog(encode(records[3:]), 2); err == nil {
		t.Error("a part of the log at another place: accepted")
	}
}

func FuzzDecodeLog(f *testing.F) {
	records, banks := plainLog()
	f.Add(encode(records))
	f.Add(encode(records[:2]))
	f.Add(records[6].Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := pcr.DecodeLog(b, 0)
		if err != nil {
			var le *pcr.LogError
			if !errors.As(err, &le) || le.Offset < 0 || le.Offset > len(b) {
				t.Fatalf("%v", err)
			}
			b = b[:le.Offset]
			if le.Code == pcr.LogTooLarge {
				return
			}
		}
		if !bytes.Equal(encode(records), b) {
			t.Fatal("decoded records do not encode to the same bytes")
		}
		if _, err := check(b, banks); err == nil {
			if _, err := pcr.EncodeCELJSON(records); err != nil {
				t.Fatalf("a good log cannot be exported: %v", err)
			}
		}
	})
}
