// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// Type is the member "type" of every evidence document of this version.
const Type = "agentd/evidence/2"

// ReportKind names the platform that signed a report.
type ReportKind string

// Kinds of reports. Each says where the 64 bytes of [Evidence.ReportData] are
// (docs/evidence.md, section 8).
const (
	// ReportSNP is an AMD SEV-SNP attestation report of 1,184 bytes (SEV-SNP Firmware ABI
	// Specification, table "ATTESTATION_REPORT Structure"). REPORT_DATA is the 64 bytes.
	ReportSNP ReportKind = "sev-snp"
	// ReportParavisor is what an Azure paravisor (HCL) hands to its guest: a header, a report of
	// SEV-SNP and runtime data, which end the bytes. The runtime data contain the 64 bytes as
	// user-data and the AK, and REPORT_DATA is their hash.
	ReportParavisor ReportKind = "azure-hcl"
	// ReportSVSM is a report of SEV-SNP that an SVSM asked for, then the manifest of its vTPM,
	// with nothing between them. REPORT_DATA is SHA-512 over the 64 bytes and the manifest.
	ReportSVSM ReportKind = "sev-snp-svsm"
)

// Evidence is the whole document that a caller gives to a verifier. It is unverified: an
// attacker can have written every part of it. Package verify checks them.
type Evidence struct {
	Type           string       `json:"type"`                   // Type
	Statement      Bytes        `json:"statement"`              // the exact bytes, see ParseStatement
	Inclusion      Inclusion    `json:"inclusion"`              // of the statement in Batch.Tree
	Batch          Snapshot     `json:"batch"`                  // what was quoted for this statement
	AgentSignature Bytes        `json:"agentSignature"`         // Ed25519 by AgentKey over BatchMessage, 64 bytes
	Anchor         *Snapshot    `json:"anchor,omitzero"`        // what Report was made for; nil if fresh
	Report         Report       `json:"report"`                 // over Anchor if present, otherwise over Batch
	AgentKey       Bytes        `json:"agentKey"`               // Ed25519 public key, 32 bytes
	AK             Bytes        `json:"ak"`                     // TPMT_PUBLIC of the attestation key
	Log            *Log         `json:"log,omitzero"`           // measurement log, whole or from an index; absent when not asked for
	FirmwareLog    Bytes        `json:"firmwareLog,omitempty"`  // the firmware's event log as the kernel gives it; bound by the quoted PCRs alone
	IMA            *IMA         `json:"ima,omitzero"`           // the kernel's list of IMA, whole or from an index; absent when not asked for; bound by the quoted PCR 10 alone
	Certificates   Certificates `json:"certificates,omitempty"` // X.509 DER, any order, unverified
}

// A Snapshot is one batch: its tree, the quote over it, the values of the quoted PCRs and the
// log head. All are of one moment: the agent takes them while nothing is measured.
type Snapshot struct {
	Tree    TreeHead `json:"tree"`
	Time    uint64   `json:"time"` // when the quote was asked for: CLOCK_BOOTTIME of the guest in milliseconds
	LogHead LogHead  `json:"logHead"`
	Quote   Quote    `json:"quote"`
	PCRs    Banks    `json:"pcrs"` // banks in the order of the quote's selection
}

// A Quote is the answer to a TPM2_Quote, exactly as the TPM produced it.
type Quote struct {
	Attest    Bytes `json:"attest"`    // TPMS_ATTEST (TPM 2.0 Part 2, section 10.12.12)
	Signature Bytes `json:"signature"` // TPMT_SIGNATURE (TPM 2.0 Part 2, section 11.3.4)
}

// A Bank is the values of some PCRs of one hash algorithm.
type Bank struct {
	Algorithm string    `json:"algorithm"` // "sha1", "sha256", "sha384" or "sha512"
	PCRs      Registers `json:"pcrs"`      // ascending by index
}

// A PCR is one register and its value.
type PCR struct {
	Index uint32 `json:"index"` // 0 to 23
	Value Bytes  `json:"value"` // one digest of the bank: 20, 32, 48 or 64 bytes
}

// A Report is a signed statement of the platform, exactly as the firmware produced it.
type Report struct {
	Kind  ReportKind `json:"kind"`  // platform that signed the report
	Bytes Bytes      `json:"bytes"` // the report
}

// A Log is the measurement log as CEL-TLV, from record Start on. If Start is not 0, Previous
// is the digest of the log head before it. A reader compares it with the head of the records
// that it kept.
type Log struct {
	Start    uint64 `json:"start"`             // number of the first record here
	Previous Digest `json:"previous,omitzero"` // digest of the head before Start; absent at 0
	Records  Bytes  `json:"records"`           // CEL-TLV records, one after the other
}

// IMA is the kernel's list of what it measured, as it shows it to programs, from entry Start on. It
// was read after the quote, so it may go on after what the quote contains.
type IMA struct {
	Start   uint64 `json:"start"`   // number of the first entry here, from 0
	Entries Bytes  `json:"entries"` // entries, one after the other
}

// Parse decodes a document of at most [MaxEvidence] bytes and checks it as [Evidence.Check]
// does. The JSON must be exactly that of docs/evidence.md, section 2: unknown, duplicate and
// null members, and any other spelling of a value, are errors. What Parse returns is
// unverified.
func Parse(b []byte) (*Evidence, error) {
	e := Evidence{Inclusion: Inclusion{Index: absent}}
	if err := strictjson.Decode(b, MaxEvidence, &e); err != nil {
		return nil, fmt.Errorf("decode evidence: %w", err)
	}
	if err := e.Check(); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	return &e, nil
}

// Check returns an error about the first member whose size or shape the format does not
// allow. It checks no signature and no hash. There is one error at most: the words for many
// wrong members would take many times their length.
func (e *Evidence) Check() error {
	if e.Type != Type {
		return fmt.Errorf("type %s, want %q", text.Excerpt(e.Type), Type)
	}
	err := cmp.Or(
		text.Size("statement", len(e.Statement), 1, MaxStatement),
		present("inclusion.index", e.Inclusion.Index),
		text.Size("inclusion.path", len(e.Inclusion.Path), 0, MaxProof),
		e.Batch.check("batch"),
		text.Size("agentSignature", len(e.AgentSignature), 64, 64),
		text.Size("report.bytes", len(e.Report.Bytes), 1, MaxReport),
		text.Size("agentKey", len(e.AgentKey), 32, 32),
		text.Size("ak", len(e.AK), 1, MaxPublicArea),
		text.Size("firmwareLog", len(e.FirmwareLog), 0, MaxFirmwareLog),
		text.Size("certificates", len(e.Certificates), 0, MaxCertificates),
	)
	if err != nil {
		return err
	}
	if e.Anchor != nil {
		if err := e.Anchor.check("anchor"); err != nil {
			return err
		}
	}
	if e.Log != nil {
		if err := e.Log.check(); err != nil {
			return err
		}
	}
	if e.IMA != nil {
		if err := cmp.Or(present("ima.start", e.IMA.Start), text.Size("ima.entries", len(e.IMA.Entries), 0, MaxIMA)); err != nil {
			return err
		}
	}
	for i, c := range e.Certificates {
		if len(c) < 1 || len(c) > MaxCertificate { // the name costs something: it is made for an error only
			return &text.SizeError{Part: fmt.Sprintf("certificates[%d]", i), Got: len(c), Min: 1, Max: MaxCertificate}
		}
	}
	return nil
}

func (l *Log) check() error {
	if err := present("log.start", l.Start); err != nil {
		return err
	}
	if (l.Start == 0) != l.Previous.IsZero() {
		return errors.New("log.previous must be present exactly when log.start is not 0")
	}
	return text.Size("log.records", len(l.Records), 0, MaxLog)
}

func (s *Snapshot) check(part string) error {
	err := cmp.Or(
		text.Size(part+".quote.attest", len(s.Quote.Attest), 1, MaxQuote),
		text.Size(part+".quote.signature", len(s.Quote.Signature), 1, MaxQuote),
		text.Size(part+".pcrs", len(s.PCRs), 1, MaxBanks),
	)
	if err != nil {
		return err
	}
	if err := cmp.Or(milliseconds(part+".time", s.Time), present(part+".logHead.count", s.LogHead.Count)); err != nil {
		return err
	}
	if s.Tree.Size == 0 || s.Tree.Size > MaxBatch {
		return fmt.Errorf("%s.tree.size %d, want 1 to %d", part, s.Tree.Size, MaxBatch)
	}
	if (s.LogHead.Count == 0) != s.LogHead.Digest.IsZero() {
		return fmt.Errorf("%s.logHead.digest must be zero exactly when its count is 0", part)
	}
	for i, b := range s.PCRs {
		if len(b.PCRs) < 1 || len(b.PCRs) > MaxPCRs {
			return &text.SizeError{Part: fmt.Sprintf("%s.pcrs[%d].pcrs", part, i), Got: len(b.PCRs), Min: 1, Max: MaxPCRs}
		}
		for j, p := range b.PCRs {
			if p.Index >= MaxPCRs { // as it is if the member is absent
				return fmt.Errorf("%s.pcrs[%d].pcrs[%d].index %d, want 0 to %d", part, i, j, p.Index, MaxPCRs-1)
			}
		}
	}
	return nil
}

// AnchorDigest returns the digest of the anchor, or nil if the evidence is fresh. The quote
// and the agent signature of the batch commit to it.
func (e *Evidence) AnchorDigest() *Digest {
	if e.Anchor == nil {
		return nil
	}
	d := AnchorDigest(e.Anchor, e.AgentKey, e.AK, e.Report.Bytes)
	return &d
}

// ReportData returns the 64 bytes that the report must contain to belong to this evidence.
func (e *Evidence) ReportData() [64]byte {
	s := &e.Batch
	if e.Anchor != nil {
		s = e.Anchor
	}
	return ReportData(s, e.AgentKey, e.AK)
}
