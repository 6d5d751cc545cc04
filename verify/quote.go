// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// quoteIDs are the checks that one snapshot's quote undergoes.
type quoteIDs struct {
	what                                 string
	magic, typ, decode, trailing         CheckID
	encoding, signature                  CheckID
	selection, pcrDigest, qualifyingData CheckID
}

var (
	quoteChecks = quoteIDs{"quote", QuoteMagic, QuoteType, QuoteDecode, QuoteTrailing,
		QuoteSignatureEncoding, QuoteSignature, QuoteSelection, QuotePCRDigest, QuoteQualifyingData}
	anchorChecks = quoteIDs{"anchor's quote", AnchorMagic, AnchorType, AnchorDecode, AnchorTrailing,
		AnchorSignatureEncoding, AnchorSignature, AnchorSelection, AnchorPCRDigest, AnchorQualifyingData}
)

// quoted is a snapshot's quote, read. Values are those that the evidence gives; they
// mean something only where every check of the quote passed.
type quoted struct {
	attest    *tpmwire.Attest
	selection pcr.Selection
	values    pcr.Values
}

// checkKey judges the attestation key. What it may sign is judged apart from what it
// signs with, so that a refusal names the one that is wrong.
func (a *appraiser) checkKey() {
	public, err := tpmwire.ParsePublic(a.e.AK)
	if !a.DecideError(AKDecode, err) || public == nil {
		return
	}
	faults := attributeFaults(public.ObjectAttributes)
	a.Decide(AKAttributes, faults == "", "fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; nothing else", faults,
		"the attestation key could be used outside its TPM, or signs what its user hands it: %s", faults)
	key, err := tpmwire.SigningKey(public, a.e.AK)
	if a.DecideError(AKAlgorithm, err) && key != nil {
		a.ak = key
	}
}

// checkQuote judges one quote and returns it, or nil where it could not be read. Want
// is the qualifying data that it must hold; nil where none is expected.
func (a *appraiser) checkQuote(id quoteIDs, s *evidence.Snapshot, want []byte) *quoted {
	a.checkQuoteSignature(id, s)
	magic, typ, err := tpmwire.AttestHeader(s.Quote.Attest)
	if err != nil {
		a.DecideError(id.decode, err)
		return nil
	}
	ok := a.Decide(id.magic, magic == tpmwire.GeneratedValue, hex32(tpmwire.GeneratedValue), hex32(magic),
		"the %s does not start with the value that a TPM puts before what it made itself", id.what)
	if !a.Decide(id.typ, typ == tpmwire.AttestQuote, hex32(tpmwire.AttestQuote), hex32(uint32(typ)), "the %s is an attestation of another kind", id.what) || !ok {
		return nil // laid out as something else
	}
	at, err := tpmwire.ParseAttest(s.Quote.Attest)
	if !a.DecideError(id.decode, err) || at == nil {
		return nil
	}
	a.Decide(id.trailing, at.Trailing == 0, "no bytes", fmt.Sprintf("%d bytes", at.Trailing), "bytes follow the %s", id.what)
	if want == nil {
		a.Skip(id.qualifyingData, "no nonce was expected: the %s may be old, or made for somebody else", id.what)
	} else {
		a.Decide(id.qualifyingData, equal(at.ExtraData, want), hex.EncodeToString(want), short(at.ExtraData),
			"the %s was made over other qualifying data than expected", id.what)
	}
	q := &quoted{attest: at}
	a.checkPCRs(id, s, q)
	return q
}

func hex32(v uint32) string { return fmt.Sprintf("0x%04x", v) }

func (a *appraiser) checkQuoteSignature(id quoteIDs, s *evidence.Snapshot) {
	if a.ak == nil {
		return
	}
	sig, err := a.ak.ParseSignature(s.Quote.Signature)
	if !a.DecideError(id.encoding, err) || sig == nil {
		return
	}
	a.Decide(id.signature, a.ak.Verify(s.Quote.Attest, sig), "a signature by AK "+hex.EncodeToString(a.ak.Name), "one that does not hold",
		"the signature over the %s does not hold under the attestation key", id.what)
}

// checkPCRs compares selection and values of the evidence with the quote. The order
// of banks counts, since the PCR digest runs over it.
func (a *appraiser) checkPCRs(id quoteIDs, s *evidence.Snapshot, q *quoted) {
	selection, err := selected(q.attest)
	if err == nil {
		var given pcr.Selection
		q.values, given, err = pcr.ValuesFromBanks(s.PCRs)
		if err == nil && given.String() != selection.String() {
			a.Decide(id.selection, false, selection.String(), given.String(), "the evidence gives values for other PCRs than the %s selects", id.what)
			q.values = nil
			return
		}
	}
	if !a.DecideError(id.selection, err) {
		q.values = nil
		return
	}
	q.selection = selection
	if a.ak == nil {
		return
	}
	digest, err := selection.Composite(q.values, a.ak.Hash)
	if err != nil {
		a.DecideError(id.pcrDigest, err)
		return
	}
	a.Decide(id.pcrDigest, equal(digest, q.attest.PCRDigest), hex.EncodeToString(q.attest.PCRDigest), hex.EncodeToString(digest),
		"the PCR values of the evidence are not the ones that the %s was made over", id.what)
}

// selected returns the selection of a quote in canonical form, or why it is not.
func selected(a *tpmwire.Attest) (pcr.Selection, error) {
	if !a.Canonical {
		return nil, errors.New("a bitmap does not have three bytes")
	}
	s, err := pcr.SelectionFromTPM(a.Selection)
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

// banksOf lists the quoted banks that hold this PCR, and whether one is stronger than SHA-1.
func (q *quoted) banksOf(index uint32) (banks []pcr.Algorithm, strong bool) {
	for _, b := range q.selection {
		if slices.Contains(b.PCRs, index) {
			banks = append(banks, b.Algorithm)
			strong = strong || b.Algorithm != pcr.SHA1
		}
	}
	return banks, strong
}
