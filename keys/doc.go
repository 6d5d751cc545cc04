// SPDX-License-Identifier: Apache-2.0

// Package keys makes and finds the TPM keys of the agent, and ties them to a TPM.
//
//   - The EK (endorsement key) is the identity of a TPM, derived from its endorsement
//     seed. It can decrypt and not sign. Manufacturers and clouds certify it.
//   - The SRK (storage root key) is the parent of everything kept outside the TPM.
//   - The AK (attestation key) signs quotes. It is restricted: it signs nothing but
//     what the TPM itself composed, so its signature says "this TPM saw this".
//
// The AK is a child of the SRK in the owner hierarchy. It is made once, kept as a
// [Blob] in the agent's state, and dies with TPM2_Clear, as it must: the clear resets
// the counters that tell one boot from another.
//
// # The AK's authorization
//
// The AK has a random authorization value that is in the blob and nowhere else, so
// that other programs which may open the TPM cannot quote with it. It is never sent:
// quotes are authorized by an HMAC session, and at creation it travels encrypted
// under a session salted to the SRK. Whoever reads along on the bus therefore learns
// nothing that authorizes a quote, and a changed answer is noticed.
//
// None of this holds against the party that runs the TPM. A host that provides the
// vTPM has its seeds, the AK's private key among them. That is why evidence carries
// a signature of the agent key besides the quote, and why a verifier says where the
// AK came from.
//
// # Credential activation
//
// A verifier that knows an EK learns whether an AK lives in the same TPM by
// encrypting a secret to the EK under the name of the AK ([NewChallenge]). The TPM
// releases it only if an object of that name is loaded ([AK.Activate]). The name
// covers the attributes, so the verifier computes it itself from the public area and
// first checks that such a key can attest at all. The outcome is an [Enrolment].
//
// A TPM whose state was copied answers for all its copies. No protocol between a
// verifier and a TPM can tell them apart.
package keys
