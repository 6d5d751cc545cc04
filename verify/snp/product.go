// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// Product is a line of processors that shares a root, a certificate format and a
// layout of the TCB version.
type Product uint8

// The lines whose reports this package verifies.
const (
	ProductUnknown Product = iota
	Milan                  // family 0x19, models 0x00 to 0x0F
	Genoa                  // family 0x19, models 0x10 to 0x1F; Bergamo and Siena, 0xA0 to 0xAF
	Turin                  // family 0x1A, models 0x00 to 0x1F
)

// Products lists the lines, oldest first.
func Products() []Product { return []Product{Milan, Genoa, Turin} }

// String returns the name that AMD's key distribution service uses: "Milan", "Genoa", "Turin".
func (p Product) String() string {
	return cmp.Or(map[Product]string{Milan: "Milan", Genoa: "Genoa", Turin: "Turin"}[p], "unknown")
}

// ParseProduct returns the line of that name, in the capitalisation of String.
func ParseProduct(name string) (Product, error) {
	for _, p := range Products() {
		if p.String() == name {
			return p, nil
		}
	}
	return ProductUnknown, refuse(CodeProductUnknown, "product name").found("%q", name).want("Milan, Genoa or Turin")
}

// parseProductName parses the productName extension (KDS, table "VCEK certificate
// extensions"): the line, and in some VCEKs a stepping as in "Milan-B0". The
// stepping is not used: certificates were issued with a wrong one.
func parseProductName(name string) (Product, error) {
	line, stepping, cut := strings.Cut(name, "-")
	if cut && !isStepping(stepping) {
		return ProductUnknown, refuse(CodeProductUnknown, "product name").found("%q", name).want("a stepping such as B1 after the dash")
	}
	return ParseProduct(line)
}

func isStepping(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= '0' && s[1] <= '9'
}

// CPU identifies a processor as CPUID function 1 does: family and model with
// their extended parts added, and stepping.
type CPU struct {
	Family   uint8 // 0x19, 0x1A
	Model    uint8
	Stepping uint8
}

func (c CPU) String() string {
	return fmt.Sprintf("family 0x%02x model 0x%02x stepping %d", c.Family, c.Model, c.Stepping)
}

// Product returns the line of c, [ProductUnknown] if it is not known.
func (c CPU) Product() Product {
	switch {
	case c.Family == 0x19 && c.Model <= 0x0F:
		return Milan
	case c.Family == 0x19 && (c.Model >= 0x10 && c.Model <= 0x1F || c.Model >= 0xA0 && c.Model <= 0xAF):
		return Genoa
	case c.Family == 0x1A && c.Model <= 0x1F:
		return Turin
	}
	return ProductUnknown
}

// TCB is a TCB_VERSION: eight security patch levels, one byte each, byte 0 the
// least significant (ABI, section "TCB_VERSION"). The meaning of each byte
// depends on the processor: see [TCB.Components]. Two TCBs must never be compared
// as integers: a newer microcode would hide an older firmware.
type TCB uint64

func (t TCB) String() string { return fmt.Sprintf("0x%016x", uint64(t)) }

// Bytes returns the eight levels, byte 0 first.
func (t TCB) Bytes() [8]byte {
	return [8]byte(binary.LittleEndian.AppendUint64(nil, uint64(t)))
}

// Component is one security patch level of a TCB.
type Component string

// The components, in the words of the specification.
const (
	FMC        Component = "fmc" // Turin only
	BootLoader Component = "bootloader"
	TEE        Component = "tee"
	SNP        Component = "snp"
	Microcode  Component = "microcode"
)

// place says which component a byte of a TCB is, and under which number the certificate
// carries it: 1.3.6.1.4.1.3704.1.3.N (KDS, table "VCEK certificate extensions").
type place struct {
	component Component // "" for a reserved byte
	oid       int
}

// layouts has one row for each of the eight bytes, byte 0 first.
var layouts = map[Product][8]place{
	Milan: milanLayout,
	Genoa: milanLayout,
	Turin: {
		{FMC, 9}, {BootLoader, 1}, {TEE, 2}, {SNP, 3}, {"", 5}, {"", 6}, {"", 7}, {Microcode, 8},
	},
}

var milanLayout = [8]place{
	{BootLoader, 1}, {TEE, 2}, {"", 4}, {"", 5}, {"", 6}, {"", 7}, {SNP, 3}, {Microcode, 8},
}

// Level is one component and its value.
type Level struct {
	Component Component
	Value     uint8
}

// Components returns the levels that p defines, and the bytes that p reserves if any of
// those is not zero (0 otherwise): an unknown level that policy decides upon.
func (t TCB) Components(p Product) (levels []Level, reserved TCB, err error) {
	layout, ok := layouts[p]
	if !ok {
		return nil, 0, refuse(CodeTCBLayout, "TCB layout").found("product %v", p).want("Milan, Genoa or Turin")
	}
	b := t.Bytes()
	for i, l := range layout {
		if l.component == "" {
			reserved |= TCB(b[i]) << (8 * i)
			continue
		}
		levels = append(levels, Level{l.component, b[i]})
	}
	return levels, reserved, nil
}

// ComposeTCB puts levels into the layout of p. Components that p does not have,
// and ones given twice, are errors; those left out are 0.
func ComposeTCB(p Product, levels []Level) (TCB, error) {
	layout, ok := layouts[p]
	if !ok {
		return 0, refuse(CodeTCBLayout, "TCB layout").found("product %v", p).want("Milan, Genoa or Turin")
	}
	var t TCB
	seen := map[Component]bool{}
	for _, level := range levels {
		i := slices.IndexFunc(layout[:], func(l place) bool { return l.component == level.Component })
		if i < 0 || level.Component == "" {
			return 0, refuse(CodeTCBLayout, "TCB component").found("%q", level.Component).want("one that %v has", p)
		}
		if seen[level.Component] {
			return 0, refuse(CodeTCBLayout, "TCB component %q given twice", level.Component)
		}
		seen[level.Component] = true
		t |= TCB(level.Value) << (8 * i)
	}
	return t, nil
}

// AtLeast checks that no component of t is below floor, each compared by itself.
func (t TCB) AtLeast(p Product, floor []Level) error {
	have, _, err := t.Components(p)
	if err != nil {
		return err
	}
	for _, f := range floor {
		i := slices.IndexFunc(have, func(l Level) bool { return l.Component == f.Component })
		if i < 0 {
			return refuse(CodeTCBLayout, "TCB floor %q", f.Component).want("a component that %v has", p)
		}
		if v := have[i].Value; v < f.Value {
			return refuse(CodeTCBFloor, "TCB component %s", f.Component).found("%d", v).want("at least %d", f.Value)
		}
	}
	return nil
}
