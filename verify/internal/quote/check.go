// SPDX-License-Identifier: Apache-2.0

// Package quote checks attestation keys of TPMs and the quotes that they sign.
package quote

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

var (
	keyDecode     = check.Definition{ID: "ak.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the attestation key is exactly one TPMT_PUBLIC", Stops: "a key that two parsers read differently"}
	keyAttributes = check.Definition{ID: "ak.attributes", Class: check.Binding, Ground: check.OnQuote, Checks: "the attestation key says of itself that it is a restricted signing key, was made in its TPM, cannot leave it, and does nothing else", Stops: "an unrestricted key of a TPM, which signs whatever looks like a quote; not a key in software, which can say the same of itself"}
	keyAlgorithm  = check.Definition{ID: "ak.algorithm", Class: check.Binding, Ground: check.OnVerifier, Checks: "the attestation key is ECDSA on P-256 or P-384, or RSA of 2048 bits or more, with SHA-256 or stronger", Stops: "forged signatures under SHA-1, RSA-1024 or a scheme that the signer chooses"}
)

// KeyDefinitions are the checks of an attestation key.
var KeyDefinitions = []check.Definition{keyDecode, keyAttributes, keyAlgorithm}

// Set is the checks of one quote.
type Set struct {
	what                                 string
	magic, typ, decode, trailing         check.Definition
	encoding, signature                  check.Definition
	selection, pcrDigest, qualifyingData check.Definition
}

func (s *Set) definitions() []check.Definition {
	return []check.Definition{s.magic, s.typ, s.decode, s.trailing, s.encoding, s.signature, s.selection, s.pcrDigest, s.qualifyingData}
}

// Batch is the checks of the quote of a batch.
var Batch = Set{
	what:           "quote",
	magic:          check.Definition{ID: "quote.magic", Class: check.Binding, Ground: check.OnQuote, Checks: "the quote starts with TPM_GENERATED_VALUE", Stops: "data that a TPM signed for another purpose"},
	typ:            check.Definition{ID: "quote.type", Class: check.Binding, Ground: check.OnQuote, Checks: "the quote is an attestation of type TPM_ST_ATTEST_QUOTE", Stops: "an NV certification or another attestation whose body reads like a quote"},
	decode:         check.Definition{ID: "quote.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the quote is a TPMS_ATTEST over a TPMS_QUOTE_INFO", Stops: "a quote that two parsers read differently"},
	trailing:       check.Definition{ID: "quote.trailing", Class: check.Binding, Ground: check.OnVerifier, Checks: "nothing follows the quote", Stops: "bytes that are signed but not looked at"},
	encoding:       check.Definition{ID: "quote.signature-encoding", Class: check.Binding, Ground: check.OnVerifier, Checks: "the signature is exactly one TPMT_SIGNATURE of the AK's own scheme and hash, its numbers in range and without padding", Stops: "half signatures, zero signatures, a hash that the attacker chooses, a padded spelling of a signature"},
	signature:      check.Definition{ID: "quote.signature", Class: check.Binding, Ground: check.OnQuote, Checks: "the signature over the quote verifies under the AK", Stops: "an invented or altered quote under the AK of a TPM"},
	selection:      check.Definition{ID: "quote.selection", Class: check.Binding, Ground: check.OnQuote, Checks: "the quote selects known banks once, in canonical form, with at least one of SHA-256 or stronger, and the evidence gives values for exactly the selected PCRs in that order", Stops: "use of a PCR value that was not quoted"},
	pcrDigest:      check.Definition{ID: "quote.pcr-digest", Class: check.Binding, Ground: check.OnQuote, Checks: "the PCR values hash to the quoted digest", Stops: "invented PCR values with a genuine quote"},
	qualifyingData: check.Definition{ID: "quote.qualifying-data", Class: check.Binding, Ground: check.OnQuote, Checks: "the quote's extraData is the commitment to tree and anchor", Stops: "an old quote, or one made for another batch"},
}

// Definitions are the checks of the quote of a batch.
var Definitions = Batch.definitions()

// Quote is a snapshot's quote. Its values are those that the evidence gives; they mean
// something only if every check of the quote passed.
type Quote struct {
	Selection pcr.Selection
	Values    pcr.Values // nil if they do not match the selection
	attest    *tpmwire.Attest
}

// ResetCount returns the number of resets of the vTPM, which is comparable between
// quotes of one key only.
func (q *Quote) ResetCount() uint32 { return q.attest.ResetCount }

// CheckKey checks an attestation key. What it may sign is a check apart from what it
// signs with, so that a refusal names the one that is wrong. It returns nil if no
// signature can be verified with it.
func CheckKey(f *check.Findings, encoded []byte) *tpmwire.Key {
	public, err := tpmwire.ParsePublic(encoded)
	if !f.DecideError(keyDecode.ID, err) || public == nil {
		return nil
	}
	faults := attributeFaults(public.ObjectAttributes)
	f.Decide(keyAttributes.ID, faults == "", "fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign; nothing else", faults,
		"the attestation key could be used outside its TPM, or signs what its user passes to it: %s", faults)
	key, err := tpmwire.SigningKey(public, encoded)
	if !f.DecideError(keyAlgorithm.ID, err) {
		return nil
	}
	return key
}

// CheckBareKey checks a key that comes with a quote and without evidence. A TPMT_PUBLIC
// states what the key may do. A bare RSA key states nothing, and must then sign RSASSA
// with SHA-256.
func CheckBareKey(f *check.Findings, encoded []byte) *tpmwire.Key {
	public, err := x509.ParsePKIXPublicKey(encoded)
	if err != nil {
		return CheckKey(f, encoded)
	}
	f.Decide(keyDecode.ID, true, "", "", "")
	f.Skip(keyAttributes.ID, "a bare public key says neither that a TPM has it nor that it is restricted")
	key, ok := public.(*rsa.PublicKey)
	if !ok {
		f.Decide(keyAlgorithm.ID, false, "RSA", fmt.Sprintf("%T", public), "a bare key that is not RSA does not say how it signs: give its TPMT_PUBLIC")
		return nil
	}
	k, err := tpmwire.BareRSA(key)
	if !f.DecideError(keyAlgorithm.ID, err) {
		return nil
	}
	return k
}

// CheckRaw does what [Set.Check] does for a quote that contains the verifier's nonce itself. A signature
// as long as the modulus is one without the TPMT_SIGNATURE around it.
func CheckRaw(f *check.Findings, ak *tpmwire.Key, q evidence.Quote, values []evidence.Bank, nonce []byte) *Quote {
	if ak != nil && ak.RSA != nil && len(q.Signature) == ak.RSA.Size() {
		q.Signature = ak.Wrap(q.Signature)
	}
	return Batch.Check(f, ak, &evidence.Snapshot{Quote: q, PCRs: values}, nonce)
}

// Check checks a quote and returns it, or nil if it cannot be read. Ak is nil if there is
// none that a signature can be verified with. Want is the qualifying data that the quote
// must contain; nil if none is expected.
func (s *Set) Check(f *check.Findings, ak *tpmwire.Key, snapshot *evidence.Snapshot, want []byte) *Quote {
	s.checkSignature(f, ak, &snapshot.Quote)
	magic, typ, err := tpmwire.AttestHeader(snapshot.Quote.Attest)
	if err != nil {
		f.DecideError(s.decode.ID, err)
		return nil
	}
	ok := f.Decide(s.magic.ID, magic == tpmwire.GeneratedValue, hex32(tpmwire.GeneratedValue), hex32(magic),
		"the %s does not start with the value that a TPM puts before what it made itself", s.what)
	if !f.Decide(s.typ.ID, typ == tpmwire.AttestQuote, hex32(tpmwire.AttestQuote), hex32(uint32(typ)), "the %s is an attestation of another kind", s.what) || !ok {
		return nil // laid out as something else
	}
	at, err := tpmwire.ParseAttest(snapshot.Quote.Attest)
	if !f.DecideError(s.decode.ID, err) || at == nil {
		return nil
	}
	f.Decide(s.trailing.ID, at.Trailing == 0, "no bytes", text.Count(at.Trailing, "byte"), "bytes follow the %s", s.what)
	if !f.SkipIf(want == nil, s.qualifyingData.ID, "no nonce was expected: the %s may be old, or made for another verifier", s.what) {
		f.Decide(s.qualifyingData.ID, bytes.Equal(at.ExtraData, want), hex.EncodeToString(want), check.Short(at.ExtraData),
			"the qualifying data of the %s is not the expected", s.what)
	}
	q := &Quote{attest: at}
	s.checkPCRs(f, ak, snapshot.PCRs, q)
	return q
}

func hex32(v uint32) string { return fmt.Sprintf("0x%04x", v) }

func (s *Set) checkSignature(f *check.Findings, ak *tpmwire.Key, q *evidence.Quote) {
	if ak == nil {
		return
	}
	sig, err := ak.ParseSignature(q.Signature)
	if !f.DecideError(s.encoding.ID, err) || sig == nil {
		return
	}
	f.DecideSignature(s.signature.ID, ak.Verify(q.Attest, sig), "AK "+hex.EncodeToString(ak.Name),
		"the signature over the %s does not verify under the attestation key", s.what)
}

// checkPCRs compares selection and values of the evidence with the quote. The order of
// banks counts, since the PCR digest runs over it.
func (s *Set) checkPCRs(f *check.Findings, ak *tpmwire.Key, banks []evidence.Bank, q *Quote) {
	selection, err := selected(q.attest)
	if err == nil {
		var given pcr.Selection
		q.Values, given, err = pcr.ValuesFromBanks(banks)
		if err == nil && given.String() != selection.String() {
			f.Decide(s.selection.ID, false, selection.String(), given.String(), "the evidence gives values for other PCRs than the %s selects", s.what)
			q.Values = nil
			return
		}
	}
	if !f.DecideError(s.selection.ID, err) {
		q.Values = nil
		return
	}
	q.Selection = selection
	if ak == nil {
		return
	}
	digest, err := selection.Composite(q.Values, ak.Hash)
	if err != nil {
		f.DecideError(s.pcrDigest.ID, err)
		return
	}
	f.Decide(s.pcrDigest.ID, bytes.Equal(digest, q.attest.PCRDigest), hex.EncodeToString(q.attest.PCRDigest), hex.EncodeToString(digest),
		"the PCR values of the evidence do not hash to the digest in the %s", s.what)
}

// Banks lists the quoted banks with this PCR, and reports whether one is stronger than
// SHA-1.
func (q *Quote) Banks(index uint32) (banks []pcr.Algorithm, strong bool) {
	for _, b := range q.Selection {
		if slices.Contains(b.PCRs, index) {
			banks = append(banks, b.Algorithm)
			strong = strong || b.Algorithm != pcr.SHA1
		}
	}
	return banks, strong
}

// Selected returns the selection in an unverified attestation, or nil if it cannot be
// read.
func Selected(attest []byte) pcr.Selection {
	at, err := tpmwire.ParseAttest(attest)
	if err != nil {
		return nil
	}
	selection, _ := selected(at)
	return selection
}

// attributeFaults lists the attributes that an attestation key lacks, or must not have
// (TPM 2.0 Part 2, section 8.3). Only a restricted key is proof that a TPM made what
// it signed: an unrestricted one signs any digest that its user passes to it.
func attributeFaults(a tpm2.TPMAObject) string {
	var faults []string
	for _, x := range []struct {
		name      string
		got, want bool
	}{
		{"fixedTPM", a.FixedTPM, true},
		{"fixedParent", a.FixedParent, true},
		{"sensitiveDataOrigin", a.SensitiveDataOrigin, true},
		{"restricted", a.Restricted, true},
		{"sign", a.SignEncrypt, true},
		{"decrypt", a.Decrypt, false},
		{"x509sign", a.X509Sign, false},
		{"encryptedDuplication", a.EncryptedDuplication, false},
	} {
		if x.got != x.want {
			faults = append(faults, x.name+map[bool]string{false: " is clear", true: " is set"}[x.got])
		}
	}
	return strings.Join(faults, ", ")
}

// selected returns the selection of a quote in canonical form, or why it is not canonical.
func selected(a *tpmwire.Attest) (pcr.Selection, error) {
	if !a.Canonical {
		return nil, errors.New("a bitmap does not have three bytes")
	}
	s, err := pcr.SelectionFromTPM(a.Selection)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(s, func(b pcr.BankSelection) bool { return b.Algorithm != pcr.SHA1 }) {
		return nil, errors.New("only SHA-1 is selected, whose collisions can be made")
	}
	return s, nil
}
