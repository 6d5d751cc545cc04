// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"fmt"
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
	switch p {
	case Milan:
		return "Milan"
	case Genoa:
		return "Genoa"
	case Turin:
		return "Turin"
	}
	return "unknown"
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
