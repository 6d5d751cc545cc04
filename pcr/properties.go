// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// maxProperties caps the PCR properties that a TPM may report. TPM_PT_PCR has 20
// values (TPM 2.0 Part 2, section 6.14).
const maxProperties = 64

// resets are the properties that let somebody set a PCR back to its start value:
// TPM2_PCR_Reset at a locality, and a D-RTM event.
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

// IndexError says why a PCR cannot hold a measurement log.
type IndexError struct {
	Index  uint32
	Reason string
}

func (e *IndexError) Error() string {
	return fmt.Sprintf("PCR %d cannot hold the measurement log: %s: choose another, 14 by default", e.Index, e.Reason)
}

// CheckIndex reports with an [*IndexError] whether the PCR can hold a measurement
// log: it must be extendable at locality 0, where all software runs, no one may be
// able to reset it, and every active bank must hold it. Whoever can reset the PCR
// can replay a log of their choice into it. The answers are the TPM's own; PCRs beyond
// LastStatic are refused whatever it says, since no verifier takes a log in them.
func CheckIndex(t transport.TPM, index uint32) error {
	if index >= Count {
		return &IndexError{index, fmt.Sprintf("the last PCR is %d", Count-1)}
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
	if index > LastStatic {
		return &IndexError{index, fmt.Sprintf("whatever this TPM says of it, verifiers take no log in a PCR beyond %d", LastStatic)}
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

// properties reads which PCRs have which property (TPM 2.0 Part 2, section 10.8.3,
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
			pcrs, err := bitmap(p.PCRSelect)
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
