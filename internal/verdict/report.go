// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"fmt"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// GuestPolicy says what a guest policy allows and requires, the dangerous first.
func GuestPolicy(p snp.Policy) []string {
	var out []string
	for _, b := range []struct {
		mask       snp.Policy
		set, clear string
	}{
		{snp.PolicyDebug, "DEBUG: the host may read and write the guest's memory", "no debugging by the host"},
		{snp.PolicyMigrationAgent, "MIGRATION AGENT: the guest's state can move to another machine", "no migration agent"},
		{snp.PolicySMT, "simultaneous multithreading allowed", "simultaneous multithreading forbidden"},
		{snp.PolicySingleSocket, "one socket only", ""},
		{snp.PolicyCXL, "CXL devices and memory allowed", ""},
		{snp.PolicyAES256XTS, "AES-256-XTS required", ""},
		{snp.PolicyRAPLDisabled, "power measurement (RAPL) must be off", ""},
		{snp.PolicyCiphertextHiding, "ciphertext hiding required", ""},
		{snp.PolicyPageSwapDisabled, "page swap must be off", ""},
	} {
		text := b.clear
		if p.Has(b.mask) {
			text = b.set
		}
		if text != "" {
			out = append(out, text)
		}
	}
	out = append(out, fmt.Sprintf("firmware ABI %d.%d or later", p.ABIMajor(), p.ABIMinor()))
	if err := p.Wellformed(); err != nil {
		out = append(out, err.Error())
	}
	return out
}

// Platform says how the platform runs.
func Platform(i snp.PlatformInfo) []string {
	var out []string
	for _, b := range []struct {
		mask snp.PlatformInfo
		set  string
	}{
		{snp.PlatformSMT, "simultaneous multithreading is on"},
		{snp.PlatformTSME, "transparent memory encryption is on"},
		{snp.PlatformECC, "memory is error correcting"},
		{snp.PlatformRAPLDisabled, "power measurement (RAPL) is off"},
		{snp.PlatformCiphertextHiding, "ciphertext hiding is on"},
		{snp.PlatformAliasCheck, "no aliasing addresses since reset"},
		{snp.PlatformTIO, "trusted I/O is on"},
	} {
		if i.Has(b.mask) {
			out = append(out, b.set)
		}
	}
	if r := i.Reserved(); r != 0 {
		out = append(out, fmt.Sprintf("bits of unknown meaning: %v", r))
	}
	return out
}
