// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/launch"
)

// TestSignatures compares the signature of each model with its family, model and stepping
// in QEMU.
func TestSignatures(t *testing.T) {
	families := map[string][3]int{"EPYC": {23, 1, 2}, "EPYC-IBPB": {23, 1, 2}, "EPYC-Rome": {23, 49, 0}, "EPYC-Milan": {25, 1, 1}, "EPYC-Genoa": {25, 17, 0}, "EPYC-Turin": {26, 0, 0}}
	names := launch.CPUs()
	if !slices.IsSorted(names) || len(names) != 22 || !slices.Contains(names, "EPYC-v4") {
		t.Errorf("names: %v", names)
	}
	for _, name := range names {
		base, _, _ := strings.Cut(name, "-v")
		f, known := families[base]
		want, err := launch.NewSignature(f[0], f[1], f[2])
		if err != nil || !known {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := launch.ParseCPU(name); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, want)
		}
		if got, err := launch.ParseCPU(want.String()); err != nil || got != want {
			t.Errorf("%v: %v, %v", want, got, err)
		}
	}
	for _, c := range []struct {
		family, model, stepping int
		want                    launch.Signature
	}{{25, 160, 2, 0xAA0F02}, {6, 15, 1, 0x6F1}, {15, 0xFF, 0xF, 0xF0FFF}, {0xF + 0xFF, 0, 0, 0xFF00F00}} {
		if got, err := launch.NewSignature(c.family, c.model, c.stepping); err != nil || got != c.want {
			t.Errorf("%v: %v, %v", c, got, err)
		}
	}
	for _, c := range [][3]int{{-1, 0, 0}, {0x10F, 0, 0}, {25, -1, 0}, {25, 256, 0}, {25, 1, -1}, {25, 1, 16}} {
		if got, err := launch.NewSignature(c[0], c[1], c[2]); err == nil {
			t.Errorf("%v: %v", c, got)
		}
	}
	for text, words := range map[string]string{
		"": "neither", "host": "neither", "epyc-genoa": "neither", "EPYC-Genoa-v0": "neither", "EPYC-Genoa-v3": "neither", "EPYC-Genoa-v01": "neither", "EPYC-IBPB-v1": "neither", "EPYC-Genoa ": "neither",
		"-1": "neither", "0xg": "neither", "0x1_0": "neither", "017": "neither", "0b1": "neither", "4294967296": "neither", "0": "neither", "0x0": "missing", "0x80a10f10": "reserved", "0xa1ff10": "reserved",
	} {
		if got, err := launch.ParseCPU(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: %v, %v, want %q", text, got, err, words)
		}
	}
	if got, err := launch.ParseCPU("10555152"); err != nil || got != 0xA10F10 {
		t.Errorf("decimal: %v, %v", got, err)
	}
}
