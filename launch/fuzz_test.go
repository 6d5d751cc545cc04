// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"crypto/elliptic"
	"testing"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
)

// FuzzFirmware measures images of any bytes: an error or a measurement, the same each time,
// and never a panic. A kernel is covered only if the image has a place for its hashes.
func FuzzFirmware(f *testing.F) {
	f.Add(launchtest.OVMF().Bytes(), uint16(2))
	for _, bad := range faults {
		i := launchtest.OVMF()
		bad.change(i)
		f.Add(i.Bytes(), uint16(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, n uint16) {
		c := guest(launchtest.OVMF())
		c.Firmware = bytes.NewReader(b)
		plain, err := launch.Measure(c, int(n%8))
		again, errAgain := launch.Measure(c, int(n%8))
		if (err == nil) != (errAgain == nil) || err == nil && plain[0] != again[0] {
			t.Errorf("measured twice: %v, %v", err, errAgain)
		}
		boot := directBoot(launchtest.OVMF())
		boot.Firmware = c.Firmware
		if with, errBoot := launch.Measure(boot, int(n%8)); errBoot == nil && (err != nil || with[0] == plain[0]) {
			t.Errorf("the kernel does not show in the measurement: %v", err)
		}
	})
}

// FuzzSVSM measures images of an SVSM of any bytes.
func FuzzSVSM(f *testing.F) {
	f.Add(launchtest.Coconut().Bytes(), int64(0x2000))
	for _, bad := range faults {
		if i := launchtest.Coconut(); !bad.ovmf {
			bad.change(i)
			f.Add(i.Bytes(), int64(0))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, vars int64) {
		c := underSVSM(launchtest.OVMF(), launchtest.Coconut())
		c.SVSM, c.VarsSize = bytes.NewReader(b), vars
		under, err := launch.Measure(c, 2)
		if err == nil && under[0].Digest == [launch.Size]byte{} {
			t.Error("a measurement of zeros")
		}
	})
}

// FuzzIDBlock reads blocks and authentication information of any bytes. What is accepted is
// written the same.
func FuzzIDBlock(f *testing.F) {
	for _, author := range []bool{false, true} {
		id := key(f, elliptic.P384())
		a, err := launch.SignIDBlock(nil, block(), id, nil)
		if author {
			a, err = launch.SignIDBlock(nil, block(), id, id)
		}
		if err != nil {
			f.Fatal(err)
		}
		f.Add(block().Bytes(), a.Bytes())
	}
	f.Fuzz(func(t *testing.T, rawBlock, rawAuth []byte) {
		b, err := launch.ParseIDBlock(rawBlock)
		if err == nil && !bytes.Equal(b.Bytes(), rawBlock) {
			t.Error("the block is written in another way")
		}
		a, errAuth := launch.ParseIDAuth(rawAuth)
		if errAuth != nil {
			return
		}
		if !bytes.Equal(a.Bytes(), rawAuth) {
			t.Error("the authentication information is written in another way")
		}
		if err == nil {
			_ = a.Verify(b) // does not panic
		}
	})
}

// FuzzParseCPU: what is accepted is a signature without reserved bits.
func FuzzParseCPU(f *testing.F) {
	for _, s := range []string{"EPYC-Genoa-v2", "0xa10f10", "10555152", "EPYC-v9", "-1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := launch.ParseCPU(text); err == nil && (s == 0 || s&0xF000F000 != 0) {
			t.Errorf("%q is %v", text, s)
		}
	})
}
