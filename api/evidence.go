// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// LogMode says how much of the measurement log goes into evidence.
type LogMode string

const (
	LogWhole LogMode = "whole" // from record 0
	LogFrom  LogMode = "from"  // from record LogStart
	LogNone  LogMode = "none"  // nothing: the verifier has the log already
)

// EvidenceRequest is the body of POST /v1/evidence. The caller chooses neither report
// data nor qualifying data nor its own identity: the agent does.
type EvidenceRequest struct {
	Nonce      evidence.Bytes `json:"nonce"`               // 16 to 64 bytes, required
	Audience   string         `json:"audience,omitzero"`   // at most 256 bytes
	UserData   evidence.Bytes `json:"userData,omitzero"`   // at most 4 KiB
	PublicKey  evidence.Bytes `json:"publicKey,omitzero"`  // at most 8 KiB
	KeyProof   evidence.Bytes `json:"keyProof,omitzero"`   // at most 1 KiB; signature by the private half of PublicKey over evidence.KeyProofMessage, with what GET /v1/self says
	SigningKey *SigningKey    `json:"signingKey,omitzero"` // in place of publicKey and keyProof: the agent names a signing key of the calling app, and proves its possession itself; on the client socket only

	Freshness evidence.Freshness `json:"freshness,omitzero"` // default "fresh"
	Log       LogMode            `json:"log,omitzero"`       // default "whole"
	LogStart  uint64             `json:"logStart,omitzero"`  // with log "from": first record wanted

	FirmwareLog bool `json:"firmwareLog,omitzero"` // whether to add the firmware's event log, if the machine has one

	IMA      bool   `json:"ima,omitzero"`      // whether to add the kernel's list of what it measured (IMA); for root and declared applications, if PCR 10 is quoted
	IMAStart uint64 `json:"imaStart,omitzero"` // with ima: first entry wanted
}

// LogFormat is how GET /v1/log spells the records.
type LogFormat string

const (
	LogTLV     LogFormat = "cel-tlv"  // evidence.Log: the exact bytes, in base64; the default
	LogCELJSON LogFormat = "cel-json" // TCG Canonical Event Log, JSON encoding
)
