// SPDX-License-Identifier: Apache-2.0

package launch

// Bounds of what this package reads and computes.
const (
	// MaxFirmware is the largest image of a firmware in bytes. QEMU loads none that is
	// larger: it would reach down to the interrupt controllers (QEMU, hw/i386/pc.c,
	// pc_machine_set_max_fw_size).
	MaxFirmware = 16 << 20
	// MaxSVSM is the largest image of an SVSM in bytes.
	MaxSVSM = 16 << 20
	// MaxVars is the largest size of the firmware's variables in bytes.
	MaxVars = 16 << 20
	// MaxBoot is the largest kernel or initrd in bytes. QEMU hands sizes to the firmware
	// as 32-bit numbers (QEMU, include/standard-headers/linux/qemu_fw_cfg.h).
	MaxBoot = 1<<32 - 1
	// MaxCommandLine is the longest command line in bytes. Linux uses the first 2,047
	// (Linux, arch/x86/include/asm/setup.h, COMMAND_LINE_SIZE), and other kernels may
	// use more.
	MaxCommandLine = 1 << 16
	// MaxVCPUs is the largest number of processors of a guest (Linux, arch/x86/kvm/Kconfig,
	// KVM_MAX_NR_VCPUS; QEMU, hw/i386/pc_q35.c, max_cpus).
	MaxVCPUs = 4096
	// MaxCounts is how many numbers of processors one call measures.
	MaxCounts = 64

	maxSections    = 64        // of an image; OVMF has fewer than ten
	maxSectionSize = 256 << 20 // of all sections together
)
