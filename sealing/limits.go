// SPDX-License-Identifier: Apache-2.0

package sealing

// Caps on everything that a file or a caller may ask for, and sizes of the format.
const (
	MaxBlob           = 4 << 20  // bytes of a sealed blob
	MaxSecret         = 64 << 10 // bytes of one secret of an app
	MaxAssociatedData = 64 << 10 // bytes; only their digest is stored
	MaxName           = 256      // bytes of an app, unit, user or secret name
	MaxLabel          = 1 << 10  // bytes of a derivation label
	MaxDerived        = 1 << 10  // bytes of one derived secret
	MaxDigests        = 64       // digests that one app authorises
	MaxRecipients     = 8        // recovery recipients of a blob
	MaxSlots          = 12       // slots of a blob
	MaxRecipient      = 256      // bytes of a recipient in text
	MaxVersions       = 32       // versions of an app's root that are kept
	MaxEntries        = 10000    // blobs that one store lists
	MaxIdentityFile   = 64 << 10 // bytes of a file of recovery identities
	maxWrapped        = 2 << 10  // bytes of one wrapped key
	MaxPayload        = 3 << 20  // bytes of the largest payload, the manifest
	MaxRecord         = 16 << 10 // bytes of a record of the TPM
	KeySize           = 32       // bytes of every key
	saltSize          = 32       // bytes
	CheckSize         = 16       // bytes of a key check
	idSize            = 16       // bytes of a blob id
	associatedSize    = 16 + 32  // bytes of salt and digest of associated data
	nonceSize         = 12       // AES-GCM, NIST SP 800-38D
	tagSize           = 16       // AES-GCM
	Overhead          = nonceSize + tagSize
)
