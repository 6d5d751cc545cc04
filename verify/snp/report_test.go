// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// blank is an unsigned report of a version with nothing in it.
func blank(version uint32) []byte {
	b := make([]byte, snp.ReportSize)
	binary.LittleEndian.PutUint32(b, version)
	return b
}

// case 60: other versions and lengths are refused, each with its code.
func TestParseReportRefusesShapes(t *testing.T) {
	for _, c := range []struct {
		name string
		in   []byte
		want snp.Code
	}{
		{"nothing", nil, snp.CodeReportLength},
		{"one byte short", blank(3)[:snp.ReportSize-1], snp.CodeReportLength},
		{"one byte long", append(blank(3), 0), snp.CodeReportLength},
		{"version 0", blank(0), snp.CodeReportVersion},
		{"version 1", blank(1), snp.CodeReportVersion},
		{"version 6", blank(6), snp.CodeReportVersion},
		{"version 7", blank(7), snp.CodeReportVersion},
		{"version 2 with high bits", blank(2 | 1<<24), snp.CodeReportVersion},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := snp.ParseReport(c.in)
			if r != nil || snp.CodeOf(err) != c.want {
				t.Errorf("report %v, %v; want code %s", r != nil, err, c.want)
			}
		})
	}
}

// Every byte of the signed part is either in a field or reserved and then refused:
// nothing that is signed escapes the parser.
func TestEveryByteIsReadOrRefused(t *testing.T) {
	for version := uint32(2); version <= 5; version++ {
		empty, err := snp.ParseReport(blank(version))
		if err != nil {
			t.Fatal(err)
		}
		reserved := map[int]bool{}
		for at := 4; at < 0x2A0; at++ {
			b := blank(version)
			b[at] = 0x80
			r, err := snp.ParseReport(b)
			if err != nil {
				if snp.CodeOf(err) != snp.CodeReportReserved {
					t.Errorf("v%d, byte 0x%x: %v", version, at, err)
				}
				reserved[at] = true
				continue
			}
			if fields(r) == fields(empty) {
				t.Errorf("v%d, byte 0x%x: set and not seen in any field", version, at)
			}
		}
		want := 0x4 + 0x18 + 1 + 1 + 0xA8
		switch version {
		case 3:
			want -= 3 // family, model, stepping
		case 4, 5:
			want -= 3 + 16 // and mitigation vectors
		}
		if len(reserved) != want {
			t.Errorf("v%d: %d reserved bytes, want %d", version, len(reserved), want)
		}
	}
}

// fields prints all exported fields, pointers followed.
func fields(r *snp.Report) string {
	v, s := reflect.ValueOf(*r), ""
	for i := range v.NumField() {
		if !v.Type().Field(i).IsExported() {
			continue
		}
		f := v.Field(i)
		if f.Kind() == reflect.Pointer && !f.IsNil() {
			f = f.Elem()
		}
		s += fmt.Sprintf("%s=%v;", v.Type().Field(i).Name, f)
	}
	return s
}

// case 57: a field that an old version does not have is unknown, not zero.
func TestAbsentFieldsAreUnknown(t *testing.T) {
	for version := uint32(2); version <= 5; version++ {
		r, err := snp.ParseReport(blank(version))
		if err != nil {
			t.Fatal(err)
		}
		if (r.CPU != nil) != (version >= 3) {
			t.Errorf("v%d: cpu %v", version, r.CPU)
		}
		if known := r.LaunchMitigations != nil && r.CurrentMitigations != nil; known != (version == 5) {
			t.Errorf("v%d: mitigation vectors known %t", version, known)
		}
	}
	b := blank(4)
	b[0x200] = 3
	r, err := snp.ParseReport(b)
	if err != nil || r.CurrentMitigations == nil || *r.CurrentMitigations != 3 {
		t.Errorf("v4 with vectors: %+v, %v", r, err)
	}
}

func TestBytesAreACopy(t *testing.T) {
	b := blank(3)
	r, err := snp.ParseReport(b)
	if err != nil {
		t.Fatal(err)
	}
	b[8] = 0xFF
	got := r.Bytes()
	if got[8] != 0 {
		t.Error("the report shares memory with what it was parsed from")
	}
	got[8] = 1
	if !bytes.Equal(r.Bytes(), blank(3)) {
		t.Error("the report shares memory with what Bytes returned")
	}
}

// case 54: debug, migration agent and every reserved policy bit are seen.
func TestPolicyBits(t *testing.T) {
	good := snp.PolicyReservedOne | snp.PolicySMT | 0x0137
	if err := good.Wellformed(); err != nil {
		t.Fatal(err)
	}
	if good.ABIMajor() != 1 || good.ABIMinor() != 0x37 {
		t.Errorf("ABI %d.%d", good.ABIMajor(), good.ABIMinor())
	}
	if err := (good &^ snp.PolicyReservedOne).Wellformed(); err == nil {
		t.Error("bit 17 clear is accepted")
	}
	for bit := 26; bit < 64; bit++ {
		p := good | 1<<bit
		if p.Reserved() != 1<<bit || p.Wellformed() == nil {
			t.Errorf("bit %d: reserved %v, %v", bit, p.Reserved(), p.Wellformed())
		}
	}
	for _, known := range []snp.Policy{
		snp.PolicySMT, snp.PolicyMigrationAgent, snp.PolicyDebug, snp.PolicySingleSocket, snp.PolicyCXL,
		snp.PolicyAES256XTS, snp.PolicyRAPLDisabled, snp.PolicyCiphertextHiding, snp.PolicyPageSwapDisabled,
	} {
		p := snp.PolicyReservedOne | known
		if !p.Has(known) || p.Reserved() != 0 || snp.PolicyReservedOne.Has(known) {
			t.Errorf("bit %v is not told apart", known)
		}
	}
	if got := snp.PlatformInfo(1<<6 | 1<<8 | 0x25).Reserved(); got != 1<<6|1<<8 {
		t.Errorf("platform info reserved %v", got)
	}
	if k := snp.KeyInfo(1<<5 | 0x1F); k.Reserved() != 1<<5 || k.Signer() != snp.SignerNone || !k.MaskChipKey() || !k.AuthorKey() {
		t.Errorf("key info %b: reserved %b, signer %v", k, k.Reserved(), k.Signer())
	}
}

func TestProducts(t *testing.T) {
	for _, c := range []struct {
		family, model uint8
		want          snp.Product
	}{
		{0x19, 0x00, snp.Milan}, {0x19, 0x01, snp.Milan}, {0x19, 0x11, snp.Genoa},
		{0x19, 0xA0, snp.Genoa}, {0x19, 0xAF, snp.Genoa}, {0x19, 0xB0, snp.ProductUnknown},
		{0x19, 0x21, snp.ProductUnknown}, {0x19, 0x9F, snp.ProductUnknown},
		{0x1A, 0x02, snp.Turin}, {0x1A, 0x11, snp.Turin}, {0x1A, 0x50, snp.ProductUnknown},
		{0x17, 0x31, snp.ProductUnknown}, {0, 0, snp.ProductUnknown},
	} {
		if got := (snp.CPU{Family: c.family, Model: c.model}).Product(); got != c.want {
			t.Errorf("family 0x%x model 0x%x: %v, want %v", c.family, c.model, got, c.want)
		}
	}
}

// case 56: each component is in its byte, and one below its floor is named.
func TestTCBComponents(t *testing.T) {
	for _, c := range []struct {
		product snp.Product
		bytes   map[snp.Component]int
	}{
		{snp.Milan, map[snp.Component]int{snp.BootLoader: 0, snp.TEE: 1, snp.SNP: 6, snp.Microcode: 7}},
		{snp.Genoa, map[snp.Component]int{snp.BootLoader: 0, snp.TEE: 1, snp.SNP: 6, snp.Microcode: 7}},
		{snp.Turin, map[snp.Component]int{snp.FMC: 0, snp.BootLoader: 1, snp.TEE: 2, snp.SNP: 3, snp.Microcode: 7}},
	} {
		tcb := snp.TCB(0x0807060504030201)
		levels, reserved, err := tcb.Components(c.product)
		if err != nil || len(levels) != len(c.bytes) {
			t.Fatalf("%v: %v, %v", c.product, levels, err)
		}
		for _, l := range levels {
			if want := uint8(c.bytes[l.Component] + 1); l.Value != want {
				t.Errorf("%v %s: %d, want %d", c.product, l.Component, l.Value, want)
			}
			floor := []snp.Level{{Component: l.Component, Value: l.Value}}
			if err := tcb.AtLeast(c.product, floor); err != nil {
				t.Errorf("%v at its floor: %v", c.product, err)
			}
			floor[0].Value++
			if err := tcb.AtLeast(c.product, floor); snp.CodeOf(err) != snp.CodeTCBFloor {
				t.Errorf("%v %s one below its floor: %v", c.product, l.Component, err)
			}
		}
		composed, err := snp.ComposeTCB(c.product, levels)
		if err != nil || composed|reserved != tcb || composed&reserved != 0 {
			t.Errorf("%v: composed %v, reserved %v, %v", c.product, composed, reserved, err)
		}
	}
	if _, _, err := snp.TCB(0).Components(snp.ProductUnknown); snp.CodeOf(err) != snp.CodeTCBLayout {
		t.Errorf("unknown product: %v", err)
	}
	if err := snp.TCB(0).AtLeast(snp.Milan, []snp.Level{{Component: snp.FMC}}); snp.CodeOf(err) != snp.CodeTCBLayout {
		t.Errorf("floor of a component that Milan lacks: %v", err)
	}
	for _, bad := range [][]snp.Level{{{Component: snp.FMC}}, {{Component: ""}}, {{Component: snp.SNP}, {Component: snp.SNP}}} {
		if _, err := snp.ComposeTCB(snp.Milan, bad); snp.CodeOf(err) != snp.CodeTCBLayout {
			t.Errorf("compose %v: %v", bad, err)
		}
	}
}

// TestBitFieldsAsText: a bit field is text in documents, with one spelling, whatever bits
// the platform sets.
func TestBitFieldsAsText(t *testing.T) {
	for n, want := range map[uint64]string{0: "0x0", 0x30000: "0x30000", 1 << 53: "0x20000000000000", 1<<64 - 1: "0xffffffffffffffff"} {
		p, err := snp.Policy(n).MarshalText()
		i, err2 := snp.PlatformInfo(n).MarshalText()
		if err != nil || err2 != nil || string(p) != want || string(i) != want {
			t.Errorf("%#x becomes %s, %v and %s, %v, want %s", n, p, err, i, err2, want)
		}
		var policy snp.Policy
		var info snp.PlatformInfo
		if err := policy.UnmarshalText(p); err != nil || policy != snp.Policy(n) {
			t.Errorf("%s is read as %v, %v", p, policy, err)
		}
		if err := info.UnmarshalText(i); err != nil || info != snp.PlatformInfo(n) {
			t.Errorf("%s is read as %v, %v", i, info, err)
		}
	}
	for _, s := range []string{"", "0", "0x", "30000", "0X1", "0x01", "0xA", "-0x1", "0x+1", "0x1_0", "0x10000000000000000", " 0x1", "0x1\n"} {
		var p snp.Policy
		if err := p.UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as %v", s, p)
		}
	}
}
