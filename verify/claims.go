// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Claims is what accepted evidence says, and on whose word.
type Claims struct {
	Statement evidence.Statement `json:"statement,omitzero"` // zero if the material was raw
	Machine   Machine            `json:"machine"`
	AKName    string             `json:"akName"`            // hexadecimal: TPM 2.0 Part 1, section 16; empty if the material does not show it
	Instance  *GoogleInstance    `json:"instance,omitzero"` // machine that the AK's certificate names; nil unless the policy asks for one
	PCRs      []PCRClaim         `json:"pcrs"`              // none of a bare report
	Log       *LogState          `json:"log,omitzero"`      // nil if the evidence contained no log
	IMA       *IMAClaim          `json:"ima,omitzero"`      // nil if there was no list of IMA; rests on what the PCRs rest on
	Basis     ClaimBases         `json:"basis"`             // on whose word each part rests
}

// GoogleInstance is a machine of Google Cloud, as the certificate of its vTPM's attestation key
// names it. Fields: Project, ProjectNumber, Zone, ID, Name. That this vTPM is the one of the
// machine of the report is another claim: see [Binding].
type GoogleInstance = keys.GoogleInstance

// Machine is what the report says.
type Machine struct {
	Platform    evidence.ReportKind `json:"platform"`          // kind of the report, for instance evidence.ReportSNP
	Measurement string              `json:"measurement"`       // launch measurement, hexadecimal
	Label       string              `json:"label,omitzero"`    // label of this measurement in the policy
	Covers      Cover               `json:"covers,omitzero"`   // absent if the policy does not list the measurement
	Root        string              `json:"root"`              // common name of the root that the chain ends in
	TestRoot    bool                `json:"testRoot,omitzero"` // the root vouches for no hardware

	*SNP // nil on other platforms; in JSON its members are Machine's
}

// Explanation says what explains the value of one PCR.
type Explanation string

const (
	ByLog       Explanation = "log"          // replaying the agent's log gives this value
	ByPolicy    Explanation = "policy"       // the policy pins this value
	ByFirmware  Explanation = "firmware-log" // replaying the firmware's log gives this value; only the log says what its digests are of
	ByIMA       Explanation = "ima"          // replaying the list of IMA gives this value
	Unexplained Explanation = "not-asserted" // quoted, and nothing more is known
)

// IMAClaim is what the kernel measured before it was used, by its list of IMA: that part of the
// list which leads to the quoted PCR 10.
type IMAClaim struct {
	Entries    uint64         `json:"entries"`                 // of that part
	PaddedSHA1 bool           `json:"paddedSHA1,omitzero"`     // all banks were extended with hashes of SHA-1
	Violations uint64         `json:"violations,omitzero"`     // files that were written while they were used
	Violated   []MeasuredFile `json:"violated,omitempty"`      // the first 100 of them, by names that no hash covers
	Unlisted   uint64         `json:"unlisted,omitzero"`       // entries that the policy does not list
	Named      []MeasuredFile `json:"unlistedFiles,omitempty"` // the first 100 of them
}

// MeasuredFile is one entry of the list of IMA. Fields: Entry (number), Path, Digest (with the
// name of its algorithm), Fault (why the entry cannot be read).
type MeasuredFile = rule.MeasuredFile

// imaClaim returns what the list of IMA came to, nil if there was none.
func (a *appraiser) imaClaim() *IMAClaim {
	if a.ima == nil {
		return nil
	}
	m := a.measured
	return &IMAClaim{Entries: a.ima.Entries, PaddedSHA1: a.ima.Mode == ima.Padded, Violations: m.Violations, Violated: m.Violated, Unlisted: m.Unlisted, Named: m.Named}
}

// PCRClaim is one quoted PCR.
type PCRClaim struct {
	Bank      string      `json:"bank"`      // name of the hash
	Index     uint32      `json:"index"`     // 0 to 23
	Value     string      `json:"value"`     // hexadecimal
	Explained Explanation `json:"explained"` // what explains the value
	Basis     Basis       `json:"basis"`     // on whose word: ByTPM, or ByGuest if a party that no verifier knows could have made it up
}

// What a log said up to a head, and what it recorded since boot.
type (
	// LogState is what a log said up to a head: the values of the PCR, and everything
	// that a policy can ask of it. A verifier keeps it if it wants only the rest of the
	// log the next time. It is as trustworthy as the place where it is kept.
	//
	// Fields: Head (evidence.LogHead), ReportID, AKName, ResetCount, PCR, Start and Values (each a
	// []BankValue), AgentKey, Agents ([]AgentClaim), Apps ([]AppClaim), Gaps
	// ([]RecordedReason), Unmeasured ([]UnmeasuredClaim), Containers ([]ContainerClaim), Full, Time,
	// Stopped, Declarations, IMA (*IMAState). FromZero(pcr.Algorithm) bool reports whether the log
	// began with zero in a bank.
	LogState = replay.State
	// IMAState is what a verifier keeps of the list of IMA. Fields: Next (number of the entry to ask
	// from), Extended, Values ([]BankValue), PaddedSHA1, Policy, First, Violations, Unlisted.
	IMAState = replay.IMAState
	// BankValue is the value of a PCR in one bank. Fields: Bank, Value.
	BankValue = replay.BankValue
	// AgentClaim is an agent that the log names. Fields: Record (number of its first
	// event), Version, Digest (of the executable), Configuration (a digest).
	AgentClaim = replay.Agent
	// AppClaim is one application with everything that it was since boot. Fields: Name,
	// Current (index in Versions of the last measurement), Versions ([]AppVersion),
	// Intervals ([]Interval), Executables. Covered() *Interval returns the open interval.
	AppClaim = replay.App
	// AppVersion is an application as it was measured. Fields: Record (number of its first
	// event), Unit, User, UID, Digest (of the manifest), Declaration (a digest).
	AppVersion = replay.AppVersion
	// Interval is a time in which the agent watched an application. Fields: Begin, Joints
	// (interruptions that were carried over), End (nil if it is open).
	Interval = replay.Interval
	// UnmeasuredClaim is a declared application that could not be measured. Fields: Record,
	// App, Reason.
	UnmeasuredClaim = replay.Unmeasured
	// ContainerClaim is the start of a container. Fields: Record, and those of
	// pcr.ContainerEvent.
	ContainerClaim = replay.Container
	// EmittedClaim is what an application had recorded, each value once. Fields: App, Unit, UID,
	// Domain, Value (the digest that was recorded, or SHA-256 of the content), Content (of the last
	// 256), First and Last (numbers of records), Time (of Last), Count.
	EmittedClaim = replay.Emitted
	// GatedClaim is a time in which the gate guarded an application. Fields: App, Gate (digest
	// of its executable), Enforce, Begin, Carried, End (nil while it goes on), Suspended.
	GatedClaim = replay.Gated
	// StartedClaim is a program that started and that no manifest lists. Fields: Record, App,
	// Path, Digest.
	StartedClaim = replay.Started
	// RecordedReason is a reason for a gap that the agent recorded. Fields: Record, Reason.
	RecordedReason = replay.Gap
)

// SNP is what an SEV-SNP report says.
type SNP struct {
	Product       string           `json:"product"`           // "milan", "genoa" or "turin"
	ReportVersion uint32           `json:"reportVersion"`     // 2 to 5
	GuestPolicy   snp.Policy       `json:"guestPolicy"`       // POLICY; in JSON hexadecimal, as "0x30000"
	PlatformInfo  snp.PlatformInfo `json:"platformInfo"`      // PLATFORM_INFO; in JSON hexadecimal, as "0x25"
	VMPL          uint32           `json:"vmpl"`              // VM privilege level
	Signer        string           `json:"signer"`            // "vcek" or "vlek"
	CSPID         string           `json:"cspID,omitzero"`    // cloud that the VLEK belongs to, by its certificate; absent for a VCEK
	ChipID        string           `json:"chipID,omitzero"`   // hexadecimal; absent if masked
	ReportID      string           `json:"reportID,omitzero"` // REPORT_ID, hexadecimal: names this boot of the guest, by the processor's word; absent if it is zero
	ReportedTCB   map[string]uint8 `json:"reportedTCB"`       // by component
	CommittedTCB  map[string]uint8 `json:"committedTCB"`      // by component
	CurrentTCB    map[string]uint8 `json:"currentTCB"`        // by component
	LaunchTCB     map[string]uint8 `json:"launchTCB"`         // by component
	HostData      string           `json:"hostData"`          // hexadecimal
	GuestSVN      uint32           `json:"guestSVN"`          // security version of the guest
}

// snpClaims returns what an accepted report of SEV-SNP says.
func (a *appraiser) snpClaims() *SNP {
	r := sevsnp.Of(a.report)
	if r == nil {
		return nil
	}
	c := &SNP{
		Product: r.Product, ReportVersion: r.Version, GuestPolicy: r.Policy, PlatformInfo: r.PlatformInfo, VMPL: r.VMPL, Signer: r.Signer, CSPID: r.CSPID, ReportID: r.ReportID(),
		ReportedTCB: r.Levels(r.ReportedTCB), CommittedTCB: r.Levels(r.CommittedTCB), CurrentTCB: r.Levels(r.CurrentTCB), LaunchTCB: r.Levels(r.LaunchTCB),
		HostData: hex.EncodeToString(r.HostData[:]), GuestSVN: r.GuestSVN,
	}
	if r.ChipID != [64]byte{} {
		c.ChipID = hex.EncodeToString(r.ChipID[:])
	}
	return c
}
