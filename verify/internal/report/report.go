// SPDX-License-Identifier: Apache-2.0

// Package report is the seam between the verifier and the platforms. A platform's report
// is parsed, chained and checked in a room of its own, which implements [Platform].
package report

import (
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// Checks that say what the age or the binding of a report depends on.
var (
	KindKnown    = check.Definition{ID: "report.kind", Class: check.Binding, Ground: check.OnVerifier, Checks: "the report is of a kind that this verifier knows", Stops: "a report that is skipped because no room can read it"}
	ExpectedData = check.Definition{ID: "report.expected-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "a bare report's REPORT_DATA is what the verifier expects", Stops: "an old report, or one that was made for another purpose"}
	Commitment   = check.Definition{ID: "binding.report-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report's 64 bytes of the guest (REPORT_DATA; a paravisor's user-data; an SVSM's nonce) are the commitment to tree, agent key, AK, quote and log head", Stops: "a genuine quote of one TPM with the report of another machine, unless root of that machine asked for this very report"}
	VouchedKey   = check.Definition{ID: "binding.attestation-key", Class: check.Binding, Ground: check.OnProcessor, Checks: "if the report is over a structure of measured firmware that names an attestation key of its vTPM, that is the AK", Stops: "the quote of any TPM with the structure that names the key of another"}
)

// The checks of this package, in three lists since those of other rooms come between.
var (
	KindDefinitions    = []check.Definition{KindKnown}
	BareDefinitions    = []check.Definition{ExpectedData}
	BindingDefinitions = []check.Definition{Commitment, VouchedKey}
)

// DataSize is the number of bytes that a guest may put into its report.
const DataSize = 64

// Material is what a platform checks a report with.
type Material struct {
	Body               []byte    // of the report, exactly as the platform made it
	Certificates       [][]byte  // X.509 DER, any order, unverified
	Now                time.Time // time of the appraisal
	RevocationOff      bool      // the policy does not ask about revocation
	RevocationOptional bool      // the policy accepts a root without a current revocation list
}

// A Platform checks reports of one kind.
type Platform interface {
	// Judge checks a report by itself: who signed it, and whether key, chip and firmware
	// are what it says. It returns nil if the report cannot be parsed.
	Judge(f *check.Findings, m Material) Report

	// Split parts a bare report from what its host adds to it: certificates, unverified.
	Split(f *check.Findings, raw []byte) (body []byte, certificates [][]byte)

	// Genuine returns the checks that tell that the platform made the report.
	Genuine() []check.ID

	// Definitions returns the checks that reports of this kind undergo and those of others do
	// not: of a structure around the report.
	Definitions() []check.Definition
}

// Earlier returns the earlier of two times. The zero time does not count.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// A Voucher is firmware below the guest that keeps a vTPM out of its reach.
type Voucher string

// Vouchers. The empty one is the guest itself: any guest can put any 64 bytes into a report.
const (
	ByGuest     Voucher = ""
	ByParavisor Voucher = "paravisor"
	BySVSM      Voucher = "svsm"
)

// A Report is what a report of any platform says. It proves something only if every check
// of its platform passed.
type Report interface {
	Data() [DataSize]byte           // REPORT_DATA, or where the structure around the report has the guest's 64 bytes
	Measurement() []byte            // launch measurement
	Privileged() bool               // made for the most privileged software in the guest
	ReportID() string               // name of this boot of the guest, which the platform chose, in hexadecimal; empty if it shows none
	Root() (name string, test bool) // root of the chain, of a genuine report only
	Until() time.Time               // when the first certificate of the chain, or the list of revocations that was used, ends; of a genuine report only

	// Over returns what Data is if the report was made over these 64 bytes of the guest: the
	// bytes themselves, or a hash of them and of the structure.
	Over(data [DataSize]byte) [DataSize]byte

	// Vouch decides [VouchedKey] about the AK, or skips it if the structure names no attestation
	// key, and returns what vouches for the AK if the firmware is what the structure says. Any
	// guest can imitate a structure: only a launch measurement that the policy lists as of that
	// kind makes it count.
	Vouch(f *check.Findings, k Known) Voucher
}

// Known is what is known of an attestation key apart from the report.
type Known struct {
	AK *tpmwire.Key // nil if no signature can be verified with it
	EK []byte       // name of the endorsement key with which the policy enrolled it; nil if it has no enrolment
}

// Platforms are the rooms by the kind of report.
type Platforms map[evidence.ReportKind]Platform

// Of returns the platform of a kind, or nil if it is not known.
func (p Platforms) Of(f *check.Findings, kind evidence.ReportKind) Platform {
	var known []string
	for _, k := range slices.Sorted(maps.Keys(p)) {
		known = append(known, string(k))
	}
	f.Decide(KindKnown.ID, p[kind] != nil, strings.Join(known, " or "), text.Excerpt(kind), "the report is of a kind that this verifier does not know")
	return p[kind]
}

// CheckCommitment checks that the report was made for this evidence.
func CheckCommitment(f *check.Findings, r Report, want [DataSize]byte) bool {
	return compare(f, Commitment.ID, r, want, "the report was made for another agent key, AK, quote, tree or log")
}

// CheckExpected compares a bare report's data with what the verifier expects. A shorter
// expectation is followed by zeros, which is how other systems put a nonce there.
func CheckExpected(f *check.Findings, r Report, want []byte) {
	switch {
	case len(want) == 0:
		f.Skip(ExpectedData.ID, "no report data and no nonce was expected: this report may be old, or made for another verifier")
	case r != nil:
		var padded [DataSize]byte
		copy(padded[:], want)
		compare(f, ExpectedData.ID, r, padded, "REPORT_DATA is not the expected: an old report, or one made for another purpose")
	}
}

func compare(f *check.Findings, id check.ID, r Report, data [DataSize]byte, sentence string) bool {
	got, want := r.Data(), r.Over(data)
	return f.Decide(id, got == want, hex.EncodeToString(want[:]), hex.EncodeToString(got[:]), "%s", sentence)
}
