// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
)

// Reading is the part of an attestation report that goes into a derived key.
type Reading struct {
	ChipID      [64]byte // CHIP_ID; zero if the host masks it
	Measurement [48]byte // MEASUREMENT of the launch
	GuestPolicy uint64   // POLICY
	TCB         TCB      // COMMITTED_TCB: the highest that a guest can ask for
	VMPL        uint32   // VM privilege level of the agent
}

// TCB is a TCB_VERSION: its eight bytes in the order of the report. Which component each
// byte is depends on the product. All are security version numbers, or reserved and zero,
// so they are compared one by one.
type TCB [8]byte

// TCBOf returns the TCB of the little-endian number v.
func TCBOf(v uint64) (t TCB) {
	binary.LittleEndian.PutUint64(t[:], v)
	return t
}

// Uint64 returns t as a little-endian number, as firmware takes it (MSG_KEY_REQ).
func (t TCB) Uint64() uint64 { return binary.LittleEndian.Uint64(t[:]) }

// AtMost reports whether no component of t is above that of u.
func (t TCB) AtMost(u TCB) bool {
	for i := range t {
		if t[i] > u[i] {
			return false
		}
	}
	return true
}

// String returns t in hexadecimal, in the order of the report.
func (t TCB) String() string { return hex.EncodeToString(t[:]) }

// Explain says how the machine of now differs from what the file claims of that at sealing,
// with the code of the first difference. It returns nil if a key derived now is the same.
// The blob did not open, so was is what its writer wrote there: it explains, and proves
// nothing.
func (was Reading) Explain(is Reading) *Error {
	switch {
	case was.ChipID != is.ChipID:
		return &Error{Code: api.CodeOtherChip, Field: "chip-id", Detail: fmt.Sprintf(
			"the file says that it was sealed on chip %s, this is chip %s; if so, it opens there", short(was.ChipID[:]), short(is.ChipID[:]))}
	case was.Measurement != is.Measurement:
		return &Error{Code: api.CodeOtherMeasurement, Field: "measurement", Detail: fmt.Sprintf(
			"the file says that it was sealed under launch measurement %s, this guest was launched as %s; boot with the first measurement",
			short(was.Measurement[:]), short(is.Measurement[:]))}
	case was.GuestPolicy != is.GuestPolicy:
		return &Error{Code: api.CodeGuestPolicyChanged, Field: "guest-policy", Detail: fmt.Sprintf(
			"the file says that it was sealed under guest policy 0x%x, this guest was launched under 0x%x; launch it under the first policy",
			was.GuestPolicy, is.GuestPolicy)}
	case was.VMPL != is.VMPL:
		return &Error{Code: api.CodeOtherVMPL, Field: "vmpl", Detail: fmt.Sprintf(
			"the file says that it was sealed at VMPL %d, the agent now runs at VMPL %d", was.VMPL, is.VMPL)}
	case !was.TCB.AtMost(is.TCB):
		return &Error{Code: api.CodeTCBBelow, Field: "tcb", Detail: fmt.Sprintf(
			"the file says that it was sealed under TCB %s, the firmware here is committed to %s, which is lower in a component; update the firmware",
			was.TCB, is.TCB)}
	}
	return nil
}

// short returns the beginning of b in hexadecimal, enough for people to compare.
func short(b []byte) string {
	if len(b) <= 8 {
		return hex.EncodeToString(b)
	}
	return hex.EncodeToString(b[:8]) + "…"
}
