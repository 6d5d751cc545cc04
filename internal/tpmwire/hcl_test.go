// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// TestHCLNumbers: modulus and exponent have one spelling, and an exponent that a signature can be
// verified with.
func TestHCLNumbers(t *testing.T) {
	for old, c := range map[string]struct{ new, says string }{
		`"AQAB"`:   {`"AQAB"`, ""},
		`"e":"AQ`:  {`"e":"AAEAAQ","x":"`, "exponent of HCLAkPub is padded"},
		`"e":"`:    {`"e":"","x":"`, "exponent"},
		`e":"AQAB`: {`e":"gAAAAQ`, "exponent is 2147483649"},
		`:"AQAB`:   {`:"AQABAA`, "exponent is"},
		`"n":"`:    {`"n":"AAAA`, "modulus of HCLAkPub is padded"},
	} {
		r := evidencetest.NewAzure()
		r.HCL.Runtime = func(s string) string {
			if !strings.Contains(s, old) {
				t.Fatalf("%q is not in %s", old, s)
			}
			return strings.Replace(s, old, c.new, 1)
		}
		h, err := tpmwire.ParseHCLOfSNP(r.Build(t).Report.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		k, err := h.AttestationKey()
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) || (k == nil) != (err != nil) {
			t.Errorf("%q: %v, %v, want %q", c.new, k, err, c.says)
		}
	}
}

// TestHCLHeader: no bit of what is around report and runtime data can be changed, but the type of the
// request. To change the hash is to ask for another REPORT_DATA.
func TestHCLHeader(t *testing.T) {
	good := []byte(evidencetest.NewAzure().Build(t).Report.Bytes)
	whole, err := tpmwire.ParseHCLOfSNP(good)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(good) {
		at := bit / 8
		if at >= 32 && at < 32+1184 || at >= 1236 {
			continue
		}
		b := bytes.Clone(good)
		b[at] ^= 1 << (bit % 8)
		h, err := tpmwire.ParseHCLOfSNP(b)
		requestType, sha512 := at >= 12 && at < 16, at == 1228 && b[at] == 3
		if (err == nil) != (requestType || sha512) {
			t.Errorf("byte %d is %#x: %v", at, b[at], err)
		}
		if sha512 && h.ReportData() == whole.ReportData() {
			t.Error("another hash gives the same report data")
		}
	}
	for _, at := range []int{4, 1220} { // their second version, and none before the first
		for version, ok := range map[byte]bool{0: false, 1: true, 2: at == 4, 3: false} {
			b := bytes.Clone(good)
			b[at] = version
			if _, err := tpmwire.ParseHCLOfSNP(b); (err == nil) != ok {
				t.Errorf("version %d at byte %d: %v", version, at, err)
			}
		}
	}
	other := evidencetest.NewAzure()
	other.HCL.Runtime = func(s string) string { return strings.ReplaceAll(s, `"RSA"`, `"EC"`) }
	h, err := tpmwire.ParseHCLOfSNP(other.Build(t).Report.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := h.AttestationKey(); err == nil || k != nil {
		t.Errorf("a key of type EC is read: %+v", k)
	}
}

// FuzzHCL: a blob is refused or is what its parts say, and nothing in it is larger than it.
func FuzzHCL(f *testing.F) {
	f.Add(evidencetest.NewParavisor().Build(f).HCL)
	f.Add([]byte(evidencetest.NewAzure().Build(f).Report.Bytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := tpmwire.ParseHCL(b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, h.Runtime) || h.Size > len(b) || len(h.Report) != 1184 || len(h.UserData) != 0 && len(h.UserData) != tpmwire.HCLUserData {
			t.Errorf("parts that are not in the blob: %+v", h)
		}
		if k, err := h.AttestationKey(); err == nil && k == nil {
			t.Error("neither key nor error")
		}
		if whole, err := tpmwire.ParseHCLOfSNP(b[:h.Size]); h.Type == tpmwire.HCLSNP && (err != nil || whole.ReportData() != h.ReportData()) {
			t.Errorf("without the zeros after it: %v", err)
		}
		if _, err := tpmwire.ParseHCLOfSNP(b); len(b) != h.Size && err == nil {
			t.Error("bytes follow the runtime data")
		}
	})
}
