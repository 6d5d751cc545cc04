// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"testing"
)

// TestCommitmentsTakeEverything changes each input of each commitment alone.
func TestCommitmentsTakeEverything(t *testing.T) {
	type in struct {
		tree                       TreeHead
		agentKey, ak, attest, repo []byte
		head                       LogHead
		anchor                     *Digest
	}
	base := in{TreeHead{Digest{1}, 2}, []byte("key"), []byte("ak"), []byte("attest"), []byte("report"), LogHead{3, Digest{4}}, &Digest{5}}
	outputs := func(i in) map[string]string {
		q := QuoteData(i.tree, i.anchor)
		r := ReportData(i.tree, i.agentKey, i.ak, i.attest, i.head)
		a := AnchorDigest(i.tree, i.agentKey, i.ak, i.attest, i.head, i.repo)
		return map[string]string{
			"quote": string(q[:]), "report": string(r[:]), "anchor": string(a[:]),
			"batch": string(BatchMessage(i.tree, i.anchor, i.attest, i.head)),
		}
	}
	changes := []struct {
		name   string
		change func(*in)
		moves  string // commitments that must change; the others must not
	}{
		{"root", func(i *in) { i.tree.Root[31]++ }, "quote batch report anchor"},
		{"size", func(i *in) { i.tree.Size++ }, "quote batch report anchor"},
		{"agent key", func(i *in) { i.agentKey = []byte("kez") }, "report anchor"},
		{"AK", func(i *in) { i.ak = []byte("al") }, "report anchor"},
		{"attest", func(i *in) { i.attest = []byte("attesu") }, "batch report anchor"},
		{"log count", func(i *in) { i.head.Count++ }, "batch report anchor"},
		{"log digest", func(i *in) { i.head.Digest[0]++ }, "batch report anchor"},
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
