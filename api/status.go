// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// State is the state of something that the agent depends on.
type State string

const (
	StateOK       State = "ok"
	StateDegraded State = "degraded" // answers were late, wrong or refused lately; the agent keeps trying
	StateAbsent   State = "absent"   // this machine does not have the device, or the agent may not open it
	StateUnknown  State = "unknown"  // not looked at yet: an earlier part of the agent is not up
)

// Status is the answer of GET /v1/status.
type Status struct {
	Version  string         `json:"version"`  // version of the agent
	Evidence EvidenceStatus `json:"evidence"` // whether the next request for evidence gets some
	TPM      TPMStatus      `json:"tpm"`
	Platform PlatformStatus `json:"platform"`
	Ledger   LedgerStatus   `json:"ledger"`
	Apps     AppCounts      `json:"apps"`
	Events   EventStatus    `json:"events"`
	Watch    WatchStatus    `json:"watch"`
	Gate     *GateStatus    `json:"gate,omitzero"` // absent if no app asks for the gate, and none is there
	Keys     KeyStatus      `json:"keys"`
	AgentKey evidence.Bytes `json:"agentKey,omitzero"` // Ed25519 public key of this run, 32 bytes
	AKName   evidence.Bytes `json:"akName,omitzero"`   // TPM name of the AK: algorithm and digest; absent while there is no AK
	Anchor   *AnchorStatus  `json:"anchor,omitzero"`   // absent before the first report
	Batches  BatchCounts    `json:"batches"`           // work since the agent started
}

// ReasonStarting is the reason while the agent has not tried everything once. A program
// that waits for the agent goes on waiting. Every other reason needs attention.
const ReasonStarting = "the agent is starting"

// EvidenceStatus says whether the agent can make evidence. The other members of [Status] say
// more about the causes. A program that wants to know whether the agent is ready reads this one.
type EvidenceStatus struct {
	Ready  bool   `json:"ready"`           // the next request gets fresh evidence, by what was found last
	Code   Code   `json:"code,omitzero"`   // with which a request would be refused now
	Reason string `json:"reason,omitzero"` // the same in words
}

// TPMStatus is the state of the TPM.
type TPMStatus struct {
	State  State  `json:"state"`           // whether it answers
	Code   Code   `json:"code,omitzero"`   // last failure, if a command repairs it
	Reason string `json:"reason,omitzero"` // the same in words, and what to do
}

// PlatformStatus is the state of the confidential-computing platform.
type PlatformStatus struct {
	State               State               `json:"state"`               // whether it answers
	Reason              string              `json:"reason,omitzero"`     // what is wrong
	Kind                evidence.ReportKind `json:"kind,omitzero"`       // kind of its reports; absent if there is no platform
	Machine             string              `json:"machine,omitzero"`    // what the machine is: sev-snp, azure, svsm, gcp or aws; absent if not known
	Source              string              `json:"source,omitzero"`     // how reports come: sev-guest, configfs, paravisor or svsm
	Why                 string              `json:"why,omitzero"`        // what was found that decided machine and source
	LastError           string              `json:"lastError,omitzero"`  // error of the last report that failed since start
	SpacingMilliseconds uint64              `json:"spacingMilliseconds"` // current wait between two reports
}

// LedgerStatus is the state of measurement log and PCR.
type LedgerStatus struct {
	PCR          uint32           `json:"pcr"`                // number of the PCR, 0 to 23
	EventsPCR    uint32           `json:"eventsPCR,omitzero"` // PCR of the events of apps, 8 to 15, if the log has a second one for them
	Pending      string           `json:"pending,omitzero"`   // what the configuration asks for and the next boot changes
	Synchronised bool             `json:"synchronised"`       // log and PCR explain each other; evidence is refused while they do not
	Reason       string           `json:"reason,omitzero"`    // why not
	Full         bool             `json:"full"`               // the log takes no more records until the next boot
	Records      uint64           `json:"records"`            // number of records
	Bytes        uint64           `json:"bytes"`              // size of the log
	Limit        uint64           `json:"limit,omitzero"`     // size at which the log is full; absent while there is no log
	Head         evidence.LogHead `json:"head"`
}

// AppCounts counts the declared apps.
type AppCounts struct {
	Declared   int `json:"declared"`   // all
	Measured   int `json:"measured"`   // in the log as they are now
	Unmeasured int `json:"unmeasured"` // declared, but files missing, changing or refused

	InterpreterOnly int `json:"interpreterOnly,omitzero"` // of those measured, apps of which only an interpreter is: what it runs is not covered
}

// WatchStatus says whether changes of the files of apps are noticed as they happen. While they
// are not, the agent looks at all files every 30 seconds.
type WatchStatus struct {
	State  State  `json:"state"`           // ok, or degraded
	Reason string `json:"reason,omitzero"` // why it is degraded
}

// GateStatus says how the gate does, which holds up programs of apps that ask for it.
type GateStatus struct {
	Present bool `json:"present"` // it is connected
	Asked   int  `json:"asked"`   // apps that ask for it
	Guarded int  `json:"guarded"` // apps that it guards, by the log
}

// AnchorStatus is the report that anchored evidence would refer to now.
type AnchorStatus struct {
	AgeMilliseconds uint64           `json:"ageMilliseconds"` // age by the agent's monotonic clock
	LogHead         evidence.LogHead `json:"logHead"`
}

// BatchCounts counts the work of the batcher since the agent started.
type BatchCounts struct {
	Fresh      uint64 `json:"fresh"`      // batches that got a report of their own
	Anchored   uint64 `json:"anchored"`   // batches that refer to an anchor
	Failed     uint64 `json:"failed"`     // batches that failed as a whole
	Statements uint64 `json:"statements"` // statements answered with evidence
	Largest    uint64 `json:"largest"`    // statements of the largest batch
}

// Self is the answer of GET /v1/self: who the caller is to the agent. It has what the
// statement of an evidence would say, with the reasons.
type Self struct {
	UID        uint32               `json:"uid"`                 // effective uid at connect, seen from the agent's user namespace
	GID        uint32               `json:"gid"`                 // effective gid at connect
	PID        uint32               `json:"pid"`                 // number of the process, seen from the agent's namespace
	Started    uint64               `json:"started"`             // when the process started: CLOCK_BOOTTIME in milliseconds
	AgentKey   evidence.Bytes       `json:"agentKey"`            // Ed25519 public key of the running agent, 32 bytes; a proof of possession is for this agent
	Unit       string               `json:"unit,omitzero"`       // systemd system unit; absent if the caller runs in none
	UnitReason string               `json:"unitReason,omitzero"` // why it runs in no unit
	App        string               `json:"app,omitzero"`        // declared app with this unit and user
	Method     evidence.Method      `json:"method"`              // how connection and process were tied
	Container  *evidence.Container  `json:"container,omitzero"`  // measured container that the process is in
	Executable *evidence.Executable `json:"executable,omitzero"` // an observation, never proof
	Measured   Finding              `json:"measured"`            // whether the log vouches for the app
	Covered    *Covered             `json:"covered,omitzero"`    // its interval of coverage; absent if none is open
	Keys       Finding              `json:"keys"`                // whether the app may have keys
}

// Finding is a yes or no with its reason.
type Finding struct {
	Yes    bool   `json:"yes"`    // the answer
	Reason string `json:"reason"` // reason in words, for people
}
