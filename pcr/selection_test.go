// SPDX-License-Identifier: Apache-2.0

package pcr_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
)

func TestParseSelection(t *testing.T) {
	for in, want := range map[string]string{
		"sha256:14":                    "sha256:14",
		"sha256:0,1,2,14+sha384:14":    "sha256:0,1,2,14+sha384:14",
		"sha256:0-3":                   "sha256:0,1,2,3",
		"sha256:14,7,0-2":              "sha256:0,1,2,7,14",
		"sha384:23+sha1:0":             "sha384:23+sha1:0",
		"sha1:1+sha256:1+sha384:1":     "sha1:1+sha256:1+sha384:1",
		"":                             "!has no list",
		"sha256":                       "!has no list",
		"sha256:":                      "!not a number",
		"sha256:24":                    "!not a number from 0 to 23",
		"sha256:-1":                    "!not a number",
		"sha256:01":                    "!not a number",
		"sha256:+1":                    "!not a number",
		"sha256:1,":                    "!not a number",
		"sha256:1,1":                   "!named twice",
		"sha256:0-5,3":                 "!named twice",
		"sha256:5-3":                   "!runs backwards",
		"sha256:0-24":                  "!not a number",
		"sha256:0-99999999999999999":   "!not a number",
		"sha256:1+sha256:2":            "!bank sha256 is named twice",
		"sha256:1+":                    "!has no list",
		"SHA256:1":                     "!not known",
		"sm3_256:1":                    "!not known",
		"sha256:all":                   "!not a number",
		" sha256:1":                    "!not known",
		"sha256:1+sha384:1+sha512:1+x": "!has no list",
	} {
		got, err := pcr.ParseSelection(in)
		if text, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%q: got %v, %v, want %q", in, got, err, text)
			}
		} else if err != nil || got.String() != want {
			t.Errorf("%q: got %v, %v, want %s", in, got, err, want)
		}
	}
}

// case 48: selections that are short, permuted within, or name a bank twice.
func TestSelectionFromTPM(t *testing.T) {
	bank := func(alg uint16, bits ...byte) tpm2.TPMSPCRSelection {
		return tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(alg), PCRSelect: bits}
	}
	for name, c := range map[string]struct {
		banks []tpm2.TPMSPCRSelection
		want  string
	}{
		"one":            {[]tpm2.TPMSPCRSelection{bank(0x0b, 1, 0x40, 0)}, "sha256:0,14"},
		"order of banks": {[]tpm2.TPMSPCRSelection{bank(0x0c, 0, 0, 0x80), bank(0x0b, 1, 0, 0)}, "sha384:23+sha256:0"},
		"short bitmap":   {[]tpm2.TPMSPCRSelection{bank(0x0b, 0x80)}, "sha256:7"},
		"long and empty": {[]tpm2.TPMSPCRSelection{bank(0x0b, 1, 0, 0, 0)}, "sha256:0"},
		"no bank":        {nil, "!no bank"},
		"empty bank":     {[]tpm2.TPMSPCRSelection{bank(0x0b, 0, 0, 0)}, "!selects no PCR"},
		"no bitmap":      {[]tpm2.TPMSPCRSelection{bank(0x0b)}, "!selects no PCR"},
		"one is empty":   {[]tpm2.TPMSPCRSelection{bank(0x0b, 1), bank(0x0c, 0)}, "!bank sha384 selects no PCR"},
		"twice":          {[]tpm2.TPMSPCRSelection{bank(0x0b, 1, 0, 0), bank(0x0b, 2, 0, 0)}, "!named twice"},
		"unknown":        {[]tpm2.TPMSPCRSelection{bank(0x12, 1, 0, 0)}, "!not known"},
		"null":           {[]tpm2.TPMSPCRSelection{bank(0x10, 1, 0, 0)}, "!not known"},
		"PCR 24":         {[]tpm2.TPMSPCRSelection{bank(0x0b, 0, 0, 0, 1)}, "!PCR 24"},
		"five":           {make([]tpm2.TPMSPCRSelection, 5), "!5 banks"},
	} {
		got, err := pcr.SelectionFromTPM(tpm2.TPMLPCRSelection{PCRSelections: c.banks})
		if text, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%s: got %v, %v, want %q", name, got, err, text)
			}
		} else if err != nil || got.String() != c.want {
			t.Errorf("%s: got %v, %v, want %s", name, got, err, c.want)
		}
	}
}

func TestSelectionCheck(t *testing.T) {
	for _, s := range []pcr.Selection{
		nil,
		{{Algorithm: pcr.SHA256}},
		{{Algorithm: pcr.SHA256, PCRs: []uint32{2, 1}}},
		{{Algorithm: pcr.SHA256, PCRs: []uint32{1, 1}}},
		{{Algorithm: pcr.SHA256, PCRs: []uint32{24}}},
		{{Algorithm: 0x12, PCRs: []uint32{1}}},
		{{Algorithm: pcr.SHA256, PCRs: []uint32{1}}, {Algorithm: pcr.SHA256, PCRs: []uint32{2}}},
	} {
		if err := s.Check(); err == nil {
			t.Errorf("%v passes", s)
		}
		if _, err := s.Composite(pcr.Values{}, crypto.SHA256); err == nil {
			t.Errorf("%v has a composite", s)
		}
		if _, err := (pcr.Values{}).Banks(s); err == nil {
			t.Errorf("%v has banks", s)
		}
	}
}

func selection(t *testing.T, s string) pcr.Selection {
	t.Helper()
	sel, err := pcr.ParseSelection(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

func TestComposite(t *testing.T) {
	v := make(pcr.Values)
	v.Set(pcr.SHA1, 3, bytes.Repeat([]byte{1}, 20))
	v.Set(pcr.SHA256, 0, bytes.Repeat([]byte{2}, 32))
	v.Set(pcr.SHA256, 23, bytes.Repeat([]byte{3}, 32))
	sel := selection(t, "sha256:23,0+sha1:3")
	want := sha256.Sum256(slices.Concat(v[pcr.SHA256][0], v[pcr.SHA256][23], v[pcr.SHA1][3]))
	got, err := sel.Composite(v, crypto.SHA256)
	if err != nil || !bytes.Equal(got, want[:]) {
		t.Errorf("got %x, %v, want %x", got, err, want)
	}
	if _, err := selection(t, "sha256:1").Composite(v, crypto.SHA256); err == nil {
		t.Error("a PCR without a value is hashed")
	}
	v.Set(pcr.SHA256, 1, []byte{1})
	if _, err := selection(t, "sha256:1").Composite(v, crypto.SHA256); err == nil {
		t.Error("a value of one byte is hashed")
	}
	if _, err := sel.Composite(v, crypto.MD4); err == nil {
		t.Error("a hash that is not there is computed")
	}
}

func TestValuesFromBanks(t *testing.T) {
	value := func(n int) evidence.Bytes { return make([]byte, n) }
	good := []evidence.Bank{
		{Algorithm: "sha384", PCRs: []evidence.PCR{{Index: 14, Value: value(48)}}},
		{Algorithm: "sha256", PCRs: []evidence.PCR{{Index: 0, Value: value(32)}, {Index: 14, Value: value(32)}}},
	}
	v, sel, err := pcr.ValuesFromBanks(good)
	if err != nil || sel.String() != "sha384:14+sha256:0,14" {
		t.Fatalf("got %v, %v", sel, err)
	}
	back, err := v.Banks(sel)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := strictjson.Encode(good)
	b, _ := strictjson.Encode(back)
	if !bytes.Equal(a, b) {
		t.Errorf("%s became %s", a, b)
	}
	for name, banks := range map[string][]evidence.Bank{
		"none":       nil,
		"empty":      {{Algorithm: "sha256"}},
		"unknown":    {{Algorithm: "md5", PCRs: []evidence.PCR{{Index: 0, Value: value(16)}}}},
		"twice":      {good[0], good[0]},
		"size":       {{Algorithm: "sha256", PCRs: []evidence.PCR{{Index: 0, Value: value(31)}}}},
		"descending": {{Algorithm: "sha256", PCRs: []evidence.PCR{{Index: 1, Value: value(32)}, {Index: 0, Value: value(32)}}}},
		"same PCR":   {{Algorithm: "sha256", PCRs: []evidence.PCR{{Index: 1, Value: value(32)}, {Index: 1, Value: value(32)}}}},
		"PCR 24":     {{Algorithm: "sha256", PCRs: []evidence.PCR{{Index: 24, Value: value(32)}}}},
	} {
		if _, _, err := pcr.ValuesFromBanks(banks); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// A selection that was read is one that passes, and reads the same again.
func FuzzParseSelection(f *testing.F) {
	for _, s := range []string{"sha256:14", "sha256:0-7,14+sha384:14", "sha1:23+sha512:0", "sha256:1,1", ":", "+"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := pcr.ParseSelection(text)
		if err != nil {
			return
		}
		again, err := pcr.ParseSelection(s.String())
		if err != nil || again.String() != s.String() {
			t.Fatalf("%q reads as %s and then as %s, %v", text, s, again, err)
		}
		back, err := pcr.SelectionFromTPM(s.TPM())
		if err != nil || back.String() != s.String() {
			t.Fatalf("%s through the TPM's form is %s, %v", s, back, err)
		}
	})
}
