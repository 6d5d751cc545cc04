// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"
	"slices"
	"time"
)

// Faults are what can go wrong between guest and firmware. All may be switched
// while the platform runs; see [Platform.SetFaults].
type Faults struct {
	Throttle        time.Duration // least time between answers; the kernel waits, and gives up after a minute
	Busy            bool          // the host refuses each request as one too many
	Stall           bool          // no answer until this is switched off
	KeyWiped        bool          // the guest's message key is lost
	WrongVMPL       bool          // the report names the next VMPL
	WrongReportData bool          // the report carries other report data
	GarbageTable    bool          // the certificate table points out of itself
	NoTable         bool          // the certificate table is empty
	HugeTable       bool          // the host wants a gigabyte for its table
	GrownTable      bool          // the host wants one page more than the kernel takes today
	ShortReport     bool          // the answer says another size
	ZeroKey         bool          // the derived key is all zero
	ConstantKey     bool          // every request gets the same key
	IgnoredFields   uint64        // derived keys do not depend on these fields (GUEST_FIELD_SELECT)
	IgnoredVMPL     bool          // nor on the VMPL
	IgnoredRoot     bool          // nor on the root
	Status          uint32        // the firmware answers with this status
	FirmwareError   uint32        // the kernel fails with this firmware status
}

// kernelPatience is how long Linux tries against a host that throttles
// (SNP_REQ_MAX_RETRY_DURATION).
const kernelPatience = 60 * time.Second

// misread returns MSG_KEY_REQ as a firmware reads it that ignores parts of it.
func (f Faults) misread(request []byte, own uint32) []byte {
	b, le := slices.Clone(request), binary.LittleEndian
	if f.ConstantKey {
		clear(b)
		le.PutUint32(b[16:], own)
	}
	le.PutUint64(b[8:], le.Uint64(b[8:])&^f.IgnoredFields)
	if f.IgnoredVMPL {
		le.PutUint32(b[16:], own)
	}
	if f.IgnoredRoot {
		le.PutUint32(b[0:], 1<<1)
	}
	return b
}

// Fields returns the names of what a derived key can depend on, as [Faults] counts them.
func Fields() map[string]uint64 {
	return map[string]uint64{"policy": mixPolicy, "image-id": mixImageID, "family-id": mixFamilyID,
		"measurement": mixMeasurement, "guest-svn": mixGuestSVN, "tcb": mixTCB}
}
