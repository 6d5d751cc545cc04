// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// TestTableIsWhatItSays: case 113: what report.table says that it looks at, it looks at, and
// what it says that it leaves, it leaves. Its words are those of docs/checks.md.
func TestTableIsWhatItSays(t *testing.T) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(t, data)
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(bareRoot, ""))
	// table has an entry of that kind with that content, 16 bytes that no entry names, and more
	// of those at its end.
	table := func(kind snp.GUID, content []byte) []byte {
		b := append(kind[:len(kind):len(kind)], make([]byte, 8+24+16)...)
		binary.LittleEndian.PutUint32(b[16:], uint32(len(b)))
		binary.LittleEndian.PutUint32(b[20:], uint32(len(content)))
		copy(b[48:], "between entries!")
		return append(append(b, content...), bytes.Repeat([]byte{7}, 100)...)
	}
	for name, c := range map[string]struct {
		table []byte
		want  Verdict
	}{
		"certificate, and bytes that no entry names": {table(snp.GUIDVCEK, certificates[0]), Pass},
		"entry of another kind":                      {table(snp.GUID{9}, []byte("anything")), Pass},
		"something else for a VCEK":                  {table(snp.GUIDVCEK, []byte("anything")), Fail},
		"something else for a VLEK":                  {table(snp.GUIDVLEK, []byte("anything")), Fail},
		"something else for an ASK":                  {table(snp.GUIDASK, []byte("anything")), Fail},
		"something else for an ARK":                  {table(snp.GUIDARK, []byte("anything")), Fail},
	} {
		a, err := appraiseReport(RawReport{Kind: evidence.ReportSNP, Report: append(bytes.Clone(report), c.table...), Certificates: certificates}, o)
		if err != nil {
			t.Fatal(err)
		}
		if got := a.Check(ReportTable).Verdict; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
	for _, words := range []string{"VCEK, VLEK, ASK and ARK", "entries of other kinds", "not looked at"} {
		found := false
		for _, d := range Definitions() {
			found = found || d.ID == ReportTable && strings.Contains(d.Checks+d.Stops, words)
		}
		if !found {
			t.Errorf("report.table does not say %q", words)
		}
	}
}
