// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"

	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
)

// SNP is what an SEV-SNP report says.
type SNP struct {
	Product       string           `json:"product"`         // "milan", "genoa" or "turin"
	ReportVersion uint32           `json:"reportVersion"`   // 2 to 5
	GuestPolicy   uint64           `json:"guestPolicy"`     // POLICY
	PlatformInfo  uint64           `json:"platformInfo"`    // PLATFORM_INFO
	VMPL          uint32           `json:"vmpl"`            // VM privilege level
	Signer        string           `json:"signer"`          // "vcek" or "vlek"
	ChipID        string           `json:"chipID,omitzero"` // hexadecimal; absent if masked
	ReportedTCB   map[string]uint8 `json:"reportedTCB"`     // by component
	CommittedTCB  map[string]uint8 `json:"committedTCB"`    // by component
	CurrentTCB    map[string]uint8 `json:"currentTCB"`      // by component
	LaunchTCB     map[string]uint8 `json:"launchTCB"`       // by component
	HostData      string           `json:"hostData"`        // hexadecimal
	GuestSVN      uint32           `json:"guestSVN"`        // security version of the guest
}

// snpReport returns the report, or nil if it is not one of SEV-SNP.
func (a *appraiser) snpReport() *sevsnp.Report {
	r, _ := a.report.(*sevsnp.Report)
	return r
}

// SNP returns what the rules of a policy judge of a report of SEV-SNP.
func (s subject) SNP() *rule.SNP {
	r := s.a.snpReport()
	if r == nil {
		return nil
	}
	return &rule.SNP{Report: r.Report, Product: r.Product, Signer: r.Signer}
}

// snpClaims returns what an accepted report of SEV-SNP says.
func (a *appraiser) snpClaims() *SNP {
	r := a.snpReport()
	if r == nil {
		return nil
	}
	c := &SNP{
		Product: r.Product, ReportVersion: r.Version, GuestPolicy: uint64(r.Policy), PlatformInfo: uint64(r.PlatformInfo), VMPL: r.VMPL, Signer: r.Signer,
		ReportedTCB: r.Levels(r.ReportedTCB), CommittedTCB: r.Levels(r.CommittedTCB), CurrentTCB: r.Levels(r.CurrentTCB), LaunchTCB: r.Levels(r.LaunchTCB),
		HostData: hex.EncodeToString(r.HostData[:]), GuestSVN: r.GuestSVN,
	}
	if r.ChipID != [64]byte{} {
		c.ChipID = hex.EncodeToString(r.ChipID[:])
	}
	return c
}
