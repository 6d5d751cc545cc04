// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// Expect is what one request expects of its answer. Either Nonce or
// UnsafeAcceptReplay is required. An expectation that the material cannot
// meet is an error, and so is one that is empty and not nil: the caller who stated
// it expects to be protected by it.
type Expect struct {
	Nonce      []byte    // nonce sent with the request, 16 to 64 bytes
	Audience   string    // name of this verifier; evidence for another audience, or for none, is refused
	PublicKey  []byte    // key seen in use, exactly as in the statement; nil: not compared
	UserData   []byte    // user data, exactly as in the statement; nil: not compared; of a paravisor's set never empty
	ReportData []byte    // of a bare report, in place of Nonce: 1 to 64 bytes, followed by zeros if shorter. Nothing tells a new value from a constant, so the age of the report stays unknown
	LogState   *LogState // state of an earlier accepted log: a log that starts at an index must continue it, a whole log of the same boot must have passed through it. It also has what a list of IMA that starts at an index must continue

	// Certificates are X.509 DER that may be about the keys of this evidence, in addition to those
	// in it and to [Config.Certificates]; unverified. A service finds them with package collateral.
	Certificates [][]byte

	// Enrolments are those apart from the policy. They count if it says outside_enrolments =
	// "approved", and the appraisal then names the set. It may have all machines, or only the one
	// that a database has for the key of this evidence. nil: those of [Config.Enrolments].
	Enrolments *keys.Enrolments

	// IMAList is the list of IMA, whole and in pieces: what the kernel measured, which it shows in
	// binary_runtime_measurements. It must be read after the quote was made. nil: there is none but
	// that of the evidence, which must not contradict it otherwise.
	// It is read until it leads to the quote: the caller limits what an attacker may send.
	IMAList iter.Seq2[[]byte, error]

	// NewHistory says that the caller lets a new history begin with this evidence, if the
	// policy asks for one that is known: of a machine that is not known yet, or of another
	// boot. It never lets another log of the same boot pass.
	NewHistory bool

	// UnsafeAcceptReplay accepts evidence without a nonce: it may be old, or made for
	// another verifier.
	UnsafeAcceptReplay bool
}

// ErrMisuse is wrapped by every error of a [Verifier] that says nothing about the
// evidence: the configuration or what was expected makes no sense.
var ErrMisuse = errors.New("verify: misuse")

func misuse(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrMisuse, fmt.Errorf(format, a...))
}

// namesBoot reports whether s is the name of a boot in a log state: lower-case hexadecimal
// of 32 bytes, or nothing if the report showed none.
func namesBoot(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && (len(b) == 32 || s == "") && hex.EncodeToString(b) == s
}

// check refuses expectations that make no sense for the material.
func (e *Expect) check(m Material, now time.Time) error {
	for _, x := range []struct {
		name  string
		value []byte
	}{{"nonce", e.Nonce}, {"public key", e.PublicKey}, {"user data", e.UserData}, {"report data", e.ReportData}} {
		if x.value != nil && len(x.value) == 0 { // read from a file or a flag, to expect something
			return misuse("%s is empty, which anything or nothing would match: leave it nil if none is expected", x.name)
		}
	}
	switch {
	case now.IsZero():
		return misuse("no time: certificates are valid for a limited time")
	case len(e.Nonce) == 0 && len(e.ReportData) == 0 && !e.UnsafeAcceptReplay:
		return misuse("no nonce: without the nonce that was sent, old evidence passes for new; set UnsafeAcceptReplay if that is acceptable")
	case (len(e.Nonce) != 0 || len(e.ReportData) != 0) && e.UnsafeAcceptReplay:
		return misuse("a nonce, or report data, and UnsafeAcceptReplay contradict each other")
	case len(e.Nonce) != 0 && (len(e.Nonce) < evidence.MinNonce || len(e.Nonce) > evidence.MaxNonce):
		return misuse("nonce of %d bytes, want %d to %d: a shorter one can be guessed", len(e.Nonce), evidence.MinNonce, evidence.MaxNonce)
	case e.LogState != nil && e.LogState.Head.Count == 0:
		return misuse("the log state is that of an empty log")
	case e.LogState != nil && e.LogState.Check() != nil:
		return misuse("the log state contradicts itself: %w", e.LogState.Check())
	case e.LogState != nil && !namesBoot(e.LogState.ReportID):
		return misuse("the log state has the REPORT_ID %q: want nothing, or 64 digits of lower-case hexadecimal", e.LogState.ReportID)
	// What the material cannot meet.
	case m == MaterialReport && e.IMAList != nil:
		return misuse("a list of IMA belongs to a quote, and a bare report has none")
	case m != MaterialReport && e.ReportData != nil:
		return misuse("report data is expected of a bare report only")
	case len(e.ReportData) > 64:
		return misuse("report data of %d bytes, want 1 to 64", len(e.ReportData))
	case len(e.ReportData) != 0 && len(e.Nonce) != 0:
		return misuse("a bare report contains report data or a nonce, not both")
	case m == MaterialEvidence:
		return nil
	case len(e.Certificates) > 0:
		return misuse("certificates of raw material come with it, not with what is expected")
	case e.Audience != "" || e.PublicKey != nil || e.LogState != nil || e.NewHistory:
		return misuse("audience, public key, log state and a new history are expected of evidence only: raw material contains nothing of the kind")
	case m != MaterialParavisor && e.UserData != nil:
		return misuse("user data is expected of evidence, or of a paravisor's set")
	}
	return nil
}

// Material says what was appraised. Only evidence of this project binds a statement, a
// quote and a report to each other. Everything else proves less, and the checks that it
// has nothing for are listed as not asserted.
type Material string

const (
	MaterialEvidence  Material = "evidence"            // [Verifier.Appraise]
	MaterialReport    Material = "snp-report"          // [Verifier.AppraiseReport]: no vTPM, no log, no statement
	MaterialParavisor Material = "azure-paravisor-set" // [Verifier.AppraiseParavisor]: no log, no statement
	MaterialQuote     Material = "tpm-quote"           // [Verifier.AppraiseQuote]: no report, so that nothing is known of the machine
)

// RawReport is a bare report, as another system recorded it.
type RawReport struct {
	Kind         evidence.ReportKind // required, for instance evidence.ReportSNP
	Report       []byte              // the report; of SEV-SNP, its host's certificate table may follow
	Certificates [][]byte            // X.509 DER, any order, unverified
}

// AzureSet is what a guest on Azure reads from its vTPM.
type AzureSet struct {
	HCL          []byte   // NV index 0x01400001: report, sizes and runtime data of the paravisor
	Quote        []byte   // TPMS_ATTEST; without it, signature and PCRs, nothing is accepted
	Signature    []byte   // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs         []byte   // PCRs 0 to 23 of bank SHA-256, 24 times 32 bytes
	FirmwareLog  []byte   // the firmware's event log as the kernel gives it; may be absent
	Certificates [][]byte // X.509 DER, any order, unverified
}

// QuoteSet is a quote with the key that made it. Nothing says where that key is.
type QuoteSet struct {
	Key       []byte          // TPMT_PUBLIC, or an RSA key as SubjectPublicKeyInfo in DER
	Quote     []byte          // TPMS_ATTEST
	Signature []byte          // TPMT_SIGNATURE, or the bare RSASSA signature with SHA-256
	PCRs      []evidence.Bank // quoted values, in the order of the quote's selection
}
