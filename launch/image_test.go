// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
)

// guest returns what a guest with an image is launched with.
func guest(i *launchtest.Image) *launch.Config {
	return &launch.Config{VMM: launch.QEMU, Firmware: bytes.NewReader(i.Bytes()), CPU: 0xA10F10}
}

// directBoot is guest with a kernel, an initrd and a command line.
func directBoot(i *launchtest.Image) *launch.Config {
	c := guest(i)
	c.Kernel, c.Initrd, c.CommandLine = strings.NewReader("kernel"), strings.NewReader("initrd"), "root=/dev/vda ro"
	return c
}

// underSVSM is guest with an SVSM.
func underSVSM(firmware, svsm *launchtest.Image) *launch.Config {
	c := guest(firmware)
	c.SVSM, c.VarsSize = bytes.NewReader(svsm.Bytes()), 0x2000
	return c
}

// measured returns the measurements as text.
func measured(tb testing.TB, c *launch.Config, vcpus ...int) (out []string) {
	tb.Helper()
	all, err := launch.Measure(c, vcpus...)
	if err != nil {
		tb.Fatal(err)
	}
	for _, m := range all {
		out = append(out, hex.EncodeToString(m.Digest[:]))
	}
	return out
}
