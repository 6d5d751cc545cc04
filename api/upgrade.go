// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// ReleaseKeyRequest is the body of POST /v1/upgrade/release-key.
type ReleaseKeyRequest struct {
	Key evidence.Bytes `json:"key"` // file of a public key: PEM (Ed25519, ECDSA over P-256 or P-384) or minisign; at most 4 KiB
}

// PrepareRequest is the body of POST /v1/upgrade/prepare.
type PrepareRequest struct {
	Release   evidence.Bytes `json:"release"`   // release statement, the exact bytes that were signed; at most 64 KiB
	Signature evidence.Bytes `json:"signature"` // of the release key: 64 bytes of Ed25519, DER of ECDSA, or a file of minisign; at most 4 KiB
	ValidFor  uint32         `json:"validFor"`  // seconds that the preparation is valid, at most 2592000 (30 days); the release may end it sooner
}

// PreparedUpgrade is the answer of POST /v1/upgrade/prepare: the contract of an upgrade before it.
type PreparedUpgrade struct {
	Offer        evidence.Bytes    `json:"offer"`        // message for the successor, which is not secret
	Number       uint64            `json:"number"`       // of the release
	Expires      uint64            `json:"expires"`      // seconds since 1970, by the clock of this machine
	Measurements []string          `json:"measurements"` // launch measurements that a successor may have, hexadecimal
	Entries      int               `json:"entries"`      // blobs that go over
	Bytes        int               `json:"bytes"`        // content of these
	Left         []KeptBlob        `json:"left"`         // blobs that do not open, and stay behind
	Contract     []UpgradeSentence `json:"contract"`     // what the upgrade does and does not
}

// UpgradeSentence says one thing about an upgrade.
type UpgradeSentence struct {
	About string `json:"about"` // what it is about
	Text  string `json:"text"`  // for people
}

// SuccessorRequest is the body of POST /v1/upgrade/request.
type SuccessorRequest struct {
	Offer evidence.Bytes `json:"offer"` // message of the old agent
}

// SuccessorMessage is the answer of POST /v1/upgrade/request.
type SuccessorMessage struct {
	Request evidence.Bytes `json:"request"` // message for the old agent, with fresh evidence; it is not secret
	ID      evidence.Bytes `json:"id"`      // what names this successor: 32 bytes, the same until it gets another offer
}

// HandOverRequest is the body of POST /v1/upgrade/answer.
type HandOverRequest struct {
	Request evidence.Bytes `json:"request"` // message of the successor, at most 2.5 MiB
}

// HandedOver is the answer of POST /v1/upgrade/answer.
type HandedOver struct {
	Answer  evidence.Bytes `json:"answer"`  // message for the successor, which alone can open it
	ID      evidence.Bytes `json:"id"`      // of the request
	Entries int            `json:"entries"` // blobs that go over
	Left    []KeptBlob     `json:"left"`    // blobs that do not open, and stay behind
}

// AcceptUpgradeRequest is the body of POST /v1/upgrade/accept.
type AcceptUpgradeRequest struct {
	Answer   evidence.Bytes `json:"answer"`   // message of the old agent, at most 2.5 MiB
	StoreKey string         `json:"storeKey"` // public half of the old store key, as root kept it: it must have signed the answer
}

// AcceptedUpgrade is the answer of POST /v1/upgrade/accept: the contract of an upgrade after it.
type AcceptedUpgrade struct {
	Written  int               `json:"written"`  // blobs that were taken over
	Again    bool              `json:"again"`    // the answer was accepted before, and nothing was written
	Upgrade  UpgradeStatus     `json:"upgrade"`  // how far it is
	Contract []UpgradeSentence `json:"contract"` // what holds from now on
}

// UpgradeState is how far an upgrade is, from the view of one agent.
type UpgradeState string

const (
	UpgradeNone     UpgradeState = "none"     // nothing is under way
	UpgradePrepared UpgradeState = "prepared" // a successor may ask
	UpgradeAnswered UpgradeState = "answered" // a successor got the roots; nothing is changed here
	UpgradeAsked    UpgradeState = "asked"    // this agent is a successor that asked, and waits for the answer
	UpgradeAccepted UpgradeState = "accepted" // this agent took over; its predecessor can still go back
	UpgradeReplaced UpgradeState = "replaced" // a successor took over in this very folder; this agent can go back
)

// UpgradeStatus is the answer of GET /v1/upgrade and of calls that end an upgrade.
type UpgradeStatus struct {
	State      UpgradeState   `json:"state"`               // how far the upgrade is
	ReleaseKey string         `json:"releaseKey,omitzero"` // that signs releases: agentd-release-key: and a SubjectPublicKeyInfo in hexadecimal
	Unproven   bool           `json:"unproven"`            // a recovery could not tell who wrote the release key, so it is not used
	Number     uint64         `json:"number"`              // of the release that this store came from; 0: from none
	Preparing  uint64         `json:"preparing,omitzero"`  // number of the release that is prepared or was handed over to
	Expires    uint64         `json:"expires,omitzero"`    // when the preparation ends: seconds since 1970, by the clock of this machine
	Request    evidence.Bytes `json:"request,omitzero"`    // id of the request that was answered here, or accepted
	Code       Code           `json:"code,omitzero"`       // why the store does not open
	Text       string         `json:"text"`                // all of it in words, and what to do next
}

// AbortedUpgrade is the answer of POST /v1/upgrade/abort.
type AbortedUpgrade struct {
	Returned bool          `json:"returned"` // the store of before the upgrade is in force again; what a successor stored here is lost
	Answered bool          `json:"answered"` // a successor got the roots, and may have taken them over
	Upgrade  UpgradeStatus `json:"upgrade"`  // how it is now
}
