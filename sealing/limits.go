// SPDX-License-Identifier: Apache-2.0

package sealing

// Caps on everything that a file or a caller may ask for.
const (
	MaxBlob           = 4 << 20   // bytes of a sealed blob
	MaxPayload        = 3 << 20   // bytes of the largest payload, the manifest
	MaxSecret         = 64 << 10  // bytes of one secret of an app
	MaxAssociatedData = 64 << 10  // bytes; only their digest is stored
	MaxName           = 256       // bytes of an app, unit, user or secret name
	MaxLabel          = 1 << 10   // bytes of the label of a derived secret or a signing key
	MaxDerived        = 1 << 10   // bytes of one derived secret
	MaxMessage        = 64 << 10  // bytes of a message to sign
	MaxDigests        = 64        // digests that one app authorises
	MaxSlots          = 12        // slots of a blob
	MaxRecipients     = 8         // recovery recipients of a blob
	MaxRecipient      = 256       // bytes of a recipient in text
	MaxVersions       = 32        // versions of an app's root that are kept
	MaxEntries        = 10000     // blobs that one store lists
	MaxGeneration     = 1<<53 - 1 // number of a manifest: an answer in JSON shows it
	MaxRecord         = 16 << 10  // bytes of a record of the TPM
	MaxIdentityFile   = 64 << 10  // bytes of a file of recovery identities
	maxWrapped        = 2 << 10   // bytes of one wrapped key
)

// Sizes of the format in bytes.
const (
	KeySize     = 32                  // AES-256 key, root or TPM secret
	CheckSize   = 16                  // key check
	Overhead    = nonceSize + tagSize // of what AES-GCM encrypted over its plaintext
	TPMNameSize = 2 + 32              // TPM name: TPM_ALG_SHA256, then SHA-256 of the public area
	SeedSize    = 32                  // private half of a store key (RFC 8032, section 5.1.5)

	saltSize       = 32
	idSize         = 16      // blob id
	associatedSize = 16 + 32 // salt and digest of associated data
	nonceSize      = 12      // AES-GCM, NIST SP 800-38D
	tagSize        = 16      // AES-GCM
)

// Labels of the composite hashes and key derivations. The input is [evidence.Preimage] of the
// label and the parts after it. Each label has one purpose, and the number at its end
// changes whenever the list of parts does.
const (
	LabelRoots          = "agentd/seal/roots/1"           // input keying material of a slot: slot kind, SNP derived key, TPM secret
	LabelSlot           = "agentd/seal/slot/1"            // key and key check of a slot: slot kind, salt
	LabelHeader1        = "agentd/seal/header/1"          // the same as LabelHeader in a blob of version 1
	LabelHeader         = "agentd/seal/header/2"          // associated data of every wrapped key: header bytes
	LabelPayload        = "agentd/seal/payload/1"         // associated data of the payload: header digest, each wrapped key
	LabelAssociatedData = "agentd/seal/associated-data/1" // salt, associated data of the caller
	LabelSignature      = "agentd/seal/signature/1"       // what the store key signs: public half, SHA-256 of the file up to the payload
	LabelSender         = "agentd/seal/sender/1"          // check of the sender, from the data key: public half, signature
	LabelStoreKey       = "agentd/seal/store-key/1"       // checksum of a store key in text: public half
	LabelDerive         = "agentd/seal/derive/1"          // key version, app, unit, user, label, length
	LabelSign           = "agentd/seal/sign/1"            // a signing key: key version, app, unit, user, algorithm, label
)
