// SPDX-License-Identifier: Apache-2.0

package sealing

// Labels of the composite hashes and key derivations, encoded as by
// evidence.Preimage: the length of each part as eight bytes, big-endian, then the
// part. A label is used for one purpose only, and the number at its end changes
// whenever the list of parts behind it does.
const (
	labelRoots          = "agentd/seal/roots/1"           // input keying material of a slot: slot kind, SNP derived key, TPM secret
	labelSlot           = "agentd/seal/slot/1"            // key and key check of a slot: slot kind, salt
	labelHeader         = "agentd/seal/header/1"          // associated data of every wrapped key: header bytes
	labelPayload        = "agentd/seal/payload/1"         // associated data of the payload: header digest, each wrapped key
	labelAssociatedData = "agentd/seal/associated-data/1" // salt, associated data of the caller
	labelDerive         = "agentd/seal/derive/1"          // key version, app, unit, user, label, length
)
