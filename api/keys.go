// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// DeriveRequest is the body of POST /v1/keys/derive.
type DeriveRequest struct {
	Label   string `json:"label"`            // what the secret is for, at most 1024 bytes
	Length  uint32 `json:"length"`           // bytes wanted, 1 to 1024
	Version uint32 `json:"version,omitzero"` // version of the app's root; default: the current one
}

// Derived is the answer of POST /v1/keys/derive: the same secret after each restart and reboot.
type Derived struct {
	Secret  evidence.Bytes `json:"secret"`  // the derived secret
	Version uint32         `json:"version"` // version of the app's root that was used
}

// SigningAlgorithm is the algorithm of a signing key.
type SigningAlgorithm string

const (
	SignEd25519 SigningAlgorithm = "ed25519"    // RFC 8032
	SignP256    SigningAlgorithm = "ecdsa-p256" // FIPS 186-5, with SHA-256
	SignP384    SigningAlgorithm = "ecdsa-p384" // FIPS 186-5, with SHA-384

	SignTPMP256 SigningAlgorithm = "tpm-ecdsa-p256" // the same as SignP256, by a key that never leaves the TPM
)

// SigningAlgorithms returns all algorithms of signing keys.
func SigningAlgorithms() []SigningAlgorithm {
	return []SigningAlgorithm{SignEd25519, SignP256, SignP384, SignTPMP256}
}

// SigningKey names a signing key of the calling app.
type SigningKey struct {
	Label     string           `json:"label"`            // what the key is for, 1 to 1024 bytes
	Algorithm SigningAlgorithm `json:"algorithm"`        // "ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256"
	Version   uint32           `json:"version,omitzero"` // version of the app's root; default: the current one
}

// SignRequest is the body of POST /v1/sign. It has exactly one of message and digest.
type SignRequest struct {
	Label     string           `json:"label"`            // what the key is for, 1 to 1024 bytes
	Algorithm SigningAlgorithm `json:"algorithm"`        // "ed25519", "ecdsa-p256", "ecdsa-p384" or "tpm-ecdsa-p256"
	Version   uint32           `json:"version,omitzero"` // version of the app's root; default: the current one
	Message   evidence.Bytes   `json:"message,omitzero"` // what is signed, 1 byte to 64 KiB
	Digest    evidence.Bytes   `json:"digest,omitzero"`  // its digest, for ECDSA: SHA-256 with P-256, SHA-384 with P-384
}

// Signed is the answer of POST /v1/sign.
type Signed struct {
	Signature evidence.Bytes `json:"signature"` // Ed25519: 64 bytes; ECDSA: DER
	PublicKey evidence.Bytes `json:"publicKey"` // public half of the key, DER SubjectPublicKeyInfo
	Version   uint32         `json:"version"`   // version of the app's root that was used
}

// PublicKey is the answer of GET /v1/keys/public.
type PublicKey struct {
	PublicKey evidence.Bytes `json:"publicKey"` // public half of the key, DER SubjectPublicKeyInfo
	Version   uint32         `json:"version"`   // version of the app's root that was used
}

// CertifyRequest is the body of POST /v1/keys/certify.
type CertifyRequest struct {
	Label     string           `json:"label"`            // what the key is for, 1 to 1024 bytes
	Algorithm SigningAlgorithm `json:"algorithm"`        // "tpm-ecdsa-p256"
	Version   uint32           `json:"version,omitzero"` // version of the app's root; default: the current one
	Data      evidence.Bytes   `json:"data"`             // what the certification is over, 1 to 64 bytes: a nonce, or a digest that a protocol asks for
}

// Certified is the answer of POST /v1/keys/certify: the TPM's word about a signing key that it has,
// signed by the attestation key (TPM 2.0 Part 3, section 18.2). keys.Certification checks it.
type Certified struct {
	Public        evidence.Bytes `json:"public"`                 // TPMT_PUBLIC of the key
	PublicKey     evidence.Bytes `json:"publicKey"`              // the same public half, DER SubjectPublicKeyInfo
	Attest        evidence.Bytes `json:"attest"`                 // TPMS_ATTEST over the key's name, with the data as extraData
	Signature     evidence.Bytes `json:"signature"`              // TPMT_SIGNATURE of the AK over attest
	AKPublic      evidence.Bytes `json:"akPublic"`               // TPMT_PUBLIC of the AK
	AKCertificate evidence.Bytes `json:"akCertificate,omitzero"` // certificate of the AK that the platform made, X.509 DER, unverified
	Version       uint32         `json:"version"`                // version of the app's root that was used
}

// SealRequest is the body of POST /v1/seal.
type SealRequest struct {
	Name           string         `json:"name"`                    // name that the app chooses, 1 to 256 bytes
	Data           evidence.Bytes `json:"data"`                    // the secret, 1 byte to 64 KiB
	AssociatedData evidence.Bytes `json:"associatedData,omitzero"` // required again to unseal, at most 64 KiB, of which only a digest is kept
	RequireDigest  bool           `json:"requireDigest,omitzero"`  // from now on only the app as it is measured now gets its keys, and digests authorised later
}

// Sealed is the answer of POST /v1/seal: the secret is on disk.
type Sealed struct {
	Name  string `json:"name"`  // name of the secret
	Bytes int    `json:"bytes"` // size of the secret
}

// UnsealRequest is the body of POST /v1/unseal.
type UnsealRequest struct {
	Name           string         `json:"name"`                    // name of the secret
	AssociatedData evidence.Bytes `json:"associatedData,omitzero"` // the same as at sealing
}

// Unsealed is the answer of POST /v1/unseal.
type Unsealed struct {
	Data evidence.Bytes `json:"data"` // the secret
}

// DiscardRequest is the body of POST /v1/discard.
type DiscardRequest struct {
	Name string `json:"name"` // name of the secret
}

// Discarded is the answer of POST /v1/discard: the secret is gone for good.
type Discarded struct {
	Name string `json:"name"` // name of the secret
}

// KeyStatus is the state of the store of sealed blobs.
type KeyStatus struct {
	State      State  `json:"state"`             // whether blobs can be opened
	Code       Code   `json:"code,omitzero"`     // why nothing opens, if that has a code
	Reason     string `json:"reason,omitzero"`   // the same in words, and what to do
	Slot       string `json:"slot,omitzero"`     // weakest slot of what is sealed now: "snp+tpm", "snp" or "tpm"
	Blobs      int    `json:"blobs"`             // sealed blobs that the manifest lists
	Generation uint64 `json:"generation"`        // number of the manifest
	Counted    bool   `json:"counted"`           // a counter in the TPM detects an older state of the files
	Rewrap     bool   `json:"rewrap"`            // some blobs are sealed to an older TCB or another kind of slot
	Orphans    int    `json:"orphans"`           // files that the manifest does not list
	StoreKey   string `json:"storeKey,omitzero"` // public half of the key that signs every blob, as "agentctl key store-key" prints it: keep it with the recovery identity
	Unproven   int    `json:"unproven"`          // blobs that were recovered although nothing told who wrote them
}

// Store is the answer of GET /v1/store.
type Store struct {
	Status     KeyStatus    `json:"status"`
	Recipients []string     `json:"recipients"` // recovery recipients, from the authenticated manifest
	Differ     bool         `json:"differ"`     // the configuration names other recipients, which are not used
	Blobs      []SealedBlob `json:"blobs"`      // blobs that the manifest lists
}

// SealedBlob is one sealed blob as the manifest lists it.
type SealedBlob struct {
	App        string `json:"app"`           // name of the app
	Kind       string `json:"kind"`          // "app root" or "secret"
	Name       string `json:"name,omitzero"` // name of a secret
	Generation uint64 `json:"generation"`    // number of the manifest that first listed the blob
	Bytes      int    `json:"bytes"`         // size of its file
	Slot       string `json:"slot"`          // weakest slot of the machine
	TCB        string `json:"tcb,omitzero"`  // TCB at sealing, hexadecimal, in the order of the report
	Rewrap     bool   `json:"rewrap"`        // sealed to an older TCB or another kind of slot than this machine has now
	Unproven   bool   `json:"unproven"`      // recovered although nothing told who wrote it: an attacker may have chosen what it contains
}

// Contract says what a blob opens on and what would lock it out. It contains no secret.
type Contract struct {
	Text          string            `json:"text"`              // all of it, for people
	Authenticated bool              `json:"authenticated"`     // the blob was opened; otherwise this is what its file claims
	Planned       bool              `json:"planned"`           // there is no blob: what one would be sealed to now
	App           string            `json:"app"`               // name of the app
	Unit          string            `json:"unit"`              // system unit of the app
	User          string            `json:"user"`              // user of the unit
	Name          string            `json:"name,omitzero"`     // name of a secret
	Generation    uint64            `json:"generation"`        // number of the manifest that first listed the blob
	Slots         []string          `json:"slots"`             // kinds of slots, the strongest first
	Weakest       string            `json:"weakest"`           // weakest slot of the machine
	Recipients    []string          `json:"recipients"`        // recovery recipients (age X25519)
	Digests       []evidence.Digest `json:"digests"`           // digests of which the app must have one; empty: not required
	Counted       bool              `json:"counted"`           // a counter in the TPM detects an older state of the files
	StoreKey      string            `json:"storeKey,omitzero"` // public half of the key that signs the blob: recovery needs it
	Unproven      bool              `json:"unproven"`          // recovered although nothing told who wrote it: an attacker may have chosen what it contains
	Limit         string            `json:"limit"`             // other parties that could open it
	Openers       []ContractOpener  `json:"openers"`           // every party that can open it, and when
	Changes       []ContractChange  `json:"changes"`           // effect of each change
	Code          Code              `json:"code,omitzero"`     // why it does not open
	Reason        string            `json:"reason,omitzero"`   // the same in words
}

// ContractOpener is a party that can open a blob.
type ContractOpener struct {
	Who  string `json:"who"`  // the party, in words
	When string `json:"when"` // on what that depends, in words
}

// ContractChange is the effect of one change to machine or app.
type ContractChange struct {
	Change   string `json:"change"`        // what happens to machine or app
	Opens    bool   `json:"opens"`         // whether the blob opens then
	Code     Code   `json:"code,omitzero"` // error if it does not open
	Recovery bool   `json:"recovery"`      // the recovery identity opens it then, with the store key
	Note     string `json:"note,omitzero"` // what else to know
}

// Rewritten is the answer of calls that seal the whole store again.
type Rewritten struct {
	Written     int        `json:"written"`            // number of blobs sealed again
	Kept        []KeptBlob `json:"kept"`               // blobs that did not open and were left as they are
	StoreKey    string     `json:"storeKey"`           // public half of the key that signs every blob from now on
	NewStoreKey bool       `json:"newStoreKey"`        // the store key is another than before: keep it with the recovery identity
	Recovered   *Recovered `json:"recovered,omitzero"` // after a recovery: what it rests on
}

// Recovered says what a recovery rests on.
type Recovered struct {
	Locked           bool          `json:"locked"`           // the whole store was recovered, not single blobs of one that was open
	Generation       uint64        `json:"generation"`       // number of the recovered manifest; 0 if it was lost
	Newest           bool          `json:"newest"`           // the TPM's counter says that nothing newer was written; otherwise the age is unknown
	RecipientsBefore []string      `json:"recipientsBefore"` // recovery recipients that the files named
	Recipients       []string      `json:"recipients"`       // recovery recipients from now on
	Unproven         bool          `json:"unproven"`         // nothing told who wrote some of it: an attacker may have chosen what it contains
	Rotated          []RootVersion `json:"rotated"`          // app roots that got a new version because of that
	Secrets          []StoredName  `json:"secrets"`          // stored secrets of which nothing told who wrote them
}

// StoredName names a stored secret.
type StoredName struct {
	App  string `json:"app"`  // name of the app
	Name string `json:"name"` // name of the secret
}

// SecretRequest is the body of POST /v1/secrets/put and /v1/secrets/rotate.
type SecretRequest struct {
	App  string         `json:"app"`  // name of the app
	Name string         `json:"name"` // name of the secret: 1 to 200 letters, digits and _.-+@
	Data evidence.Bytes `json:"data"` // the secret, 1 byte to 64 KiB
}

// RemoveSecretRequest is the body of POST /v1/secrets/remove.
type RemoveSecretRequest struct {
	App  string `json:"app"`  // name of the app
	Name string `json:"name"` // name of the secret
}

// Secrets is the answer of GET /v1/secrets.
type Secrets struct {
	Secrets []ProvisionedSecret `json:"secrets"` // ascending by app and name
}

// ProvisionedSecret is a secret that root provisioned, without its content.
type ProvisionedSecret struct {
	App        string `json:"app"`        // name of the app
	Name       string `json:"name"`       // name of the secret, and of the credential
	Bytes      int    `json:"bytes"`      // size of the secret
	Generation uint64 `json:"generation"` // number of the manifest that first listed this content
	Slot       string `json:"slot"`       // weakest slot of the machine
	Rewrap     bool   `json:"rewrap"`     // sealed to an older TCB or another kind of slot than this machine has now
	Unproven   bool   `json:"unproven"`   // recovered although nothing told who wrote it: an attacker may have chosen what it contains
}

// KeptBlob is a blob that was left as it is.
type KeptBlob struct {
	App    string `json:"app"`           // name of the app
	Kind   string `json:"kind"`          // "app root" or "secret"
	Name   string `json:"name,omitzero"` // name of a secret
	Code   Code   `json:"code,omitzero"` // why it does not open
	Reason string `json:"reason"`        // the same in words
}

// RotateRequest is the body of POST /v1/store/rotate.
type RotateRequest struct {
	App string `json:"app"` // name of the app
}

// RetireRequest is the body of POST /v1/store/retire.
type RetireRequest struct {
	App     string `json:"app"`     // name of the app
	Version uint32 `json:"version"` // a version other than the current one
}

// RootVersion is the answer of POST /v1/store/rotate and /v1/store/retire: a version of
// the app's root that is now in use, or gone.
type RootVersion struct {
	App     string `json:"app"`     // name of the app
	Version uint32 `json:"version"` // version of the root
}

// RecoverRequest is the body of POST /v1/store/recover. Without identities and store key, a
// store of which only the manifest is lost is salvaged.
type RecoverRequest struct {
	Identities                   evidence.Bytes `json:"identities,omitzero"`                   // a file as age-keygen writes it
	StoreKey                     string         `json:"storeKey,omitzero"`                     // public half of the store key, as "agentctl key store-key" prints it, which must have signed what is recovered; required with identities
	TrustUnknownWriterOfThisDisk bool           `json:"trustUnknownWriterOfThisDisk,omitzero"` // in place of storeKey: take over what an attacker may have written; every app root gets a new version
	Recipients                   []string       `json:"recipients,omitzero"`                   // recovery recipients (age X25519) from now on; the files are not asked
	LoseOnHardwareChange         bool           `json:"loseOnHardwareChange,omitzero"`         // acknowledgement that is required without recipients
	AcceptRollback               bool           `json:"acceptRollback,omitzero"`               // recover a state that does not match the TPM's counter
}

// RecipientsRequest is the body of POST /v1/store/recipients.
type RecipientsRequest struct {
	Recipients           []string `json:"recipients"`                    // recovery recipients (age X25519)
	LoseOnHardwareChange bool     `json:"loseOnHardwareChange,omitzero"` // acknowledgement that is required without recipients
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
	App    string           `json:"app"`             // name of the app
	Action DigestAction     `json:"action"`          // what to do
	Digest *evidence.Digest `json:"digest,omitzero"` // required for authorize and withdraw; for require, default: the one measured now
}

// Probed is the answer of POST /v1/store/probe and of POST /v1/tpm/try.
type Probed struct {
	Findings []ProbeFinding `json:"findings"` // one for each thing that was tried
}

// ProbeFinding is one thing that was tried on the key derivation of the platform, or on the TPM.
type ProbeFinding struct {
	Name string `json:"name"` // what was tried
	OK   bool   `json:"ok"`   // whether the result is as it should be
	Text string `json:"text"` // result in words

	Todo string `json:"todo,omitzero"` // what to do, if the result is not as it should be
}
