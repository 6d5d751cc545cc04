// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"slices"
	"strings"
)

// VMM is the program of the host that launches the guest. Each gives processors its own
// registers.
type VMM string

// Programs of hosts.
const (
	QEMU VMM = "qemu" // QEMU with KVM
	EC2  VMM = "ec2"  // Amazon EC2
	GCE  VMM = "gce"  // Google Compute Engine
)

// VMMs returns the programs that this package knows.
func VMMs() []VMM { return []VMM{QEMU, EC2, GCE} }

// host is what a program of a host decides. The clouds publish no list of their values.
// These are from published tools: of EC2 from sev-snp-measure (sevsnpmeasure/vmsa.py and
// guest.py) and the library sev (src/measurement/vmsa.rs and snp.rs), which agree; of GCE
// from sev-snp-measure.
type host struct {
	firstCode, code    uint16 // attributes of cs: of a processor at the reset vector, and of another
	stack, task        uint16 // attributes of ss and tr
	pat                uint64
	edx                uint64 // in place of the signature of the processor, if not zero
	mxcsr              uint32
	fcw                uint16
	boots              bool // whether it boots a kernel directly
	cpuidLast          bool // whether the CPUID page comes after all sections
	memoryIsUnmeasured bool // whether memory is handed over as "unmeasured" instead of "zero"
}

var hosts = map[VMM]*host{
	QEMU: {firstCode: 0x9B, code: 0x9B, stack: 0x93, task: 0x8B, pat: resetPAT, mxcsr: resetMXCSR, fcw: resetFCW, boots: true},
	EC2:  {firstCode: 0x9A, code: 0x9B, stack: 0x92, task: 0x83, pat: resetPAT, edx: 0x600, cpuidLast: true},
	GCE:  {firstCode: 0x9B, code: 0x9B, stack: 0x93, task: 0x8B, pat: 0x00070106, edx: 0x600, memoryIsUnmeasured: true},
}

// host returns what the program decides.
func (v VMM) host() (*host, error) {
	if h := hosts[v]; h != nil {
		return h, nil
	}
	var names []string
	for _, known := range VMMs() {
		names = append(names, string(known))
	}
	return nil, fmt.Errorf("VMM %q is not known: want %s", v, strings.Join(names, ", "))
}

// UsesCPU reports whether the measurement depends on the signature of the processor.
func (v VMM) UsesCPU() bool { return hosts[v] != nil && hosts[v].edx == 0 }

// addSections extends the measurement by what an image asks for, in the order of the host.
func (h *host) addSections(d *digest, all []section, hashes *[pageSize]byte) {
	order := slices.Clone(all)
	if h.cpuidLast {
		slices.SortStableFunc(order, func(a, b section) int { return last(a) - last(b) })
	}
	for _, s := range order {
		switch {
		case s.kind == sectionHashes && hashes != nil:
			d.addBytes(pageNormal, s.address, hashes)
		case s.kind == sectionMemory && h.memoryIsUnmeasured:
			d.addBare(pageUnmeasured, s.address, s.size)
		case s.kind == sectionSecrets:
			d.addBare(pageSecrets, s.address, s.size)
		case s.kind == sectionCPUID:
			d.addBare(pageCPUID, s.address, s.size)
		default: // memory, calling area, and the page for hashes if there are none
			d.addBare(pageZero, s.address, s.size)
		}
	}
}

func last(s section) int {
	if s.kind == sectionCPUID {
		return 1
	}
	return 0
}
