// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"testing"
)

// TestCommitmentsTakeEverything changes each input of each commitment alone.
func TestCommitmentsTakeEverything(t *testing.T) {
	type in struct {
		Snapshot
		agentKey, ak, repo []byte
		anchor             *Digest
	}
	base := in{
		Snapshot{Tree: TreeHead{Digest{1}, 2}, Time: 6, LogHead: LogHead{3, Digest{4}}, Quote: Quote{Attest: Bytes("attest")}},
		[]byte("key"), []byte("ak"), []byte("report"), &Digest{5},
	}
	outputs := func(i in) map[string]string {
		q := QuoteData(i.Tree, i.anchor)
		r := ReportData(&i.Snapshot, i.agentKey, i.ak)
		a := AnchorDigest(&i.Snapshot, i.agentKey, i.ak, i.repo)
		return map[string]string{
			"quote": string(q[:]), "report": string(r[:]), "anchor": string(a[:]),
			"batch": string(BatchMessage(&i.Snapshot, i.anchor)),
		}
	}
	changes := []struct {
		name   string
		change func(*in)
		moves  string // commitments that must change; the others must not
	}{
		{"root", func(i *in) { i.Tree.Root[31]++ }, "quote batch report anchor"},
		{"size", func(i *in) { i.Tree.Size++ }, "quote batch report anchor"},
		{"agent key", func(i *in) { i.agentKey = []byte("kez") }, "report anchor"},
		{"AK", func(i *in) { i.ak = []byte("al") }, "report anchor"},
		{"time", func(i *in) { i.Time++ }, "batch report anchor"},
		{"attest", func(i *in) { i.Quote.Attest = []byte("attesu") }, "batch report anchor"},
		{"log count", func(i *in) { i.LogHead.Count++ }, "batch report anchor"},
		{"log digest", func(i *in) { i.LogHead.Digest[0]++ }, "batch report anchor"},
		{"report", func(i *in) { i.repo = []byte("reporu") }, "anchor"},
		{"anchor", func(i *in) { i.anchor = &Digest{6} }, "quote batch"},
		{"no anchor", func(i *in) { i.anchor = nil }, "quote batch"},
		{"key and AK swapped", func(i *in) { i.agentKey, i.ak = i.ak, i.agentKey }, "report anchor"},
	}
	before := outputs(base)
	for _, c := range changes {
		i := base
		c.change(&i)
		for name, out := range outputs(i) {
			want := bytes.Contains([]byte(c.moves), []byte(name))
			if (out != before[name]) != want {
				t.Errorf("%s changed: commitment %s moved %v, want %v", c.name, name, !want, want)
			}
		}
	}
}

func TestLogHeadChains(t *testing.T) {
	var h LogHead
	a := NextLogHead(NextLogHead(h, []byte("a")), []byte("b"))
	b := NextLogHead(NextLogHead(h, []byte("ab")), nil)
	if a.Count != 2 || a.Digest == b.Digest {
		t.Error("the head does not tell two records from another split of the same bytes")
	}
	if len(a.Bytes()) != 40 {
		t.Errorf("head of %d bytes, want 40", len(a.Bytes()))
	}
}
