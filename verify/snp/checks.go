// SPDX-License-Identifier: Apache-2.0

package snp

import "bytes"

// CheckSigner compares the kind of key that the report names with the leaf's. A
// host that loaded a VLEK must not pass its signature for the chip's own, and a
// report made while the chip's keys were masked vouches for nothing.
func CheckSigner(r *Report, leaf *EndorsementKey) error {
	if r.KeyInfo.MaskChipKey() && r.KeyInfo.Signer() != SignerVLEK {
		return refuse(CodeChipKeyMasked, "key info of the report").found("the chip's keys are masked").want("a report signed by the %v", leaf.Signer)
	}
	switch s := r.KeyInfo.Signer(); s {
	case SignerNone:
		return refuse(CodeUnsigned, "key info of the report").found("no signer").want("%v", leaf.Signer)
	case leaf.Signer:
		return nil
	default:
		return refuse(CodeSigner, "key info of the report").found("signed by %v", s).want("%v, which the certificate is for", leaf.Signer)
	}
}

// CheckProduct compares the processor in the report with the certificate's
// product and the chain's. A version 2 report names no processor: then only
// certificate and chain are compared.
func CheckProduct(r *Report, chain *Chain) error {
	leaf := chain.Leaf
	if leaf.Product != chain.Product {
		return refuse(CodeProduct, "product of the endorsement key").found("%v", leaf.Product).want("%v, as its chain is for", chain.Product)
	}
	if r.CPU == nil {
		return nil
	}
	switch p := r.CPU.Product(); p {
	case ProductUnknown:
		return refuse(CodeProductUnknown, "processor in the report").found("%v", *r.CPU).want("one of Milan, Genoa or Turin")
	case leaf.Product:
		return nil
	default:
		return refuse(CodeProduct, "processor in the report").found("%v (%v)", *r.CPU, p).want("%v, as the certificate says", leaf.Product)
	}
}

// CheckChipID compares the chip in the report with the certificate's. There are three
// answers besides nil: another chip ([CodeChipID]), a report that does not name its chip
// ([CodeChipIDMasked]), and a VLEK, which belongs to no chip, so that there is nothing to
// compare ([CodeChipIDUnbound]: not asserted, not a failure by itself).
func CheckChipID(r *Report, leaf *EndorsementKey) error {
	if leaf.Signer == SignerVLEK {
		return refuse(CodeChipIDUnbound, "chip of the endorsement key").found("a VLEK, which names none")
	}
	if zero(r.ChipID[:]) {
		return refuse(CodeChipIDMasked, "chip id in the report").found("zero: masked by the host").want("%x", leaf.HWID)
	}
	// On Turin 8 bytes count and the rest is zero; padding the certificate's
	// value compares both at once.
	var want [64]byte
	copy(want[:], leaf.HWID)
	if !bytes.Equal(r.ChipID[:], want[:]) {
		return refuse(CodeChipID, "chip id in the report").found("%x", r.ChipID[:8]).want("%x, as the certificate says (first bytes shown)", want[:8])
	}
	return nil
}

// CheckTCB compares the reported TCB with the certificate's, byte for byte, and
// names the component that differs. The key is derived for exactly one TCB: a
// difference means that the report is not what this certificate is for.
func CheckTCB(r *Report, leaf *EndorsementKey) error {
	if r.ReportedTCB == leaf.TCB {
		return nil
	}
	got, want := r.ReportedTCB.Bytes(), leaf.TCB.Bytes()
	for _, l := range layouts[leaf.Product] {
		if got[l.byte] != want[l.byte] {
			name := string(l.component)
			if name == "" {
				name = "reserved"
			}
			return refuse(CodeTCB, "reported TCB, %s (byte %d)", name, l.byte).found("%d", got[l.byte]).want("%d, as the certificate says", want[l.byte])
		}
	}
	return refuse(CodeTCBLayout, "reported TCB").found("product %v", leaf.Product).want("Milan, Genoa or Turin")
}
