// SPDX-License-Identifier: Apache-2.0

// Package sealing reads and writes the format of sealed blobs, and says in advance which
// changes would lock an app out. docs/sealing.md is the specification.
//
// A blob contains one secret, encrypted with a random data key. Its header can be read
// without any key. It names the app, the machine at sealing, and the slots. Each slot wraps
// the data key with one root: the key that the SNP firmware derives for this guest on this
// chip together with a secret in the TPM, one of the two alone, or a recovery recipient
// (age) whose identity is on no machine of the app.
//
// A recovery recipient is public, so any party can make a blob that opens with the identity.
// [Blob.CheckSender] tells what the machine wrote from such a blob: the store key signs
// each blob, and root keeps its public half with the identity.
//
// [ParseBlob] reads a blob without opening it, so its header is a claim. [Header.Contract]
// says what the blob rests on and what each change of the machine or the app would do to it.
// The agent derives the keys and opens the blobs; other programs need neither for that.
//
// # Layout
//
// A blob is a prelude of 24 bytes, then fields. Integers are big-endian. The prelude is
// "agentd/sealed/2\n", the length of the whole blob (4 bytes) and CRC-32C of both (4). A
// field is its tag (2 bytes), the length of its value (4), the value, and CRC-32C of all
// three (4). Each field of the header is there once, in ascending order of its tag; then one
// wrapped key for each slot; then the payload; then the signature. Version 1 had none.
package sealing
