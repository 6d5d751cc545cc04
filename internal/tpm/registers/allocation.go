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
