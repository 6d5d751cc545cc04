// SPDX-License-Identifier: Apache-2.0

package registers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxListed caps the banks that a TPM may report. The algorithm registry has ten
// hash algorithms; a TPM that lists more than this is broken or lies.
const maxListed = 16

// toolNames are the names that tpm2_pcrallocate takes for banks that package pcr cannot
// hash (TCG Algorithm Registry, table 3).
var toolNames = map[tpm2.TPMAlgID]string{
	0x0012: "sm3_256",
	0x0027: "sha3_256",
	0x0028: "sha3_384",
	0x0029: "sha3_512",
}

// UnknownBankError reports an active bank that package pcr cannot hash. Such a bank would
// stay at its start value while the other banks change. An attacker could then quote that
// bank alone and claim that nothing ran. So such a TPM is refused.
type UnknownBankError struct {
	Unknown []tpm2.TPMAlgID // active banks that cannot be hashed
	Active  []pcr.Algorithm // active banks that can be hashed
}

func (e *UnknownBankError) Error() string {
	var names []string
	for _, a := range e.Unknown {
		names = append(names, bankName(a))
	}
	return fmt.Sprintf("PCR bank %s is active, and this program cannot extend it: deallocate it with %q as root and reboot",
		strings.Join(names, ", "), e.Command())
}

// Command returns the command of tpm2-tools that deallocates the unknown banks and keeps
// the known ones. If no known bank is active, it allocates SHA-256.
func (e *UnknownBankError) Command() string {
	keep := e.Active
	if len(keep) == 0 {
		keep = []pcr.Algorithm{pcr.SHA256}
	}
	var parts []string
	for _, a := range keep {
		parts = append(parts, a.String()+":all")
	}
	for _, a := range e.Unknown {
		parts = append(parts, bankName(a)+":none")
	}
	return "tpm2_pcrallocate " + strings.Join(parts, "+")
}

func bankName(a tpm2.TPMAlgID) string {
	if n, ok := toolNames[a]; ok {
		return n
	}
	return fmt.Sprintf("0x%x", uint16(a))
}

// ActiveBanks returns the banks that have at least one PCR, in the order in which the
// TPM reports them. If one of them cannot be hashed, the error is an [*UnknownBankError].
func ActiveBanks(t transport.TPM) ([]pcr.Algorithm, error) {
	banks, err := allocation(t)
	if err != nil {
		return nil, err
	}
	active := make([]pcr.Algorithm, 0, len(banks))
	for _, b := range banks {
		active = append(active, b.Algorithm)
	}
	return active, nil
}

// allocation returns the active banks and the PCRs in each of them.
func allocation(t transport.TPM) (pcr.Selection, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read active PCR banks: %w", err)
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("read active PCR banks: %w", err)
	}
	if n := len(list.PCRSelections); n > maxListed {
		return nil, fmt.Errorf("read active PCR banks: TPM lists %d banks, want at most %d", n, maxListed)
	}
	var s pcr.Selection
	unknown := new(UnknownBankError)
	for _, b := range list.PCRSelections {
		pcrs, err := tpmwire.PCRs(b.PCRSelect)
		if err != nil {
			// No PC Client TPM that this program can extend in full has PCRs after the last.
			return nil, fmt.Errorf("read active PCR banks: bank %s: %w", bankName(b.Hash), err)
		}
		alg := pcr.Algorithm(b.Hash)
		switch {
		case len(pcrs) == 0: // implemented, not active
		case alg.Size() == 0:
			unknown.Unknown = append(unknown.Unknown, b.Hash)
		case slices.Contains(unknown.Active, alg):
			return nil, fmt.Errorf("read active PCR banks: TPM lists bank %s twice", alg)
		default:
			unknown.Active = append(unknown.Active, alg)
			s = append(s, pcr.BankSelection{Algorithm: alg, PCRs: pcrs})
		}
	}
	if len(unknown.Unknown) > 0 {
		return nil, unknown
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("read active PCR banks: no bank is active: allocate one with %q as root and reboot", "tpm2_pcrallocate sha256:all")
	}
	return s, nil
}

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
	return fmt.Sprintf("PCR %d cannot have the measurement log: %s: choose another (the default is 13)", e.Index, e.Reason)
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
