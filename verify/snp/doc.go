// SPDX-License-Identifier: Apache-2.0

// Package snp reads what an AMD SEV-SNP platform signs and what vouches for it:
// attestation reports of versions 2 to 5, VCEK and VLEK certificates, their chain
// to a root, and the certificate table that a host passes to its guest.
//
// Nothing here asks a device or a network, and time is always the caller's. Each
// question is a function of its own, so that an appraisal can name the one that
// failed:
//
//	r, err := snp.ParseReport(b)                         // shape
//	leaf, err := snp.SelectLeaf(r, leaves)               // or snp.ParseEndorsementKey(der)
//	err = r.VerifySignature(leaf)                        // the bytes are the firmware's
//	chain, err := snp.VerifyChain(leaf, others, roots)   // the key is AMD's
//	err = chain.CheckValidity(at)
//	err = snp.CheckSigner(r, leaf)                       // VCEK or VLEK, as the report says
//	err = snp.CheckProduct(r, chain)                     // processor, key and chain agree
//	err = snp.CheckChipID(r, leaf)                       // the key is this chip's
//	err = snp.CheckTCB(r, leaf)                          // the key is this firmware's
//
// A refusal is an [*Error] with a [Code] that does not change between releases.
//
// Sources: "SEV Secure Nested Paging Firmware ABI Specification" (AMD publication
// 56860, cited as "ABI"), "Versioned Chip Endorsement Key (VCEK) Certificate and
// KDS Interface Specification" (57230, "KDS") and "SEV-ES Guest-Hypervisor
// Communication Block Standardization" (56421, "GHCB").
package snp
