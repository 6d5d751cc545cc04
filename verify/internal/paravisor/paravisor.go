// SPDX-License-Identifier: Apache-2.0

// Package paravisor checks what an Azure paravisor (HCL) vouches for: a report over
// runtime data, which names the attestation key of the vTPM.
package paravisor

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/report"
)

var (
	decode = check.Definition{ID: "paravisor.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the paravisor's blob has consistent sizes, a known hash, and runtime data without duplicate members", Stops: "a report, or a key, read from the wrong place"}
	key    = check.Definition{ID: "paravisor.key", Class: check.Binding, Ground: check.OnVerifier, Checks: "the runtime data contains exactly one HCLAkPub, an RSA key of 2048 to 4096 bits", Stops: "a second key that another reader would take"}
)

// Checks that say what the age or the binding of a report depends on.
var (
	ExpectedData = check.Definition{ID: "paravisor.user-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "the runtime data contains the user data that the verifier expects", Stops: "an older report with a quote of now"}
	RuntimeData  = check.Definition{ID: "binding.runtime-data", Class: check.Binding, Ground: check.OnProcessor, Checks: "the report's REPORT_DATA is the hash of the paravisor's runtime data, and nothing else", Stops: "the attestation key of one machine with the report of another"}
)

// The checks of this package, in two lists since those of other rooms come between, and those
// that only raw material undergoes.
var (
	Definitions        = []check.Definition{decode, key, ExpectedData}
	BindingDefinitions = []check.Definition{RuntimeData}
	RawDefinitions     = []check.Definition{ExpectedData}
)

// Parse parses the paravisor's blob. It returns nil if that is not possible.
func Parse(f *check.Findings, b []byte) *Blob {
	return decided(f, b, tpmwire.ParseHCL)
}

func decided(f *check.Findings, b []byte, parse func([]byte) (*tpmwire.HCL, error)) *Blob {
	h, err := parse(b)
	if !f.DecideError(decode.ID, err) || err != nil {
		return nil
	}
	return &Blob{h}
}

// Blob is what the paravisor writes, taken apart.
type Blob struct{ *tpmwire.HCL }

// Kind returns the kind of the report.
func (h *Blob) Kind() evidence.ReportKind {
	kinds := map[uint32]evidence.ReportKind{tpmwire.HCLSNP: evidence.ReportSNP, tpmwire.HCLTDX: "tdx"}
	return cmp.Or(kinds[h.Type], evidence.ReportKind(fmt.Sprintf("type %d", h.Type)))
}

// CheckKey returns the attestation key in the runtime data, or nil.
func (h *Blob) CheckKey(f *check.Findings) *tpmwire.Key {
	k, err := h.AttestationKey()
	if !f.DecideError(key.ID, err) {
		return nil
	}
	return k
}

// NoKeyChecks tells why a key of the runtime data undergoes no check of its own.
func NoKeyChecks() string {
	return fmt.Sprintf("the runtime data names only modulus and exponent, see %s: only the paravisor says what else the key signs", key.ID)
}

// CheckUserData compares what the guest passed to the paravisor with what the verifier
// expects; zeros follow a shorter expectation. It tells a report of today from one of the
// last boot only if it contains the nonce.
func (h *Blob) CheckUserData(f *check.Findings, expected []byte) {
	if expected == nil {
		f.Skip(ExpectedData.ID, "no user data was expected: the report may be older than the quote")
		return
	}
	var want [report.DataSize]byte
	n := copy(want[:], expected)
	f.Decide(ExpectedData.ID, n == len(expected) && bytes.Equal(want[:], h.UserData), check.Short(want[:]), check.Short(h.UserData),
		"the user data in the runtime data is not the expected: an old report, or one made for another purpose")
}

// Fresh reports whether the user data passed its check and contains the nonce whole. A
// constant, such as the zeros of a paravisor that was passed nothing, is in every report
// since boot; a nonce shorter than 16 bytes may be in one by chance.
func Fresh(f *check.Findings, expected, nonce []byte) bool {
	return f.Passed(ExpectedData.ID) && len(nonce) >= evidence.MinNonce && bytes.Contains(expected, nonce)
}

// CheckRuntimeData checks that the report was made for the runtime data, and with it for
// the attestation key. Any guest that may request reports can do the same: what it is
// worth is for the policy's list of launch measurements to say. A paravisor requests them
// at the highest privilege.
func (h *Blob) CheckRuntimeData(f *check.Findings, r report.Report) bool {
	want, got := h.ReportData(), r.Data()
	return f.Decide(RuntimeData.ID, bytes.Equal(want[:], got[:]), hex.EncodeToString(want[:]), hex.EncodeToString(got[:]),
		"the report was made for other runtime data: another attestation key")
}

// Quoted returns the values, of 24 in a file, that the quote selects. If the quote cannot
// be read, or the file has another size, it returns all or none: the checks of the quote
// say why then.
func Quoted(values, attest []byte) []evidence.Bank {
	size := pcr.SHA256.Size()
	if len(values) != pcr.Count*size {
		return nil
	}
	selected := quote.Selected(attest)
	bank := evidence.Bank{Algorithm: pcr.SHA256.String()}
	for i := range uint32(pcr.Count) {
		if len(selected) == 1 && !slices.Contains(selected[0].PCRs, i) {
			continue
		}
		bank.PCRs = append(bank.PCRs, evidence.PCR{Index: i, Value: values[int(i)*size : int(i+1)*size]})
	}
	return []evidence.Bank{bank}
}
