// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Constants of an attestation (TPM 2.0 Part 2, sections 6.2 and 6.9).
const (
	GeneratedValue = 0xff544347 // TPM_GENERATED_VALUE: begins all that a TPM made itself
	AttestCertify  = 0x8017     // TPM_ST_ATTEST_CERTIFY
	AttestQuote    = 0x8018     // TPM_ST_ATTEST_QUOTE
)

// maxSelections is the most banks of a quote that are read. It bounds the loop: no TPM that
// we know has as many.
const maxSelections = 16

// Attest is a TPMS_ATTEST (TPM 2.0 Part 2, section 10.12.12) whose attested part was read as
// a TPMS_QUOTE_INFO. A library does not parse it: those that we know accept a wrong magic, or
// bytes after the structure.
type Attest struct {
	Magic           uint32
	Type            uint16
	QualifiedSigner []byte // TPM2B_NAME: the signing key and its whole chain of parents
	ExtraData       []byte // TPM2B_DATA: qualifying data
	Clock           uint64 // milliseconds, TPMS_CLOCK_INFO
	ResetCount      uint32 // TPM resets, shifted by a constant of the key
	RestartCount    uint32 // TPM restarts and resumes, shifted likewise
	Safe            bool   // no earlier Clock was larger; stays false long after an unclean boot
	Firmware        uint64 // firmware version of the TPM, shifted likewise
	Selection       tpm2.TPMLPCRSelection
	Canonical       bool   // every bitmap has exactly three bytes
	PCRDigest       []byte // TPM2B_DIGEST
	Trailing        int    // bytes after the structure
}

// AttestHeader returns magic and type. A caller checks both before it reads the rest as a
// quote.
func AttestHeader(b []byte) (magic uint32, typ uint16, err error) {
	r := newReader(b)
	magic, typ = r.U32("magic"), r.U16("type")
	return magic, typ, r.Err
}

// ParseAttest reads b as an attestation over a quote, for any magic and type, and counts
// the bytes after it. It shares memory with b.
func ParseAttest(b []byte) (*Attest, error) {
	r := newReader(b)
	a, safe := r.attest()
	banks := r.U32("pcrSelect.count")
	if r.Err == nil && banks > maxSelections {
		return nil, fmt.Errorf("pcrSelect of %d banks", banks)
	}
	for i := uint32(0); i < banks && r.Err == nil; i++ {
		hash := r.U16("pcrSelect.hash")
		bitmap := r.Take(uint64(r.U8("pcrSelect.sizeofSelect")), "pcrSelect.pcrSelect")
		a.Canonical = a.Canonical && len(bitmap) == PCRCount/8
		a.Selection.PCRSelections = append(a.Selection.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(hash), PCRSelect: bitmap})
	}
	a.PCRDigest = r.sized("pcrDigest")
	if r.Err != nil {
		return nil, r.Err
	}
	if safe > 1 {
		return nil, fmt.Errorf("clockInfo.safe is %d, want 0 or 1", safe)
	}
	a.Trailing = len(r.Rest)
	return a, nil
}

// attest takes what an attestation of any kind begins with. It returns clockInfo.safe, a
// TPMI_YES_NO, as it is too.
func (r *Reader) attest() (a *Attest, safe uint8) {
	a = &Attest{Magic: r.U32("magic"), Type: r.U16("type"), Canonical: true}
	a.QualifiedSigner = r.sized("qualifiedSigner")
	a.ExtraData = r.sized("extraData")
	a.Clock = r.U64("clockInfo.clock")
	a.ResetCount = r.U32("clockInfo.resetCount")
	a.RestartCount = r.U32("clockInfo.restartCount")
	safe = r.U8("clockInfo.safe")
	a.Firmware = r.U64("firmwareVersion")
	a.Safe = safe == 1
	return a, safe
}

// checkHeader refuses what a TPM did not make, or made of another kind. Kind names the type.
func checkHeader(b []byte, want uint16, kind string) error {
	magic, typ, err := AttestHeader(b)
	switch {
	case err != nil:
		return fmt.Errorf("TPMS_ATTEST of %d bytes: %w", len(b), err)
	case magic != GeneratedValue:
		return fmt.Errorf("TPMS_ATTEST begins with 0x%08x, want TPM_GENERATED_VALUE", magic)
	case typ != want:
		return fmt.Errorf("TPMS_ATTEST of type 0x%04x, want %s (0x%04x)", typ, kind, want)
	}
	return nil
}

// ParseQuote reads exactly one attestation over a quote: magic and type must be right, and
// no byte may follow.
func ParseQuote(b []byte) (*Attest, error) {
	if err := checkHeader(b, AttestQuote, "a quote"); err != nil {
		return nil, err
	}
	a, err := ParseAttest(b)
	if err != nil {
		return nil, fmt.Errorf("TPMS_ATTEST of %d bytes: %w", len(b), err)
	}
	if a.Trailing != 0 {
		return nil, fmt.Errorf("%d bytes follow the TPMS_ATTEST", a.Trailing)
	}
	return a, nil
}
