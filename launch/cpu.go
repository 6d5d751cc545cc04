// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Signature is EAX of CPUID function 1: family, model and stepping of a processor as the
// guest sees it (CPUID, section "CPUID Fn0000_0001_EAX").
type Signature uint32

// reservedSignature are bits of a signature that are zero.
const reservedSignature = 0xF000F000

// NewSignature returns the signature of a processor. A family of 15 and more is the sum of
// two fields, of 4 and 8 bits; a model has 8 bits in two fields.
func NewSignature(family, model, stepping int) (Signature, error) {
	if family < 0 || family > 0xF+0xFF || model < 0 || model > 0xFF || stepping < 0 || stepping > 0xF {
		return 0, fmt.Errorf("family %d, model %d, stepping %d: want at most %d, %d and %d", family, model, stepping, 0xF+0xFF, 0xFF, 0xF)
	}
	low, high := min(family, 0xF), max(family-0xF, 0)
	return Signature(high<<20 | model>>4<<16 | low<<8 | model&0xF<<4 | stepping), nil
}

// String returns the signature as a number.
func (s Signature) String() string { return fmt.Sprintf("%#x", uint32(s)) }

// check refuses numbers that no processor has.
func (s Signature) check() error {
	switch {
	case s == 0:
		return errors.New("the signature of the processor is missing: QEMU gives it to the guest at reset")
	case s&reservedSignature != 0:
		return fmt.Errorf("CPU signature %s has bits that are reserved: it is EAX of CPUID function 1", s)
	}
	return nil
}

// model is a CPU model of QEMU: all versions of it have one signature.
type model struct {
	name      string
	versions  int
	signature Signature
}

// models are the CPU models of QEMU 10.1 for AMD's servers (QEMU, target/i386/cpu.c,
// builtin_x86_defs).
var models = []model{
	{"EPYC", 5, 0x800F12},       // family 23, model 1, stepping 2
	{"EPYC-IBPB", 0, 0x800F12},  // an older name of EPYC-v2
	{"EPYC-Rome", 5, 0x830F10},  // family 23, model 49, stepping 0
	{"EPYC-Milan", 3, 0xA00F11}, // family 25, model 1, stepping 1
	{"EPYC-Genoa", 2, 0xA10F10}, // family 25, model 17, stepping 0
	{"EPYC-Turin", 1, 0xB00F00}, // family 26, model 0, stepping 0
}

// CPUs returns the names of CPU models, with their versions, sorted.
func CPUs() []string {
	var out []string
	for _, m := range models {
		out = append(out, m.name)
		for v := 1; v <= m.versions; v++ {
			out = append(out, fmt.Sprintf("%s-v%d", m.name, v))
		}
	}
	slices.Sort(out)
	return out
}

// ParseCPU returns the signature for the name of a CPU model of QEMU, or for a number in
// decimal or, after 0x, hexadecimal form.
func ParseCPU(text string) (Signature, error) {
	for _, m := range models {
		if text == m.name {
			return m.signature, nil
		}
		if v, found := strings.CutPrefix(text, m.name+"-v"); found {
			for n := 1; n <= m.versions; n++ {
				if v == strconv.Itoa(n) {
					return m.signature, nil
				}
			}
		}
	}
	n, err := strconv.ParseUint(text, 0, 32)
	if err != nil || strings.ContainsAny(text, "_") || strings.HasPrefix(text, "0") && !strings.HasPrefix(text, "0x") {
		return 0, fmt.Errorf("CPU %q is neither a model such as EPYC-Genoa nor a signature such as 0xa10f10", text)
	}
	s := Signature(n)
	return s, s.check()
}
