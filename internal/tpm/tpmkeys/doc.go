// SPDX-License-Identifier: Apache-2.0

// Package tpmkeys makes, finds and uses the keys of the agent in a TPM, over a transport.
// Package keys has what a verifier needs of them.
//
//   - The EK (endorsement key) is the identity of a TPM, derived from its endorsement
//     seed. It can decrypt and not sign. Manufacturers and clouds certify it.
//   - The SRK (storage root key) is the parent of every key that is stored outside the TPM.
//   - The AK (attestation key) signs quotes. It is restricted: it signs only what the TPM
//     itself composed, so its signature says "this TPM saw this".
//
// The AK is a child of the SRK in the owner hierarchy. It is made once and kept as a
// [Blob] in the agent's state. TPM2_Clear ends it, as it must: the clear also resets the
// counters that tell one boot from another.
//
// # The AK's authorization
//
// The AK has a random authorization value that is only in the blob, so that other programs
// that may open the TPM cannot quote with it. The value is never sent in the clear. An HMAC
// session authorizes quotes, and at creation the value is encrypted under a session that is
// salted to the SRK. An attacker who reads the bus learns nothing that authorizes a quote,
// and the session detects a changed answer.
//
// None of this protects against the party that runs the TPM. A host that provides the
// vTPM has its seeds, and so the AK's private key. That is why evidence contains a
// signature of the agent key as well as the quote, and why a verifier says where the
// AK came from.
package tpmkeys
