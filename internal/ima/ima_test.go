// SPDX-License-Identifier: Apache-2.0

package ima_test

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
)

// in returns a list in pieces of n bytes.
func in(list []byte, n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for c := range slices.Chunk(list, n) {
			if !yield(slices.Clone(c), nil) {
				return
			}
		}
	}
}

// all are entries of every template, one after the other.
func all() [][]byte {
	digest := evidencetest.IMADigest("sha256", pcr.SHA256.Sum([]byte("content")))
	name := evidencetest.IMAName("/usr/bin/true")
	return [][]byte{
		evidencetest.IMAFile("boot_aggregate", "PCRs"),
		evidencetest.IMAEntry("ima-sig", digest, name, []byte{3, 2, 4}),
		evidencetest.IMAEntry("ima-buf", digest, evidencetest.IMAName("kexec-cmdline"), []byte("content")),
		evidencetest.IMAEntry("ima-modsig", digest, name, nil, digest, []byte("appended")),
		evidencetest.IMAEntry("ima-ngv2", append([]byte("verity:"), digest...), name),
		evidencetest.IMAEntry("ima-sigv2", append([]byte("ima:"), digest...), name, nil),
		evidencetest.IMAEntry("evm-sig", digest, name, nil, nil, nil, nil, make([]byte, 4), make([]byte, 4), make([]byte, 2)),
		evidencetest.IMAEntry("d-ng|n-ng|sig", digest, name, nil),
		evidencetest.IMAEntry("d|n", make([]byte, 20), name),
		evidencetest.IMAOld([20]byte{1, 2, 3}, "/usr/bin/true"),
		evidencetest.IMAViolation("/var/log/journal"),
	}
}

// TestTemplates: entries of all templates say what was measured, however the list is cut into
// pieces.
func TestTemplates(t *testing.T) {
	content := "sha256:" + fmt.Sprintf("%x", pcr.SHA256.Sum([]byte("content")))
	want := []string{
		"sha256:" + fmt.Sprintf("%x", pcr.SHA256.Sum([]byte("PCRs"))) + " boot_aggregate", content + " /usr/bin/true", content + " kexec-cmdline", content + " /usr/bin/true",
		"verity:" + content + " /usr/bin/true", content + " /usr/bin/true", content + " /usr/bin/true", content + " /usr/bin/true",
		"sha1:" + strings.Repeat("00", 20) + " /usr/bin/true", "sha1:010203" + strings.Repeat("00", 17) + " /usr/bin/true",
		"sha256:" + strings.Repeat("00", 32) + " /var/log/journal",
	}
	list := bytes.Join(all(), nil)
	for _, n := range []int{1, 7, 64, len(list)} {
		var got []string
		for e, err := range ima.Entries(in(list, n)) {
			if err != nil {
				t.Fatal(err)
			}
			f, err := e.Fields()
			if err != nil {
				t.Fatalf("entry %d: %v", e.Number, err)
			}
			got = append(got, f.Digest.String()+" "+f.Path)
			if e.PCR != ima.PCR || e.Number != uint64(len(got)-1) || e.Violation() != (f.Path == "/var/log/journal") {
				t.Errorf("entry %d: %+v", len(got)-1, e)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pieces of %d:\n%s\nwant\n%s", n, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestFaults: a list that cannot be read says at which entry and why. Case 127.
func TestFaults(t *testing.T) {
	good := evidencetest.IMAFile("/usr/bin/true", "true")
	change := func(at int, b ...byte) []byte {
		c := bytes.Clone(good)
		copy(c[at:], b)
		return c
	}
	old := evidencetest.IMAOld([20]byte{1}, "/usr\x00/bin")
	for name, c := range map[string]struct {
		entry []byte
		says  string
	}{
		"cut":                 {good[:len(good)-1], "ends within"},
		"cut in its head":     {good[:11], "ends within"},
		"path changed":        {change(len(good)-2, 'x'), "is not that of its data"},
		"hash changed":        {change(4, 1, 2, 3), "is not that of its data"},
		"PCR 24":              {change(0, 24), "PCR 24"},
		"no name":             {change(24, 0, 0, 0, 0), "name has 0 bytes"},
		"name of 4 GiB":       {change(24, 0xff, 0xff, 0xff, 0xff), "name has 4294967295 bytes"},
		"no data":             {change(34, 0, 0, 0, 0), "data has 0 bytes"},
		"data of 4 GiB":       {change(34, 0xff, 0xff, 0xff, 0xff), "data has 4294967295 bytes"},
		"zero in an old path": {old, "a zero byte"},
		"old path of 256":     {evidencetest.IMAOld([20]byte{1}, strings.Repeat("x", 256)), "want 1 to 255"},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			var last error
			for _, err := range ima.Entries(ima.Whole(append(bytes.Clone(good), c.entry...))) {
				n, last = n+1, err
			}
			f, ok := errors.AsType[*ima.Fault](last)
			if n != 2 || !ok || f.Entry != 1 || !strings.Contains(last.Error(), c.says) {
				t.Errorf("after %d entries: %v, want %q", n-1, last, c.says)
			}
			if cut := strings.HasPrefix(name, "cut"); errors.Is(last, ima.ErrCut) != cut {
				t.Errorf("%v is cut: want %v", last, cut)
			}
		})
	}
	broken := errors.New("broken pipe")
	for _, err := range ima.Entries(func(yield func([]byte, error) bool) { yield(nil, broken) }) {
		if !errors.Is(err, broken) {
			t.Errorf("%v, want the error of the piece", err)
		}
	}
}

// TestFieldFaults: data that does not have the exact form of its template says nothing. Else the
// same bytes could be read as two templates, whose name is hashed nowhere.
func TestFieldFaults(t *testing.T) {
	digest := evidencetest.IMADigest("sha256", make([]byte, 32))
	name := evidencetest.IMAName("/x")
	for what, e := range map[string][]byte{
		"unknown template":           evidencetest.IMAEntry("ima-new", digest, name),
		"unknown field":              evidencetest.IMAEntry("d-ng|n-ng|new", digest, name, nil),
		"field twice":                evidencetest.IMAEntry("d-ng|n-ng|n-ng", digest, name, name),
		"no digest":                  evidencetest.IMAEntry("n-ng|sig", name, nil),
		"name before the digest":     evidencetest.IMAEntry("n-ng|d-ng", name, digest),
		"buffer read as a digest":    evidencetest.IMAEntry("xattrvalues|n-ng|d-ng", evidencetest.IMADigest("sha256", pcr.SHA256.Sum(digest)), name, digest),
		"signature read as a name":   evidencetest.IMAEntry("d-ng|xattrvalues|n-ng", digest, name, name),
		"extended attributes":        evidencetest.IMAEntry("iuid|n-ng|evmsig|xattrnames|xattrlengths|d-ng", nil, name, nil, nil, nil, digest),
		"no name":                    evidencetest.IMAEntry("d-ng|sig", digest, nil),
		"field missing":              evidencetest.IMAEntry("ima-sig", digest, name),
		"field left over":            evidencetest.IMAEntry("ima-ng", digest, name, nil),
		"name without its end":       evidencetest.IMAEntry("ima-ng", digest, []byte("/x")),
		"name with a zero":           evidencetest.IMAEntry("ima-ng", digest, []byte("/x\x00y\x00")),
		"empty name":                 evidencetest.IMAEntry("ima-ng", digest, []byte{0}),
		"name too long":              evidencetest.IMAEntry("ima-ng", digest, evidencetest.IMAName(strings.Repeat("x", 4097))),
		"digest without algorithm":   evidencetest.IMAEntry("ima-ng", make([]byte, 20), name),
		"digest with its name alone": evidencetest.IMAEntry("ima-ng", []byte("sha256:"), name),
		"algorithm with a space":     evidencetest.IMAEntry("ima-ng", evidencetest.IMADigest("sha 256", make([]byte, 32)), name),
		"digest too short":           evidencetest.IMAEntry("ima-ng", evidencetest.IMADigest("sha256", make([]byte, 31)), name),
		"unknown digest too long":    evidencetest.IMAEntry("ima-ng", evidencetest.IMADigest("new", make([]byte, 65)), name),
		"digest of another kind":     evidencetest.IMAEntry("ima-ngv2", append([]byte("new:"), digest...), name),
		"old digest too short":       evidencetest.IMAEntry("d|n", make([]byte, 19), name),
		"digest not of the buffer":   evidencetest.IMAEntry("ima-buf", digest, name, []byte("content")),
		"buffer of another hash":     evidencetest.IMAEntry("ima-buf", evidencetest.IMADigest("sm3", make([]byte, 32)), name, []byte("content")),
		"signature read as a buffer": evidencetest.IMAEntry("ima-buf", digest, name, []byte{3, 2, 4, 0, 0}),
	} {
		t.Run(what, func(t *testing.T) {
			for e, err := range ima.Entries(ima.Whole(e)) {
				if err != nil {
					t.Fatal(err)
				}
				if f, err := e.Fields(); err == nil {
					t.Errorf("it says %+v", f)
				}
			}
		})
	}
}

// TestReplay: each bank is extended with its own hash, or by older kernels with that of SHA-1 and
// zeros; a violation with ones.
func TestReplay(t *testing.T) {
	banks := []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}
	r := ima.NewReplay(banks...)
	want := make(map[pcr.Algorithm][2][]byte)
	for _, a := range banks {
		want[a] = [2][]byte{make([]byte, a.Size()), make([]byte, a.Size())}
	}
	elsewhere := evidencetest.IMAFile("/of/another/PCR", "x")
	elsewhere[0] = 11
	for e, err := range ima.Entries(ima.Whole(bytes.Join(append(all(), elsewhere), nil))) {
		if err != nil {
			t.Fatal(err)
		}
		r.Extend(e)
		if e.PCR != ima.PCR {
			continue
		}
		for _, a := range banks {
			own, padded := a.Sum(e.Data), make([]byte, a.Size())
			hash := sha1.Sum(e.Data)
			copy(padded, hash[:])
			if e.Violation() {
				own = bytes.Repeat([]byte{0xff}, a.Size())
				copy(padded, own[:20])
			}
			want[a] = [2][]byte{a.Sum(want[a][0], own), a.Sum(want[a][1], padded)}
		}
	}
	if r.Entries() != uint64(len(all())) {
		t.Errorf("%d entries, want %d", r.Entries(), len(all()))
	}
	for m := range 2 {
		quoted := pcr.Values{}
		for _, a := range banks {
			quoted.Set(a, ima.PCR, want[a][m])
			if got := r.Value(a, ima.Mode(m)); !bytes.Equal(got, want[a][m]) {
				t.Errorf("%s, %s: %x, want %x", a, ima.Mode(m), got, want[a][m])
			}
		}
		if mode, ok := r.Leads(quoted); !ok || mode != ima.Mode(m) {
			t.Errorf("leads there: %v, %s", ok, mode)
		}
		quoted.Set(pcr.SHA384, ima.PCR, want[pcr.SHA384][1-m]) // of the other mode
		if _, ok := r.Leads(quoted); ok {
			t.Error("the values of two modes are taken together")
		}
	}
	if _, ok := r.Leads(pcr.Values{}); ok {
		t.Error("it leads to a value that was not quoted")
	}
}

// TestAggregates: the first entry is over PCRs 0 to 9, or as older kernels make it over 0 to 7,
// and of a SHA-1 bank over 0 to 7 alone.
func TestAggregates(t *testing.T) {
	values := make(map[uint32][]byte)
	var b []byte
	for i := range uint32(10) {
		values[i] = bytes.Repeat([]byte{byte(i)}, 32)
		b = append(b, values[i]...)
	}
	if got := ima.Aggregates(pcr.SHA256, values); len(got) != 2 || !bytes.Equal(got[0], pcr.SHA256.Sum(b[:8*32])) || !bytes.Equal(got[1], pcr.SHA256.Sum(b)) {
		t.Errorf("%x", got)
	}
	if got := ima.Aggregates(pcr.SHA1, values); len(got) != 1 {
		t.Errorf("%d digests of bank SHA-1", len(got))
	}
	delete(values, 3)
	if got := ima.Aggregates(pcr.SHA256, values); got != nil {
		t.Errorf("%x without PCR 3", got)
	}
}

// TestMemory: what a list of 100 MiB takes does not grow with it. Case 127.
func TestMemory(t *testing.T) {
	one := evidencetest.IMAFile("/usr/lib/x86_64-linux-gnu/libexample.so.1", "content")
	piece := bytes.Repeat(one, 64<<10/len(one))
	const most = 100 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for e, err := range ima.Entries(func(yield func([]byte, error) bool) {
		if !yield(one[:50], nil) { // every piece ends within an entry
			return
		}
		shifted := append(bytes.Clone(piece[50:]), one[:50]...)
		for sent := 0; sent < most; sent += len(shifted) {
			if !yield(shifted, nil) {
				return
			}
		}
		yield(one[50:], nil)
	}) {
		if err != nil {
			t.Fatal(err)
		}
		n += len(e.Data)
	}
	runtime.ReadMemStats(&after)
	if n < most/2 {
		t.Fatalf("%d bytes of data", n)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 3*most { // a copy of each piece, and nothing for an entry
		t.Errorf("it took %d bytes in all", took)
	}
	if grew := int64(after.HeapSys) - int64(before.HeapSys); grew > 32<<20 {
		t.Errorf("the heap grew by %d bytes", grew)
	}
}

// TestSmallPieces: a list in pieces of one byte takes no more than it has. Who sends it chooses the
// pieces.
func TestSmallPieces(t *testing.T) {
	const size = 100 << 10
	list := evidencetest.IMAEntry("ima-buf", evidencetest.IMADigest("sha256", pcr.SHA256.Sum(make([]byte, size))), evidencetest.IMAName("kexec-cmdline"), make([]byte, size))
	list = append(list, list...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	n := 0
	for e, err := range ima.Entries(func(yield func([]byte, error) bool) {
		for i := range list {
			if !yield(list[i:i+1], nil) {
				return
			}
		}
	}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Fields(); err != nil {
			t.Fatal(err)
		}
		n++
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; n != 2 || took > 20*size {
		t.Errorf("%d entries took %d bytes in all, in pieces of one byte", n, took)
	}
}

// FuzzEntries: a list of any bytes ends or is a fault, takes no more than it has, and is read the
// same in whatever pieces it comes.
func FuzzEntries(f *testing.F) {
	f.Add(bytes.Join(all(), nil))
	f.Add([]byte("\x0a\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, list []byte) {
		read := func(pieces iter.Seq2[[]byte, error]) (out []string) {
			total := 0
			for e, err := range ima.Entries(pieces) {
				if err != nil {
					return append(out, err.Error())
				}
				said, err := e.Fields()
				if total += len(e.Data) - 256; total > len(list) {
					t.Fatalf("%d bytes of data from %d", total, len(list))
				}
				out = append(out, fmt.Sprint(e.PCR, e.Template, e.Hash, said, err))
			}
			return out
		}
		if whole, pieces := read(ima.Whole(list)), read(in(list, 13)); !slices.Equal(whole, pieces) {
			t.Errorf("%q\n%q", whole, pieces)
		}
	})
}

// BenchmarkList reads and replays 50,000 entries in bank SHA-256. The metric x-hashes is the time
// it takes in units of the bare hashes that the values need.
func BenchmarkList(b *testing.B) {
	var list []byte
	for i := range 50_000 {
		list = append(list, evidencetest.IMAFile(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/file-%d.so", i), fmt.Sprint(i))...)
	}
	var data [][]byte
	for e := range ima.Entries(ima.Whole(list)) {
		data = append(data, e.Data)
	}
	var hashes, reads int64
	for b.Loop() {
		hashes += timed(func() {
			value := make([]byte, 32)
			for _, d := range data {
				value = pcr.SHA256.Sum(value, pcr.SHA256.Sum(d))
			}
		})
		reads += timed(func() {
			r := ima.NewReplay(pcr.SHA256)
			for e, err := range ima.Entries(ima.Whole(list)) {
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Fields(); err != nil {
					b.Fatal(err)
				}
				r.Extend(e)
			}
		})
	}
	b.ReportMetric(float64(reads)/float64(hashes), "x-hashes")
}

// timed returns the nanoseconds that f takes.
func timed(f func()) int64 {
	begin := time.Now()
	f()
	return time.Since(begin).Nanoseconds()
}
