// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// FuzzRawReport: whatever follows a good report, with its certificates in the table or
// given apart, is appraised without a panic, and accepted only if it is a table.
func FuzzRawReport(f *testing.F) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(f, data)
	o := baseOptions(f)
	o.Policy = mustPolicy(f, makePolicy(bareRoot, ""))
	o.Cache = cache.New(4)
	f.Add([]byte{})
	f.Add(make([]byte, 24))
	f.Add(bytes.Repeat([]byte{0xff}, 48))
	f.Fuzz(func(t *testing.T, table []byte) {
		a, err := appraiseReport(RawReport{Kind: evidence.ReportSNP, Report: append(bytes.Clone(report), table...), Certificates: certificates}, o)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := snp.TableCertificates(table); (err == nil) != (a.Check(ReportTable).Verdict != Fail) {
			t.Errorf("%s, and reading the table gives %v", a.Check(ReportTable).Verdict, err)
		}
	})
}

// TestParavisorMangled flips every byte of a set: each is refused, or lies in what the
// paravisor's headers say apart from the report, which nothing signs and no check uses.
func TestParavisorMangled(t *testing.T) {
	r := evidencetest.NewParavisor()
	set := AzureSet(r.Build(t))
	o := baseOptions(t)
	o.Policy = mustPolicy(t, paravisorPolicy("paravisor", `binding = "paravisor"`))
	o.UserData = r.UserData
	o.Cache = cache.New(4)
	accepted := func() bool {
		a, err := appraiseParavisor(set, o)
		if err != nil {
			t.Fatal(err)
		}
		return a.Verdict == Pass
	}
	if !accepted() {
		t.Fatal("the set is not accepted before it is mangled")
	}
	for _, part := range []struct {
		name string
		b    []byte
		free func(i int) bool
	}{
		// The version may be 1 or 2, and what kind of request it answered is not asked.
		{"HCL", set.HCL, func(i int) bool { return i >= 12 && i < 16 }},
		{"quote", set.Quote, nil},
		{"signature", set.Signature, nil},
		{"PCRs", set.PCRs, nil},
	} {
		for i := range part.b {
			part.b[i] ^= 0x10
			if ok, free := accepted(), part.free != nil && part.free(i); ok != free {
				t.Errorf("%s, byte %d flipped: accepted %t", part.name, i, ok)
			}
			part.b[i] ^= 0x10
		}
	}
}
