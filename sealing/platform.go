// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// A Deriver asks the SNP firmware for the key of this guest on this chip.
type Deriver interface {
	// DeriveKey returns 32 bytes, which the caller overwrites. The TCB version is the
	// only choice there is: launch measurement, guest policy, that TCB and the VM
	// privilege level are always mixed in, and the root is always the VCEK (SNP
	// firmware ABI, MSG_KEY_REQ: guest_field_select bits 0, 3 and 5, KEY_SEL 1). A
	// firmware status other than zero is an error, and an all-zero key that is
	// noticed there already is [BadDerivedKey].
	DeriveKey(ctx context.Context, tcb uint64) ([]byte, error)
}

// A Platform is a machine with SNP: it derives keys and says what its report says.
type Platform interface {
	Deriver
	// Reading asks for a report. What it says is used to explain, never to decide
	// who gets a key: a key that was derived for other values is another key.
	Reading(ctx context.Context) (Reading, error)
}

// Reading is what a report says of the guest, as far as it goes into the key.
type Reading struct {
	ChipID      [64]byte // zero where the host masks it
	Measurement [48]byte // of the launch
	GuestPolicy uint64
	TCB         TCB // committed: the highest that can be asked for
	VMPL        uint32
}

// TCB is a TCB_VERSION: its eight bytes in the order in which they stand in a
// report. Which component each byte is depends on the product; all are security
// version numbers or reserved and zero, so that they are compared one by one.
type TCB [8]byte

// TCBOf is the TCB of the little-endian number v.
func TCBOf(v uint64) (t TCB) {
	binary.LittleEndian.PutUint64(t[:], v)
	return t
}

// Uint64 is t as a little-endian number, as [Deriver] takes it.
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

// String is t in hexadecimal, in the order of the report.
func (t TCB) String() string { return hex.EncodeToString(t[:]) }

// explain says how the machine differs from how it was at sealing; nil where it does not.
func explain(was, is Reading) *Error {
	switch {
	case was.ChipID != is.ChipID:
		return &Error{Code: OtherChip, Field: "chip-id", Detail: fmt.Sprintf(
			"hardware changed: sealed on chip %s, this is chip %s; the data is untouched and opens there, or here with the recovery identity",
			short(was.ChipID[:]), short(is.ChipID[:]))}
	case was.Measurement != is.Measurement:
		return &Error{Code: OtherMeasurement, Field: "measurement", Detail: fmt.Sprintf(
			"sealed under launch measurement %s, this guest was launched as %s; boot the former, or use the recovery identity",
			short(was.Measurement[:]), short(is.Measurement[:]))}
	case was.GuestPolicy != is.GuestPolicy:
		return &Error{Code: GuestPolicyChanged, Field: "guest-policy", Detail: fmt.Sprintf(
			"sealed under guest policy 0x%x, this guest was launched under 0x%x; relaunch it under the former, or use the recovery identity",
			was.GuestPolicy, is.GuestPolicy)}
	case was.VMPL != is.VMPL:
		return &Error{Code: OtherVMPL, Field: "vmpl", Detail: fmt.Sprintf(
			"sealed at VMPL %d, the agent now runs at VMPL %d", was.VMPL, is.VMPL)}
	case !was.TCB.AtMost(is.TCB):
		return &Error{Code: TCBBelow, Field: "tcb", Detail: fmt.Sprintf(
			"sealed under TCB %s, the firmware here is committed to %s, which is lower in a component; update the firmware, or use the recovery identity",
			was.TCB, is.TCB)}
	}
	return nil
}

// short is the beginning of b in hexadecimal, enough for people to compare.
func short(b []byte) string {
	if len(b) <= 8 {
		return hex.EncodeToString(b)
	}
	return hex.EncodeToString(b[:8]) + "…"
}
