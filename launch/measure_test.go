// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/internal/launchtest"
	"github.com/cvm-agentd/agentd/launch"
)

// TestKnownAnswers compares measurements of images made here with those that another tool,
// sev-snp-measure 0.0.13, computed for the same bytes.
func TestKnownAnswers(t *testing.T) {
	on := func(v launch.VMM) *launch.Config {
		c := guest(launchtest.OVMF())
		c.VMM = v
		return c
	}
	withFeatures := directBoot(launchtest.OVMF())
	withFeatures.GuestFeatures = 0x21
	bare := directBoot(launchtest.OVMF())
	bare.Initrd, bare.CommandLine = nil, ""
	for _, c := range []struct {
		name   string
		config *launch.Config
		vcpus  int
		want   string
	}{
		{"qemu", on(launch.QEMU), 1, "212762c76cca5833303dbafa0093ade36989161138c8345736076134997ff49f678c65ad82003b19c631147ecf9109b0"},
		{"qemu", on(launch.QEMU), 3, "a8ef7517c83884026567f551f1b7aa59c36c39a3641830924d45d8718923797e9fcd3397b51c1ad2b0558570772ef10f"},
		{"ec2", on(launch.EC2), 1, "8370388a11d373e886e953a6c84332e1c9ce2b5c66b9327b72a96a8e3d2b049c0eed53356c45a4a1c6c12876df04038e"},
		{"ec2", on(launch.EC2), 3, "e017e13702012490d3420a8e336aeed2af269e97133c82d0c0a7cb051f9a364b39e285b972f3919aab27777aaf993718"},
		{"gce", on(launch.GCE), 1, "434a685e793b7f69375af5fc71cef021ce8bb15e09c7da510a0f7985159361c8f63e055839a7ce78730dbd0eaf376c2b"},
		{"gce", on(launch.GCE), 3, "421d491ba8ecdafe5397e5c7a1854f90a8fc7d6886244c859b89d0c6441dd5c08f112e48a9624126ea2e11f4ad13d82e"},
		{"direct boot", withFeatures, 2, "d4d0940cce47a60513e923c355c71b9d9caeacd6ebba71c0a9a38cb146b5c3e5908e960810901a3fc7bd4fdcb26b3ea7"},
		{"kernel alone", bare, 2, "64a4f7c88c974e44cc8c3a5a73ed5f6451163258b5acf851501a156a46c4c9cd0cac5b972f3f4e420dac821f6a24e9f2"},
		{"svsm", underSVSM(launchtest.OVMF(), launchtest.Coconut()), 1, "8b70fca78a2042c9bac5292fd74671bba7b1f9623d446efe1c95210e917ca3ff4a45d7f0ce34269252c63e169ee3edc0"},
		{"svsm", underSVSM(launchtest.OVMF(), launchtest.Coconut()), 3, "914b2ec0a914dda3b595cc920349a42bbc4543149860a6077ccbd237da21d9655b6dc363787966e83b2d54b05864e9a3"},
	} {
		if got := measured(t, c.config, c.vcpus)[0]; got != c.want {
			t.Errorf("%s, %d processors: got %s, want %s", c.name, c.vcpus, got, c.want)
		}
	}
}

// TestManyCounts: each number of processors of a list gets what it gets alone, in the order
// of the list.
func TestManyCounts(t *testing.T) {
	for _, c := range []*launch.Config{guest(launchtest.OVMF()), directBoot(launchtest.OVMF()), underSVSM(launchtest.OVMF(), launchtest.Coconut())} {
		counts := []int{8, 1, 2, launch.MaxVCPUs, 64}
		all, err := launch.Measure(c, counts...)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for i, n := range counts {
			alone := measured(t, c, n)[0]
			seen[alone] = true
			if all[i].VCPUs != n || alone != measured(t, c, counts...)[i] {
				t.Errorf("%d processors: a list gives another measurement", n)
			}
		}
		if len(seen) != len(counts) {
			t.Errorf("%d measurements for %d numbers of processors", len(seen), len(counts))
		}
	}
}

// TestEverythingCounts: each part of what is launched changes the measurement, and nothing
// else does: the signature of the processor on clouds.
func TestEverythingCounts(t *testing.T) {
	base := measured(t, directBoot(launchtest.OVMF()), 2)[0]
	cloud := func(cpu launch.Signature) *launch.Config {
		c := guest(launchtest.OVMF())
		c.VMM, c.CPU = launch.EC2, cpu
		return c
	}
	boot := func(change func(c *launch.Config, i *launchtest.Image)) string {
		i := launchtest.OVMF()
		c := directBoot(i)
		change(c, i)
		changed := directBoot(i)
		c.Firmware = changed.Firmware
		return measured(t, c, 2)[0]
	}
	changed := []string{
		boot(func(c *launch.Config, _ *launchtest.Image) { c.CPU = 0xA00F11 }),
		boot(func(c *launch.Config, _ *launchtest.Image) { c.GuestFeatures = 0x21 }),
		boot(func(c *launch.Config, _ *launchtest.Image) { c.CommandLine += " " }),
		boot(func(c *launch.Config, _ *launchtest.Image) { c.Initrd = nil }),
		boot(func(c *launch.Config, _ *launchtest.Image) { c.Kernel = c.Initrd }),
		boot(func(c *launch.Config, _ *launchtest.Image) { c.Kernel, c.Initrd, c.CommandLine = nil, nil, "" }),
		boot(func(_ *launch.Config, i *launchtest.Image) { i.Entries[0].Data[0]++ }),
		boot(func(_ *launch.Config, i *launchtest.Image) { i.Size += 0x1000 }),
		boot(func(_ *launch.Config, i *launchtest.Image) {
			i.Sections[1], i.Sections[2] = i.Sections[2], i.Sections[1]
		}),
		boot(func(_ *launch.Config, i *launchtest.Image) { i.Set(launchtest.GUIDReset, launchtest.Words(0x0080B008)) }),
		boot(func(_ *launch.Config, i *launchtest.Image) {
			i.Set(launchtest.GUIDHashTable, launchtest.Words(0x810C10, 0x3F0))
		}),
	}
	for i, m := range changed {
		if m == base || slices.Contains(changed[:i], m) {
			t.Errorf("change %d does not show", i)
		}
	}
	if measured(t, cloud(0xA00F11), 2)[0] != measured(t, cloud(0), 2)[0] || launch.EC2.UsesCPU() || !launch.QEMU.UsesCPU() {
		t.Error("EC2: the signature of the processor changes the measurement")
	}
	explicit := guest(launchtest.OVMF())
	explicit.GuestFeatures = launch.FeatureSNPActive
	if measured(t, explicit, 2)[0] != measured(t, guest(launchtest.OVMF()), 2)[0] {
		t.Error("guest features of 0 are not the default")
	}
	onHosts := map[string]bool{}
	for _, v := range launch.VMMs() {
		explicit.VMM = v
		onHosts[measured(t, explicit, 2)[0]] = true
	}
	if len(onHosts) != 3 {
		t.Errorf("%d measurements on 3 hosts", len(onHosts))
	}
	for _, c := range []struct {
		config       *launch.Config
		kind, covers string
	}{
		{guest(launchtest.OVMF()), "plain", "firmware"}, {directBoot(launchtest.OVMF()), "plain", "firmware+kernel+cmdline"}, {underSVSM(launchtest.OVMF(), launchtest.Coconut()), "plain", "firmware"},
		{vouched(underSVSM(launchtest.OVMF(), launchtest.Coconut())), "svsm", "firmware"}, {vouched(guest(launchtest.OVMF())), "plain", "firmware"},
	} {
		if c.config.Kind() != c.kind || c.config.Covers() != c.covers {
			t.Errorf("kind %s, covers %s, want %s and %s", c.config.Kind(), c.config.Covers(), c.kind, c.covers)
		}
	}
}

// vouched is a guest whose builder knows that its SVSM vouches for the vTPM.
func vouched(c *launch.Config) *launch.Config {
	c.SVSMVouches = true
	return c
}
