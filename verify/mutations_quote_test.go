// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto/elliptic"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// moment picks the quote that a mutation changes: the batch's or the anchor's.
type moment func(*evidencetest.Recipe) *evidencetest.Moment

func attestation(f func(*evidencetest.Attestation)) func(*testing.T, *evidencetest.Recipe, *evidencetest.Moment) {
	return func(_ *testing.T, _ *evidencetest.Recipe, m *evidencetest.Moment) { m.Attest = f }
}

func sig(f func(r *evidencetest.Recipe, b []byte) []byte) func(*testing.T, *evidencetest.Recipe, *evidencetest.Moment) {
	return func(_ *testing.T, r *evidencetest.Recipe, m *evidencetest.Moment) {
		m.Signature = func(b []byte) []byte { return f(r, b) }
	}
}

func snapshot(f func(*evidence.Snapshot)) func(*testing.T, *evidencetest.Recipe, *evidencetest.Moment) {
	return func(_ *testing.T, _ *evidencetest.Recipe, m *evidencetest.Moment) { m.Snapshot = f }
}

// nvCertify turns a quote into a TPM2_NV_Certify by the same key, over the same
// qualifying data. Its body is a TPMS_NV_CERTIFY_INFO (TPM 2.0 Part 2, section 10.12.8).
// A program that writes the NV index can put a PCR digest of its choice at the place at
// which a program looks for it that reads the C union without asking for the type: 132
// bytes into the union, 58 into the contents, size first and little-endian. tpm2_checkquote of
// tpm2-tools 5.4 is such a program.
func nvCertify(a *evidencetest.Attestation) {
	contents := append(make([]byte, 58), byte(len(a.Digest)), 0)
	contents = append(contents, a.Digest...)
	name := append([]byte{0, 0x0b}, bytes.Repeat([]byte{0x4e}, 32)...)
	be := binary.BigEndian
	body := append(be.AppendUint16(nil, uint16(len(name))), name...)
	body = be.AppendUint16(body, 0) // offset
	body = be.AppendUint16(body, uint16(len(contents)))
	a.Type, a.Body = 0x8014, append(body, contents...)
}

type quoteMutation struct {
	batch, anchor CheckID
	name          string
	blind         bool
	change        func(*testing.T, *evidencetest.Recipe, *evidencetest.Moment)
}

var bothQuotes = []quoteMutation{
	{QuoteMagic, AnchorMagic, "case 44 wrong magic", false, attestation(func(a *evidencetest.Attestation) { a.Magic = 0xff544348 })},
	{QuoteMagic, AnchorMagic, "case 44 zero magic", false, attestation(func(a *evidencetest.Attestation) { a.Magic = 0 })},
	{QuoteType, AnchorType, "case 45 NV certification", true, attestation(nvCertify)},
	{QuoteType, AnchorType, "case 45 another type over a quote's body", false, attestation(func(a *evidencetest.Attestation) { a.Type = 0x8014 })},
	{QuoteDecode, AnchorDecode, "cut short", true, attestation(func(a *evidencetest.Attestation) { a.Body = []byte{0, 0, 0, 1, 0, 0x0b} })},
	{QuoteDecode, AnchorDecode, "safe is neither yes nor no", true, attestation(func(a *evidencetest.Attestation) { a.Safe = 2 })},
	{QuoteDecode, AnchorDecode, "a million banks", true, attestation(func(a *evidencetest.Attestation) { a.Body = []byte{0, 0x0f, 0x42, 0x40} })},
	{QuoteTrailing, AnchorTrailing, "case 46 trailing bytes", false, attestation(func(a *evidencetest.Attestation) { a.Trailing = []byte{0} })},

	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 half a signature", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte { return b[:4+2+32] })},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 SHA-1 named", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte { b[3] = 4; return b })},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 another scheme", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte { b[1] = 0x14; return b })},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 r is zero", true, sig(func(r *evidencetest.Recipe, _ []byte) []byte {
		return r.AK.EncodeSignature(new(big.Int), big.NewInt(1))
	})},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 s is zero", true, sig(func(r *evidencetest.Recipe, _ []byte) []byte {
		return r.AK.EncodeSignature(big.NewInt(1), new(big.Int))
	})},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 r is n", true, sig(func(r *evidencetest.Recipe, _ []byte) []byte {
		return r.AK.EncodeSignature(elliptic.P256().Params().N, big.NewInt(1))
	})},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 trailing byte", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte { return append(b, 0) })},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "case 49 padded", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte {
		r, s := b[6:38], b[40:72]
		out := append(slices.Clone(b[:4]), 0, 33, 0)
		return append(append(append(out, r...), 0, 32), s...)
	})},
	{QuoteSignatureEncoding, AnchorSignatureEncoding, "empty numbers", true, sig(func(_ *evidencetest.Recipe, b []byte) []byte { return append(b[:4], 0, 0, 0, 0) })},
	{QuoteSignature, AnchorSignature, "flipped", false, sig(func(_ *evidencetest.Recipe, b []byte) []byte { b[len(b)-1] ^= 1; return b })},

	{QuoteSelection, AnchorSelection, "case 47 a PCR that was not quoted", true, snapshot(func(s *evidence.Snapshot) {
		s.PCRs[0].PCRs = slices.Insert(s.PCRs[0].PCRs, 2, evidence.PCR{Index: 7, Value: make([]byte, 32)})
	})},
	{QuoteSelection, AnchorSelection, "case 47 a quoted PCR left out", true, snapshot(func(s *evidence.Snapshot) { s.PCRs[0].PCRs = s.PCRs[0].PCRs[1:] })},
	{QuoteSelection, AnchorSelection, "case 48 banks permuted", true, snapshot(func(s *evidence.Snapshot) { slices.Reverse(s.PCRs) })},
	{QuoteSelection, AnchorSelection, "case 48 duplicate bank in the evidence", true, snapshot(func(s *evidence.Snapshot) { s.PCRs = append(s.PCRs, s.PCRs[0]) })},
	{QuoteSelection, AnchorSelection, "case 48 duplicate bank in the quote", true, attestation(func(a *evidencetest.Attestation) { a.Banks[1] = a.Banks[0] })},
	{QuoteSelection, AnchorSelection, "case 48 short bitmap", true, attestation(func(a *evidencetest.Attestation) { a.Banks[1].Select = a.Banks[1].Select[:2] })},
	{QuoteSelection, AnchorSelection, "case 48 long bitmap", true, attestation(func(a *evidencetest.Attestation) { a.Banks[1].Select = append(a.Banks[1].Select, 0) })},
	{QuoteSelection, AnchorSelection, "case 48 empty bank", true, attestation(func(a *evidencetest.Attestation) { a.Banks[1].Select = make([]byte, 3) })},
	{QuoteSelection, AnchorSelection, "case 48 unknown bank", true, attestation(func(a *evidencetest.Attestation) { a.Banks[1].Hash = 0x12 })},
	{QuoteSelection, AnchorSelection, "case 49 SHA-1 alone", true, func(_ *testing.T, r *evidencetest.Recipe, m *evidencetest.Moment) {
		r.Banks = append([]pcr.Algorithm{pcr.SHA1}, r.Banks...)
		m.Attest = func(a *evidencetest.Attestation) {
			a.Banks = []evidencetest.Bank{{Hash: 4, Select: []byte{0, 0x40, 0}}}
		}
		m.Snapshot = func(s *evidence.Snapshot) {
			s.PCRs = []evidence.Bank{{Algorithm: "sha1", PCRs: []evidence.PCR{{Index: 13, Value: make([]byte, 20)}}}}
		}
	}},
	{QuotePCRDigest, AnchorPCRDigest, "other values", false, snapshot(func(s *evidence.Snapshot) { s.PCRs[0].PCRs[0].Value = bytes.Repeat([]byte{0xee}, 32) })},
}

func quoteCases(id func(quoteMutation) CheckID, which moment, prepare func(*evidencetest.Recipe), root string) []mutation {
	var out []mutation
	for _, q := range bothQuotes {
		out = append(out, mutation{id: id(q), name: q.name, root: root, blind: q.blind, recipe: func(t *testing.T, r *evidencetest.Recipe) {
			prepare(r)
			q.change(t, r, which(r))
		}})
	}
	return out
}

var quoteMutations = append(quoteCases(func(q quoteMutation) CheckID { return q.batch },
	func(r *evidencetest.Recipe) *evidencetest.Moment { return &r.Batch }, func(*evidencetest.Recipe) {}, ""),
	mutation{id: QuoteQualifyingData, name: "case 52 a quote for another batch", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Batch.Attest = func(a *evidencetest.Attestation) { a.ExtraData = bytes.Repeat([]byte{1}, 32) }
	}},
	mutation{id: QuoteQualifyingData, name: "case 53 the same, longer", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Batch.Attest = func(a *evidencetest.Attestation) { a.ExtraData = append(a.ExtraData, 0) }
	}},
	mutation{id: QuoteQualifyingData, name: "does not commit to its anchor", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		var tree evidence.TreeHead
		r.Batch.Attest = func(a *evidencetest.Attestation) {
			d := evidence.QuoteData(tree, nil)
			a.ExtraData = d[:]
		}
	}},
	mutation{id: QuoteSignature, name: "RSA, flipped", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
		r.Batch.Signature = func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	}},
	mutation{id: QuoteSignature, name: "RSAPSS, flipped", recipe: func(t *testing.T, r *evidencetest.Recipe) {
		r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSAPSS)
		r.Batch.Signature = func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	}},
	mutation{id: QuoteSignatureEncoding, name: "RSA, short", blind: true, recipe: func(t *testing.T, r *evidencetest.Recipe) {
		r.AK = evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
		r.Batch.Signature = func(b []byte) []byte {
			b = b[:len(b)-1]
			binary.BigEndian.PutUint16(b[4:], uint16(len(b)-6))
			return b
		}
	}},
)

var anchorMutations = append(quoteCases(func(q quoteMutation) CheckID { return q.anchor },
	func(r *evidencetest.Recipe) *evidencetest.Moment { return &r.Anchor }, anchored, anchoredPolicy),
	mutation{id: AnchorQualifyingData, name: "anchor on an anchor", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.AnchorOnAnchor = &evidence.Digest{1}
	}},
	mutation{id: AnchorSignature, name: "case 51 anchor of another TPM", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.AnchorAK = evidencetest.ECCKey('o')
	}},
	mutation{id: AnchorSigner, name: "another hierarchy", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.QualifiedSigner = append([]byte{0, 0x0b}, bytes.Repeat([]byte{0x52}, 32)...)
	}},
	mutation{id: AnchorResetCount, name: "reset since", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Reset++
	}},
	mutation{id: AnchorRestartCount, name: "resumed since", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Restart++
	}},
	mutation{id: AnchorClock, name: "clock went back", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Batch.Clock = r.Anchor.Clock - 1
	}},
	mutation{id: AnchorLogPrefix, name: "case 92 another log", blind: true, root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Anchor.Snapshot = func(s *evidence.Snapshot) { s.LogHead.Digest[0] ^= 1 }
	}},
	mutation{id: AnchorLogPrefix, name: "case 92 a longer log", blind: true, root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		r.Anchor.Snapshot = func(s *evidence.Snapshot) { s.LogHead = evidence.LogHead{Count: 9, Digest: evidence.Digest{9}} }
	}},
	mutation{id: AnchorLogReplay, name: "the PCR was elsewhere", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		full := pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}, {Algorithm: pcr.SHA384, PCRs: []uint32{13}}}
		values := pcr.Values{}
		r.Anchor.Attest = func(a *evidencetest.Attestation) {
			values.Set(pcr.SHA256, 0, r.PCRs[pcr.SHA256][0])
			values.Set(pcr.SHA256, 4, r.PCRs[pcr.SHA256][4])
			values.Set(pcr.SHA256, 13, bytes.Repeat([]byte{7}, 32))
			values.Set(pcr.SHA384, 13, bytes.Repeat([]byte{7}, 48))
			var err error
			if a.Digest, err = full.Composite(values, r.AK.Hash); err != nil {
				panic(err)
			}
		}
		r.Anchor.Snapshot = func(s *evidence.Snapshot) {
			var err error
			if s.PCRs, err = values.Banks(full); err != nil {
				panic(err)
			}
		}
	}},
)
