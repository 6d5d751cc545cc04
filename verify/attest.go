// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/pcr"
)

// Constants of an attestation (TPM 2.0 Part 2, sections 6.2 and 6.9).
const (
	generatedValue = 0xff544347 // TPM_GENERATED_VALUE: what a TPM puts before everything it made itself
	attestQuote    = 0x8018     // TPM_ST_ATTEST_QUOTE
)

// attest is a TPMS_ATTEST (TPM 2.0 Part 2, section 10.12.12) whose attested part was
// read as a TPMS_QUOTE_INFO. It is parsed here and not by a library: those that we know
// accept a wrong magic, or bytes behind the structure.
type attest struct {
	magic           uint32
	typ             uint16
	qualifiedSigner []byte // TPM2B_NAME: whole chain of parents of the signing key
	extraData       []byte // TPM2B_DATA: qualifying data
	clock           uint64 // milliseconds, TPMS_CLOCK_INFO
	resetCount      uint32 // shifted by a constant of the key, see [AnchorResetCount]
	restartCount    uint32 // likewise
	selection       tpm2.TPMLPCRSelection
	canonical       bool   // every bitmap has exactly three bytes
	pcrDigest       []byte // TPM2B_DIGEST
	trailing        int    // bytes behind it
}

// reader takes fields off the front of b; the first that is short is kept in err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int, what string) []byte {
	if r.err != nil {
		return make([]byte, min(n, 8)) // a zero for the integers; nobody uses it
	}
	if n > len(r.b) {
		r.err = fmt.Errorf("%s: %d bytes wanted, %d left", what, n, len(r.b))
		return make([]byte, min(n, 8))
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8(what string) uint8   { return r.take(1, what)[0] }
func (r *reader) u16(what string) uint16 { return binary.BigEndian.Uint16(r.take(2, what)) }
func (r *reader) u32(what string) uint32 { return binary.BigEndian.Uint32(r.take(4, what)) }
func (r *reader) u64(what string) uint64 { return binary.BigEndian.Uint64(r.take(8, what)) }

// sized is a TPM2B: a length in two bytes, then that many.
func (r *reader) sized(what string) []byte { return r.take(int(r.u16(what)), what) }

// attestHeader is magic and type, which are judged before the rest is believed to be
// laid out as a quote.
func attestHeader(b []byte) (magic uint32, typ uint16, err error) {
	r := &reader{b: b}
	magic, typ = r.u32("magic"), r.u16("type")
	return magic, typ, r.err
}

// parseAttest reads b as an attestation over a quote, whatever magic and type say.
func parseAttest(b []byte) (*attest, error) {
	r := &reader{b: b}
	a := &attest{magic: r.u32("magic"), typ: r.u16("type"), canonical: true}
	a.qualifiedSigner = r.sized("qualifiedSigner")
	a.extraData = r.sized("extraData")
	a.clock = r.u64("clockInfo.clock")
	a.resetCount = r.u32("clockInfo.resetCount")
	a.restartCount = r.u32("clockInfo.restartCount")
	safe := r.u8("clockInfo.safe") // TPMI_YES_NO; not required, since it stays 0 long after an unclean boot
	r.u64("firmwareVersion")
	banks := r.u32("pcrSelect.count")
	if r.err == nil && banks > 16 { // HASH_COUNT of any TPM we know of; bounds the loop
		return nil, fmt.Errorf("pcrSelect of %d banks", banks)
	}
	for i := uint32(0); i < banks && r.err == nil; i++ {
		hash := r.u16("pcrSelect.hash")
		bitmap := r.take(int(r.u8("pcrSelect.sizeofSelect")), "pcrSelect.pcrSelect")
		a.canonical = a.canonical && len(bitmap) == pcr.Count/8
		a.selection.PCRSelections = append(a.selection.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(hash), PCRSelect: bitmap})
	}
	a.pcrDigest = r.sized("pcrDigest")
	if r.err != nil {
		return nil, r.err
	}
	if safe > 1 {
		return nil, fmt.Errorf("clockInfo.safe is %d, want 0 or 1", safe)
	}
	a.trailing = len(r.b)
	return a, nil
}

// selected is the selection in canonical form, or why it is not.
func (a *attest) selected() (pcr.Selection, error) {
	if !a.canonical {
		return nil, errors.New("a bitmap does not have three bytes")
	}
	s, err := pcr.SelectionFromTPM(a.selection)
	if err != nil {
		return nil, err
	}
	for _, b := range s {
		if b.Algorithm != pcr.SHA1 {
			return s, nil
		}
	}
	return nil, errors.New("only SHA-1 is selected, whose collisions can be made")
}
