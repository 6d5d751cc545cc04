// SPDX-License-Identifier: Apache-2.0

package sealing

// Labels of the composite hashes and key derivations. The input is [evidence.Preimage] of the
// label and the parts after it. Each label has one purpose, and the number at its end
// changes whenever the list of parts does.
const (
	LabelRoots          = "agentd/seal/roots/1"           // input keying material of a slot: slot kind, SNP derived key, TPM secret
	LabelSlot           = "agentd/seal/slot/1"            // key and key check of a slot: slot kind, salt
	LabelHeader         = "agentd/seal/header/1"          // associated data of every wrapped key: header bytes
	LabelPayload        = "agentd/seal/payload/1"         // associated data of the payload: header digest, each wrapped key
	LabelAssociatedData = "agentd/seal/associated-data/1" // salt, associated data of the caller
	LabelDerive         = "agentd/seal/derive/1"          // key version, app, unit, user, label, length
)
