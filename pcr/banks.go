// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// maxListed caps the banks that a TPM may report. The algorithm registry knows ten
// hash algorithms; a TPM that lists more than this is broken or lies.
const maxListed = 16

// toolNames are the names that tpm2_pcrallocate takes for banks that this package
// cannot hash (TCG Algorithm Registry, table 3).
var toolNames = map[tpm2.TPMAlgID]string{
	0x0012: "sm3_256",
	0x0027: "sha3_256",
	0x0028: "sha3_384",
	0x0029: "sha3_512",
}

// UnknownBankError says that a bank is active which cannot be hashed here. It would
// stay at its start value while the others move, and whoever quotes that bank alone
// could claim that nothing ran. So such a TPM is refused.
type UnknownBankError struct {
	Unknown []tpm2.TPMAlgID // active, and not known
	Active  []Algorithm     // active, and known
}

func (e *UnknownBankError) Error() string {
	var names []string
	for _, a := range e.Unknown {
		names = append(names, bankName(a))
	}
	return fmt.Sprintf("PCR bank %s is active and cannot be extended by this program: deallocate it with %q as root and reboot",
		strings.Join(names, ", "), e.Command())
}

// Command is the command of tpm2-tools that deallocates the unknown banks and keeps
// the known ones, with SHA-256 where there is none.
func (e *UnknownBankError) Command() string {
	keep := e.Active
	if len(keep) == 0 {
		keep = []Algorithm{SHA256}
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

// ActiveBanks lists the banks that hold at least one PCR, in the order in which the
// TPM reports them. It fails with an [*UnknownBankError] where one of them cannot be
// hashed.
func ActiveBanks(t transport.TPM) ([]Algorithm, error) {
	banks, err := allocation(t)
	if err != nil {
		return nil, err
	}
	active := make([]Algorithm, 0, len(banks))
	for _, b := range banks {
		active = append(active, b.Algorithm)
	}
	return active, nil
}

// allocation lists the active banks and the PCRs that they hold.
func allocation(t transport.TPM) (Selection, error) {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read active PCR banks: %w", err)
	}
	list, err := rsp.CapabilityData.Data.AssignedPCR()
	if err != nil {
		return nil, fmt.Errorf("read active PCR banks: %w", err)
	}
	if n := len(list.PCRSelections); n > maxListed {
		return nil, fmt.Errorf("read active PCR banks: TPM lists %d banks, at most %d are believed", n, maxListed)
	}
	var s Selection
	unknown := new(UnknownBankError)
	for _, b := range list.PCRSelections {
		pcrs, err := bitmap(b.PCRSelect)
		if err != nil {
			// PCRs past the last belong to no PC Client TPM that this program can extend in full.
			return nil, fmt.Errorf("read active PCR banks: bank %s: %w", bankName(b.Hash), err)
		}
		alg := Algorithm(b.Hash)
		switch {
		case len(pcrs) == 0: // implemented, not active
		case alg.Size() == 0:
			unknown.Unknown = append(unknown.Unknown, b.Hash)
		case slices.Contains(unknown.Active, alg):
			return nil, fmt.Errorf("read active PCR banks: TPM lists bank %s twice", alg)
		default:
			unknown.Active = append(unknown.Active, alg)
			s = append(s, BankSelection{Algorithm: alg, PCRs: pcrs})
		}
	}
	if len(unknown.Unknown) > 0 {
		return nil, unknown
	}
	if len(s) == 0 {
		return nil, fmt.Errorf("read active PCR banks: none is active: allocate one with %q as root and reboot", "tpm2_pcrallocate sha256:all")
	}
	return s, nil
}
