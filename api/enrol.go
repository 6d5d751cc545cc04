// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// AK is the answer of GET /v1/ak: what a relying party needs to enrol this machine. The
// answer proves nothing. Credential activation proves that EK and AK are in one TPM.
type AK struct {
	Public       evidence.Bytes   `json:"public"`                 // TPMT_PUBLIC of the AK
	Name         evidence.Bytes   `json:"name"`                   // TPM name of the AK: two bytes of algorithm, then the digest
	EK           evidence.Bytes   `json:"ek,omitzero"`            // TPMT_PUBLIC of the EK that activation uses
	Certificates []evidence.Bytes `json:"certificates,omitempty"` // X.509 DER of the EK and its issuers, as the TPM has them, unverified
}

// ActivateRequest is the body of POST /v1/ak/activate: a challenge made for EK and AK
// name of one machine (TPM 2.0 Part 1, section 24, "Credential Protection"). Package keys
// makes it.
type ActivateRequest struct {
	Credential evidence.Bytes `json:"credential"` // contents of TPM2B_ID_OBJECT (TPM 2.0 Part 2, section 12.4.2), without its size
	Secret     evidence.Bytes `json:"secret"`     // contents of TPM2B_ENCRYPTED_SECRET (section 11.4.3), without its size
}

// Activated is the answer of POST /v1/ak/activate: the secret that only the TPM with that
// EK could open, and only for that AK.
type Activated struct {
	Secret evidence.Bytes `json:"secret"` // at most 64 bytes
}

// Replaced is the answer of POST /v1/ak/replace: a new AK is in place of a stored one
// that this TPM does not load. Nothing is deleted.
type Replaced struct {
	Old    evidence.Bytes `json:"old,omitzero"` // TPM name of the AK that was stored; absent if its file cannot be read
	New    evidence.Bytes `json:"new"`          // TPM name of the AK from now on: verifiers have to enrol it
	Backup string         `json:"backup"`       // file with the old AK as it was stored
	Reason string         `json:"reason"`       // why the old one does not load
}
