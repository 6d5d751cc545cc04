// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// State is how one of the agent's dependencies does.
type State string

const (
	StateOK       State = "ok"
	StateDegraded State = "degraded" // answers were late, wrong or refused lately; the agent keeps trying
	StateAbsent   State = "absent"   // no such device on this machine, or not to be opened
)

// Status is the answer of GET /v1/status.
type Status struct {
	Version  string         `json:"version"`
	TPM      TPMStatus      `json:"tpm"`
	Platform PlatformStatus `json:"platform"`
	Ledger   LedgerStatus   `json:"ledger"`
	Apps     AppCounts      `json:"apps"`
	Keys     KeyStatus      `json:"keys"`
	AgentKey evidence.Bytes `json:"agentKey,omitzero"` // Ed25519 public key of this run, 32 bytes
	AKName   evidence.Bytes `json:"akName,omitzero"`   // TPM name of the AK: algorithm and digest; absent while there is no AK
	Anchor   *AnchorStatus  `json:"anchor,omitzero"`   // absent before the first report
	Batches  BatchCounts    `json:"batches"`           // since the agent started
}

// ReasonStarting is the reason while the agent has not tried everything once. Whoever
// waits for the agent goes on waiting; every other reason is one to look into.
const ReasonStarting = "the agent is starting"

// TPMStatus is the state of the TPM.
type TPMStatus struct {
	State  State  `json:"state"`
	Code   Code   `json:"code,omitzero"`   // what went wrong last, where a command mends it
	Reason string `json:"reason,omitzero"` // the same in words, and what to do
}

// PlatformStatus is the state of the confidential-computing platform.
type PlatformStatus struct {
	State               State               `json:"state"`
	Reason              string              `json:"reason,omitzero"`
	Kind                evidence.ReportKind `json:"kind,omitzero"`       // absent where there is no platform
	LastError           string              `json:"lastError,omitzero"`  // of the last report that failed since start
	SpacingMilliseconds uint64              `json:"spacingMilliseconds"` // wait between two reports, as it stands now
}

// LedgerStatus is the state of measurement log and PCR.
type LedgerStatus struct {
	PCR          uint32           `json:"pcr"`             // 0 to 23
	Synchronised bool             `json:"synchronised"`    // log and PCR explain each other; evidence is refused while they do not
	Reason       string           `json:"reason,omitzero"` // why not
	Full         bool             `json:"full"`            // the log takes no more records until the next boot
	Records      uint64           `json:"records"`
	Bytes        uint64           `json:"bytes"`
	Head         evidence.LogHead `json:"head"`
}

// AppCounts counts the declared applications.
type AppCounts struct {
	Declared   int `json:"declared"`
	Measured   int `json:"measured"`
	Unmeasured int `json:"unmeasured"` // declared, but files missing, changing or refused
}

// AnchorStatus is the report that anchored evidence would stand on now.
type AnchorStatus struct {
	AgeMilliseconds uint64           `json:"ageMilliseconds"` // by the agent's monotonic clock
	LogHead         evidence.LogHead `json:"logHead"`
}

// BatchCounts counts the work of the batcher since the agent started.
type BatchCounts struct {
	Fresh      uint64 `json:"fresh"`      // batches that got a report of their own
	Anchored   uint64 `json:"anchored"`   // batches that stand on an anchor
	Failed     uint64 `json:"failed"`     // batches that failed as a whole
	Statements uint64 `json:"statements"` // statements answered with evidence
	Largest    uint64 `json:"largest"`    // statements of the largest batch
}
