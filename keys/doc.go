// SPDX-License-Identifier: Apache-2.0

// Package keys has what a verifier needs to tie an attestation key to a TPM: public areas
// and names of TPM keys, certificates of endorsement keys, challenges, and enrolments. It
// needs no TPM.
//
//   - The EK (endorsement key) is the identity of a TPM, derived from its endorsement
//     seed. It can decrypt and not sign. Manufacturers and clouds certify it.
//   - The AK (attestation key) signs quotes. It is restricted: it signs only what the TPM
//     itself composed, so its signature says "this TPM saw this".
//
// # Credential activation
//
// A verifier that knows an EK learns whether an AK lives in the same TPM: it encrypts a
// secret to the EK under the name of the AK ([NewChallenge]). The TPM releases the secret
// only if an object of that name is loaded (TPM2_ActivateCredential). The name covers the
// attributes. So the verifier computes the name itself from the public area, and first
// checks that such a key can attest at all. The result is an [Enrolment], which a policy
// can name.
//
// # Other keys
//
// The package also checks keys of other kinds that come from outside: encoding and order of an
// Ed25519 key ([CheckEd25519]), and whether a caller has the key that it names
// ([CheckPossession]).
//
// A TPM whose state was copied answers for all its copies. No protocol between a
// verifier and a TPM can tell them apart.
package keys
