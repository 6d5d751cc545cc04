// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// Largest bodies of requests for keys, in bytes.
const (
	MaxKeyRequest   = 4 << 10
	MaxSealRequest  = 256 << 10 // 64 KiB of secret and as much associated data, in base64
	MaxStoreRequest = 128 << 10 // a file of recovery identities, in base64
)

// DeriveRequest is the body of POST /v1/keys/derive.
type DeriveRequest struct {
	Label   string `json:"label"`            // what the secret is for, at most 1024 bytes
	Length  uint32 `json:"length"`           // bytes wanted, 1 to 1024
	Version uint32 `json:"version,omitzero"` // of the app's root; default: the current one
}

// Derived is its answer: the same secret after each restart and reboot.
type Derived struct {
	Secret  evidence.Bytes `json:"secret"`
	Version uint32         `json:"version"` // of the app's root that was used
}

// SealRequest is the body of POST /v1/seal.
type SealRequest struct {
	Name           string         `json:"name"`                    // of the app's choice, 1 to 256 bytes
	Data           evidence.Bytes `json:"data"`                    // at most 64 KiB
	AssociatedData evidence.Bytes `json:"associatedData,omitzero"` // to be given again to unseal, at most 64 KiB
	RequireDigest  bool           `json:"requireDigest,omitzero"`  // from now on only the app as it is measured now gets its keys, and digests authorised later
}

// Sealed is its answer: the secret is on disk.
type Sealed struct {
	Name  string `json:"name"`
	Bytes int    `json:"bytes"` // of the secret
}

// UnsealRequest is the body of POST /v1/unseal.
type UnsealRequest struct {
	Name           string         `json:"name"`
	AssociatedData evidence.Bytes `json:"associatedData,omitzero"`
}

// Unsealed is its answer.
type Unsealed struct {
	Data evidence.Bytes `json:"data"`
}

// DiscardRequest is the body of POST /v1/discard.
type DiscardRequest struct {
	Name string `json:"name"`
}

// Discarded is its answer: the secret is gone for good.
type Discarded struct {
	Name string `json:"name"`
}

// KeyStatus is the state of the store of sealed blobs.
type KeyStatus struct {
	State      State  `json:"state"`
	Code       Code   `json:"code,omitzero"`   // why nothing opens, where that has a code
	Reason     string `json:"reason,omitzero"` // the same in words, and what to do
	Slot       string `json:"slot,omitzero"`   // weakest slot of what is sealed now: "snp+tpm", "snp" or "tpm"
	Blobs      int    `json:"blobs"`           // sealed blobs that the manifest lists
	Generation uint64 `json:"generation"`      // number of the manifest
	Counted    bool   `json:"counted"`         // a counter in the TPM notices an older state of the files
	Rewrap     bool   `json:"rewrap"`          // some blobs are sealed to an older TCB or another kind of slot
	Orphans    int    `json:"orphans"`         // files that the manifest does not list
}

// Store is the answer of GET /v1/store.
type Store struct {
	Status     KeyStatus    `json:"status"`
	Recipients []string     `json:"recipients"` // of the recovery, from the authenticated manifest
	Differ     bool         `json:"differ"`     // the configuration names others, which are not used
	Blobs      []SealedBlob `json:"blobs"`
}

// SealedBlob is one sealed blob as the manifest lists it.
type SealedBlob struct {
	App        string `json:"app"`
	Kind       string `json:"kind"`          // "app root" or "secret"
	Name       string `json:"name,omitzero"` // of a secret
	Generation uint64 `json:"generation"`
	Bytes      int    `json:"bytes"`
	Slot       string `json:"slot"`
	TCB        string `json:"tcb,omitzero"` // at sealing, hexadecimal, in the order of the report
	Rewrap     bool   `json:"rewrap"`
}

// Contract says what a blob opens on and what would lock it out. It holds no secret.
type Contract struct {
	Text          string            `json:"text"`          // all of it, for people
	Authenticated bool              `json:"authenticated"` // the blob was opened; otherwise this is what its file claims
	Planned       bool              `json:"planned"`       // there is no blob: what one would be sealed to now
	App           string            `json:"app"`
	Unit          string            `json:"unit"`
	User          string            `json:"user"`
	Name          string            `json:"name,omitzero"`
	Generation    uint64            `json:"generation"`
	Slots         []string          `json:"slots"`
	Weakest       string            `json:"weakest"`
	Recipients    []string          `json:"recipients"`
	Digests       []evidence.Digest `json:"digests"` // one of which the app must have; none: not required
	Counted       bool              `json:"counted"`
	Limit         string            `json:"limit"` // who else could open it
	Changes       []ContractChange  `json:"changes"`
	Code          Code              `json:"code,omitzero"`   // why it does not open
	Reason        string            `json:"reason,omitzero"` // the same in words
}

// ContractChange is what comes of one change to machine or app.
type ContractChange struct {
	Change   string `json:"change"`
	Opens    bool   `json:"opens"`
	Code     Code   `json:"code,omitzero"` // error where it does not open
	Recovery bool   `json:"recovery"`      // the recovery identity opens it then
	Note     string `json:"note,omitzero"`
}

// Rewritten is the answer of what seals the whole store anew.
type Rewritten struct {
	Written int        `json:"written"` // blobs sealed anew
	Kept    []KeptBlob `json:"kept"`    // blobs that did not open and were left as they are
}

// KeptBlob is a blob that was left as it is.
type KeptBlob struct {
	App    string `json:"app"`
	Kind   string `json:"kind"`
	Name   string `json:"name,omitzero"`
	Code   Code   `json:"code,omitzero"`
	Reason string `json:"reason"`
}

// RotateRequest is the body of POST /v1/store/rotate.
type RotateRequest struct {
	App string `json:"app"`
}

// RetireRequest is the body of POST /v1/store/retire.
type RetireRequest struct {
	App     string `json:"app"`
	Version uint32 `json:"version"` // another than the current one
}

// RootVersion answers both: a version of the app's root that is now in use, or gone.
type RootVersion struct {
	App     string `json:"app"`
	Version uint32 `json:"version"`
}

// RecoverRequest is the body of POST /v1/store/recover. Without identities, a store
// whose manifest alone is lost is salvaged.
type RecoverRequest struct {
	Identities evidence.Bytes `json:"identities,omitzero"` // a file as age-keygen writes it
}

// RecipientsRequest is the body of POST /v1/store/recipients.
type RecipientsRequest struct {
	Recipients           []string `json:"recipients"`
	LoseOnHardwareChange bool     `json:"loseOnHardwareChange,omitzero"` // where there are none
}

// DigestAction says what to do with the digests that an app must have.
type DigestAction string

const (
	DigestRequire   DigestAction = "require"   // from now on one of the digests given, or the one measured now
	DigestAuthorize DigestAction = "authorize" // one more
	DigestWithdraw  DigestAction = "withdraw"  // one less
	DigestLift      DigestAction = "lift"      // none is required any more
)

// DigestRequest is the body of POST /v1/store/digests.
type DigestRequest struct {
	App    string           `json:"app"`
	Action DigestAction     `json:"action"`
	Digest *evidence.Digest `json:"digest,omitzero"` // required for authorize and withdraw
}

// Probed is the answer of POST /v1/store/probe.
type Probed struct {
	Findings []ProbeFinding `json:"findings"`
}

// ProbeFinding is one thing that was tried on the key derivation of the platform.
type ProbeFinding struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}
