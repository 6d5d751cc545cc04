// SPDX-License-Identifier: Apache-2.0

package registers

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxProperties caps the PCR properties that a TPM may report. TPM_PT_PCR has 20
// values (TPM 2.0 Part 2, section 6.14).
const maxProperties = 64

// resets are the properties of PCRs that software can set back to their start value, by
// TPM2_PCR_Reset at a locality or by a D-RTM event.
var resets = []struct {
	tag tpm2.TPMPTPCR
	how string
}{
	{tpm2.TPMPTPCRResetL0, "TPM2_PCR_Reset at locality 0"},
	{tpm2.TPMPTPCRResetL1, "TPM2_PCR_Reset at locality 1"},
	{tpm2.TPMPTPCRResetL2, "TPM2_PCR_Reset at locality 2"},
	{tpm2.TPMPTPCRResetL3, "TPM2_PCR_Reset at locality 3"},
	{tpm2.TPMPTPCRResetL4, "TPM2_PCR_Reset at locality 4"},
	{tpm2.TPMPTPCRDRTMRest, "a D-RTM event"},
}

// IndexError says why a PCR cannot have a measurement log.
type IndexError struct {
	Index  uint32 // PCR that was asked for
	Reason string // property that rules it out
}

func (e *IndexError) Error() string {
	return fmt.Sprintf("PCR %d cannot have the measurement log: %s: choose another (the default is 14)", e.Index, e.Reason)
}

// CheckIndex reports with an [*IndexError] why a PCR cannot have a measurement log.
// Software at locality 0 must be able to extend the PCR, no software may be able to reset
// it, and it must be in every active bank. An attacker who can reset the PCR can replay
// any log into it. The answers are the TPM's own. PCRs after [pcr.LastStatic] are refused
// whatever the TPM says, because no verifier accepts a log in them.
func CheckIndex(t transport.TPM, index uint32) error {
	if index >= pcr.Count {
		return &IndexError{index, fmt.Sprintf("the last PCR is %d", pcr.Count-1)}
	}
	props, err := properties(t)
	if err != nil {
		return fmt.Errorf("check PCR %d: %w", index, err)
	}
	extend, ok := props[tpm2.TPMPTPCRExtendL0]
	if !ok {
		return &IndexError{index, "the TPM does not say which PCRs locality 0 can extend"}
	}
	if !slices.Contains(extend, index) {
		return &IndexError{index, "locality 0 cannot extend it"}
	}
	if _, ok := props[tpm2.TPMPTPCRResetL0]; !ok {
		return &IndexError{index, "the TPM does not say which PCRs locality 0 can reset"}
	}
	for _, r := range resets {
		if slices.Contains(props[r.tag], index) {
			return &IndexError{index, r.how + " sets it back"}
		}
	}
	if index > pcr.LastStatic {
		return &IndexError{index, fmt.Sprintf("verifiers accept no log in a PCR after %d, whatever this TPM says about it", pcr.LastStatic)}
	}
	banks, err := allocation(t)
	if err != nil {
		return fmt.Errorf("check PCR %d: %w", index, err)
	}
	for _, b := range banks {
		if !slices.Contains(b.PCRs, index) {
			return &IndexError{index, "bank " + b.Algorithm.String() + " is active without it"}
		}
	}
	return nil
}

// properties reads which PCRs have each property (TPM 2.0 Part 2, section 10.8.3,
// TPMS_TAGGED_PCR_SELECT).
func properties(t transport.TPM) (map[tpm2.TPMPTPCR][]uint32, error) {
	props := make(map[tpm2.TPMPTPCR][]uint32)
	next := uint32(tpm2.TPMPTPCRSave)
	for {
		rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRProperties, Property: next, PropertyCount: maxProperties}.Execute(t)
		if err != nil {
			return nil, fmt.Errorf("read PCR properties: %w", err)
		}
		list, err := rsp.CapabilityData.Data.PCRProperties()
		if err != nil {
			return nil, fmt.Errorf("read PCR properties: %w", err)
		}
		for _, p := range list.PCRProperty {
			if uint32(p.Tag) < next || len(props) >= maxProperties {
				return nil, fmt.Errorf("read PCR properties: TPM lists property 0x%x out of order", uint32(p.Tag))
			}
			pcrs, err := tpmwire.PCRs(p.PCRSelect)
			if err != nil {
				return nil, fmt.Errorf("read PCR properties: property 0x%x: %w", uint32(p.Tag), err)
			}
			props[p.Tag] = pcrs
			next = uint32(p.Tag) + 1
		}
		if !rsp.MoreData || len(list.PCRProperty) == 0 {
			return props, nil
		}
	}
}
