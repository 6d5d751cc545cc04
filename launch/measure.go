// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
	"slices"
)

const fourGiB = 1 << 32

// FeatureSNPActive is the bit of SEV_FEATURES that every SEV-SNP guest has (APM, appendix
// B, SEV_FEATURES).
const FeatureSNPActive = 1

// ErrNoHashTable is returned for a kernel with firmware that has no place for its hashes.
// Such firmware boots any kernel that the host hands to it.
var ErrNoHashTable = errors.New("the firmware has no place for the hashes of kernel, initrd and command line, so the measurement cannot cover them: use firmware built for direct boot (OvmfPkg/AmdSev), or leave out the kernel")

// Config is what a guest is launched with.
type Config struct {
	VMM      VMM
	Firmware Source // OVMF, as the host loads it: it ends at 4 GiB

	// Kernel, Initrd and CommandLine are what QEMU boots directly, with
	// kernel-hashes=on. Without a kernel the measurement covers the firmware alone.
	Kernel      Source
	Initrd      Source
	CommandLine string // without its NUL

	CPU           Signature // needed for QEMU, see [VMM.UsesCPU]
	GuestFeatures uint64    // SEV_FEATURES of all processors; 0 means [FeatureSNPActive]

	// SVSM is the image of an SVSM (COCONUT's svsm.bin) that QEMU loads below the
	// firmware and its variables, of VarsSize bytes.
	SVSM     Source
	VarsSize int64

	// SVSMVouches says that the caller knows how the SVSM was built: that nothing else than its
	// vTPM speaks through the reports of VMPL 0 (docs/machines/svsm.md). The file does not show it.
	SVSMVouches bool
}

// Measurement is the launch measurement of a guest with a number of processors.
type Measurement struct {
	VCPUs  int
	Digest [Size]byte // MEASUREMENT of its reports
}

// Kind returns what a policy calls this launch: "plain", which claims nothing, or "svsm" if
// [Config.SVSMVouches] says so of the SVSM.
func (c *Config) Kind() string {
	if c.SVSM != nil && c.SVSMVouches {
		return "svsm"
	}
	return "plain"
}

// Covers returns what the measurement covers, in the words of a policy.
func (c *Config) Covers() string {
	if c.Kernel != nil {
		return "firmware+kernel+cmdline"
	}
	return "firmware"
}

// Measure returns the measurements for different numbers of processors, in the order in
// which they were given.
func Measure(c *Config, vcpus ...int) ([]Measurement, error) {
	if err := checkCounts(vcpus); err != nil {
		return nil, err
	}
	h, err := c.check()
	if err != nil {
		return nil, err
	}
	var d digest
	first, other, err := c.addImages(&d, h)
	if err != nil {
		return nil, err
	}
	// A guest with more processors has the same chain and goes on with it.
	after := map[int]digest{}
	for n := 1; n <= slices.Max(vcpus); n++ {
		page := other
		if n == 1 {
			page = first
		}
		d.addBytes(pageVMSA, vmsaAddress, (*[pageSize]byte)(page))
		if slices.Contains(vcpus, n) {
			after[n] = d
		}
	}
	out := make([]Measurement, len(vcpus))
	for i, n := range vcpus {
		out[i] = Measurement{n, after[n]}
	}
	return out, nil
}

func checkCounts(vcpus []int) error {
	if len(vcpus) == 0 || len(vcpus) > MaxCounts {
		return fmt.Errorf("%d numbers of processors, want 1 to %d", len(vcpus), MaxCounts)
	}
	for i, n := range vcpus {
		if n < 1 || n > MaxVCPUs {
			return fmt.Errorf("%d processors, want 1 to %d", n, MaxVCPUs)
		}
		if slices.Contains(vcpus[:i], n) {
			return fmt.Errorf("%d processors are given twice", n)
		}
	}
	return nil
}

// check refuses what no host launches.
func (c *Config) check() (*host, error) {
	h, err := c.VMM.host()
	if err != nil {
		return nil, err
	}
	switch {
	case c.Firmware == nil:
		return nil, errors.New("firmware is missing")
	case c.Kernel == nil && (c.Initrd != nil || c.CommandLine != ""):
		return nil, errors.New("initrd and command line are for direct boot: a kernel must be given too")
	case c.Kernel != nil && !h.boots:
		return nil, fmt.Errorf("%s does not boot a kernel directly: leave out the kernel", c.VMM)
	case c.SVSM == nil && c.VarsSize != 0:
		return nil, errors.New("the size of the variables counts only with an SVSM")
	case c.SVSM == nil && c.SVSMVouches:
		return nil, errors.New("there is no SVSM that could vouch for a vTPM: the kind of this launch is plain")
	case c.SVSM != nil && c.VMM != QEMU:
		return nil, fmt.Errorf("%s does not launch an SVSM: only QEMU does", c.VMM)
	case c.SVSM != nil && c.Kernel != nil:
		return nil, errors.New("with an SVSM a measurement covers no kernel: leave out the kernel")
	case c.GuestFeatures != 0 && c.GuestFeatures&FeatureSNPActive == 0:
		return nil, fmt.Errorf("guest features %#x without bit 0 are not those of an SEV-SNP guest", c.GuestFeatures)
	}
	if c.VMM.UsesCPU() {
		return h, c.CPU.check()
	}
	return h, nil
}

func (c *Config) features() uint64 {
	if c.GuestFeatures == 0 {
		return FeatureSNPActive
	}
	return c.GuestFeatures
}

// addImages extends the measurement by all that comes before the processors, and returns
// the registers of the first one and of the others.
func (c *Config) addImages(d *digest, h *host) (first, other *vmsa, err error) {
	f, err := parseFirmware(c.Firmware)
	if err != nil {
		return nil, nil, fmt.Errorf("firmware: %w", err)
	}
	if c.SVSM != nil {
		return c.addSVSM(d, h, f)
	}
	if err := checkSections(f.sections, []section{f.memory()}); err != nil {
		return nil, nil, fmt.Errorf("firmware: %w", err)
	}
	hashes, err := c.hashes(f)
	if err != nil {
		return nil, nil, err
	}
	if err := d.addImage(f.address, c.Firmware); err != nil {
		return nil, nil, fmt.Errorf("firmware: %w", err)
	}
	h.addSections(d, f.sections, hashes)
	return resetPage(h, resetVector, c.CPU, c.features()), resetPage(h, f.reset, c.CPU, c.features()), nil
}

// hashes returns the page with the hashes of what QEMU boots, nil without a kernel.
func (c *Config) hashes(f *firmware) (*[pageSize]byte, error) {
	if c.Kernel == nil {
		return nil, nil
	}
	s := find(f.sections, sectionHashes)
	if s == nil || f.hashes == (hashArea{}) {
		return nil, ErrNoHashTable
	}
	table, err := hashTable(c.Kernel, c.Initrd, c.CommandLine)
	if err != nil {
		return nil, err
	}
	page, err := f.hashes.place(table, s)
	if err != nil {
		return nil, fmt.Errorf("firmware: %w", err)
	}
	return page, nil
}

// addSVSM is addImages for a guest with an SVSM: firmware, SVSM, and the sections of the
// SVSM. All processors start in the SVSM, and it prepares what the firmware asks for.
func (c *Config) addSVSM(d *digest, h *host, f *firmware) (first, other *vmsa, err error) {
	if c.VarsSize < 0 || c.VarsSize > MaxVars || c.VarsSize%pageSize != 0 {
		return nil, nil, fmt.Errorf("variables of %d bytes: want whole pages of %d bytes, at most %d", c.VarsSize, pageSize, MaxVars)
	}
	s, err := parseSVSM(c.SVSM, f.address-uint64(c.VarsSize))
	if err == nil {
		err = checkSections(s.sections, []section{{address: s.address, size: fourGiB - s.address}})
	}
	if err != nil {
		return nil, nil, fmt.Errorf("SVSM: %w", err)
	}
	if err := d.addImage(f.address, c.Firmware); err != nil {
		return nil, nil, fmt.Errorf("firmware: %w", err)
	}
	if err := d.addImage(s.address, c.SVSM); err != nil {
		return nil, nil, fmt.Errorf("SVSM: %w", err)
	}
	h.addSections(d, s.sections, nil)
	page := svsmPage(s.start, c.CPU, c.features())
	return page, page, nil
}
