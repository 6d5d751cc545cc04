// SPDX-License-Identifier: Apache-2.0

package tcglog_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	attestpb "github.com/google/go-tpm-tools/proto/attest"
	tpmpb "github.com/google/go-tpm-tools/proto/tpm"
	"google.golang.org/protobuf/proto"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
)

const recordings = "google_go-tpm-tools/"

// TestRecordings: logs of real machines are read whole, and begin every PCR of the
// firmware.
func TestRecordings(t *testing.T) {
	for _, c := range []struct {
		file   string
		events int
	}{
		{recordings + "cos-101-amd-sev.bin", 48}, {recordings + "cos-93-amd-sev.bin", 45}, {recordings + "eventlogwithsp800155.bin", 53},
		{recordings + "rhel8-uefi.bin", 82}, {recordings + "ubuntu-2404-amd-sevsnp.bin", 116}, {"keylime_keylime/mb_log.b64", 0},
	} {
		t.Run(c.file, func(t *testing.T) {
			l := recorded(t, c.file)
			if c.events != 0 && len(l.Events) != c.events {
				t.Errorf("%d events, want %d", len(l.Events), c.events)
			}
			values := l.Replay()
			for i := range uint32(8) {
				if values[pcr.SHA256][i] == nil {
					t.Errorf("PCR %d is not begun", i)
				}
			}
		})
	}
}

// TestRecordedQuotes: replaying the log of a recorded attestation gives the PCRs that
// were quoted with it.
func TestRecordedQuotes(t *testing.T) {
	for _, file := range []string{"gce-cos-85-no-nonce.pb", "gce-cos-85-nonce9009.pb"} {
		t.Run(file, func(t *testing.T) {
			a := new(attestpb.Attestation)
			if err := proto.Unmarshal(vectors.Read(t, recordings+file), a); err != nil {
				t.Fatal(err)
			}
			l, err := tcglog.Parse(a.GetEventLog())
			if err != nil {
				t.Fatal(err)
			}
			values, compared := l.Replay(), 0
			for _, q := range a.GetQuotes() {
				bank := pcr.Algorithm(q.GetPcrs().GetHash())
				if q.GetPcrs().GetHash() == tpmpb.HashAlgo_HASH_INVALID {
					t.Fatal("no bank")
				}
				for i, want := range q.GetPcrs().GetPcrs() {
					got, ok := values[bank][i]
					if !ok {
						continue
					}
					compared++
					if !bytes.Equal(got, want) {
						t.Errorf("PCR %d of bank %s: %x, quoted is %x", i, bank, got, want)
					}
				}
			}
			if compared < 16 {
				t.Errorf("%d values compared", compared)
			}
		})
	}
}

// builder writes logs by hand.
type builder struct{ bytes.Buffer }

func (b *builder) le(values ...any) *builder {
	for _, v := range values {
		if data, ok := v.([]byte); ok {
			b.Write(data)
			continue
		}
		if err := binary.Write(b, binary.LittleEndian, v); err != nil {
			panic(err)
		}
	}
	return b
}

// begun is a log with its first event, of these algorithms and sizes.
func begun(algorithms ...uint16) *builder {
	var spec builder
	spec.le([]byte("Spec ID Event03\x00"), uint32(0), []byte{0, 2, 0, 2}, uint32(len(algorithms)/2), algorithms, byte(0))
	b := new(builder)
	return b.le(uint32(0), uint32(3), make([]byte, 20), uint32(spec.Len()), spec.Bytes())
}

func (b *builder) event(index, typ uint32, data string, digests ...[]byte) *builder {
	b.le(index, typ, uint32(len(digests)))
	for _, d := range digests {
		id := map[int]uint16{20: 4, 32: 0x0b, 48: 0x0c}[len(d)]
		b.le(id, d)
	}
	return b.le(uint32(len(data)), []byte(data))
}

func digest(n int, letter byte) []byte { return bytes.Repeat([]byte{letter}, n) }

// sha256Log is of one bank.
func sha256Log() *builder { return begun(0x0b, 32) }

func TestReplay(t *testing.T) {
	one, two := digest(32, 1), digest(32, 2)
	extend := func(value, d []byte) []byte { return pcr.SHA256.Sum(value, d) }
	zero := make([]byte, 32)
	locality := func(n byte) []byte { b := bytes.Clone(zero); b[31] = n; return b }
	for _, c := range []struct {
		name string
		log  *builder
		pcr  uint32
		want []byte
	}{
		{"two events", sha256Log().event(4, 1, "a", one).event(4, 1, "", two), 4, extend(extend(zero, one), two)},
		{"another PCR between", sha256Log().event(4, 1, "a", one).event(5, 1, "", two), 4, extend(zero, one)},
		{"no action", sha256Log().event(4, 1, "a", one).event(4, 3, "x", two), 4, extend(zero, one)},
		{"no action alone", sha256Log().event(4, 3, "x", two), 4, nil},
		{"separator", sha256Log().event(7, 4, "\x00\x00\x00\x00", two), 7, extend(zero, two)},
		{"startup at locality 3", sha256Log().event(0, 3, "StartupLocality\x00\x03", zero).event(0, 1, "", one), 0, extend(locality(3), one)},
		{"startup elsewhere counts for PCR 0 alone", sha256Log().event(0, 3, "StartupLocality\x00\x03", zero).event(1, 1, "", one), 1, extend(zero, one)},
		{"a PCR that begins with ones", sha256Log().event(17, 1, "", one), 17, extend(digest(32, 0xff), one)},
		{"an algorithm that Go cannot hash", begun(0x0b, 32, 0x12, 32).le(uint32(4), uint32(1), uint32(2), uint16(0x12), two, uint16(0x0b), one, uint32(0)), 4, extend(zero, one)},
	} {
		l, err := tcglog.Parse(c.log.Bytes())
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := l.Replay()[pcr.SHA256][c.pcr]; !bytes.Equal(got, c.want) {
			t.Errorf("%s: %x, want %x", c.name, got, c.want)
		}
	}
}

// TestRefused: case 32, and everything else that a log must not be.
func TestRefused(t *testing.T) {
	zero := make([]byte, 32)
	good := sha256Log().event(0, 1, "data", zero)
	many := sha256Log()
	for range 8193 {
		many.event(0, 1, "", zero)
	}
	for _, c := range []struct {
		name    string
		log     []byte
		message string
	}{
		{"nothing", nil, "event 0 at byte 0"},
		{"of TPM 1.2", new(builder).le(uint32(0), uint32(8), make([]byte, 20), uint32(0)).Bytes(), "TPM 1.2"},
		{"case 32 PCR 99", sha256Log().event(99, 1, "", zero).Bytes(), "PCR 99"},
		{"PCR 24", sha256Log().event(24, 1, "", zero).Bytes(), "PCR 24"},
		{"case 32 a billion digests", sha256Log().le(uint32(0), uint32(1), uint32(1<<30)).Bytes(), "digests of 1073741824"},
		{"case 32 an event of 4 GiB", sha256Log().le(uint32(0), uint32(1), uint32(1), uint16(0x0b), zero, uint32(1<<32-1)).Bytes(), "4294967295 bytes wanted"},
		{"case 32 a first event of 4 GiB", new(builder).le(uint32(0), uint32(3), make([]byte, 20), uint32(1<<32-1)).Bytes(), "4294967295 bytes wanted"},
		{"case 32 a billion algorithms", new(builder).le(uint32(0), uint32(3), make([]byte, 20), uint32(28), []byte("Spec ID Event03\x00"), make([]byte, 8), uint32(1<<30)).Bytes(), "hash algorithms"},
		{"case 32 too many events", many.Bytes(), "more than 8192"},
		{"too long", make([]byte, tcglog.MaxLog+1), "at most"},
		{"cut off", good.Bytes()[:good.Len()-1], "event 1"},
		{"a digest of another size", begun(0x0b, 20).Bytes(), "20 bytes"},
		{"no algorithms", begun().Bytes(), "0 hash algorithms"},
		{"an algorithm twice", begun(0x0b, 32, 0x0b, 32).Bytes(), "twice"},
		{"a digest twice", begun(4, 20, 0x0b, 32).event(0, 1, "", zero, zero).Bytes(), "second one"},
		{"a digest too few", begun(4, 20, 0x0b, 32).event(0, 1, "", zero).Bytes(), "digests of 1"},
		{"a digest of no bank", sha256Log().event(0, 1, "", make([]byte, 48)).Bytes(), "0x000c"},
		{"startup locality after an event", sha256Log().event(0, 1, "", zero).event(0, 3, "StartupLocality\x00\x03", zero).Bytes(), "after an event that extended PCR 0"},
		{"startup locality twice", sha256Log().event(0, 3, "StartupLocality\x00\x03", zero).event(0, 3, "StartupLocality\x00\x03", zero).Bytes(), "a second startup locality"},
		{"startup locality twice, first 0", sha256Log().event(0, 3, "StartupLocality\x00\x00", zero).event(0, 3, "StartupLocality\x00\x03", zero).Bytes(), "a second startup locality"},
		{"startup locality 9", sha256Log().event(0, 3, "StartupLocality\x00\x09", zero).Bytes(), "locality 9"},
		{"startup locality in two bytes", sha256Log().event(0, 3, "StartupLocality\x00\x00\x00", zero).Bytes(), "18 bytes"},
	} {
		_, err := tcglog.Parse(c.log)
		if err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.message)
		}
		var e *tcglog.Error
		if c.name != "too long" && !errors.As(err, &e) {
			t.Errorf("%s: %T does not say where", c.name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sha256Log().event(0, 1, "data", make([]byte, 32)).Bytes())
	f.Add(begun(4, 20, 0x0b, 32).event(0, 3, "StartupLocality\x00\x03", make([]byte, 20), make([]byte, 32)).Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := tcglog.Parse(b)
		if err != nil {
			return
		}
		held := 0
		for _, e := range l.Events {
			held += len(e.Data)
			for _, d := range e.Digests {
				held += len(d.Value)
			}
		}
		if held > len(b) {
			t.Errorf("%d bytes held of %d", held, len(b))
		}
		l.Replay()
	})
}
