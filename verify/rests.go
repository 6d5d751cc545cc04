// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// ClaimBases has the basis of each claim; empty if the material contains nothing of the
// kind.
type ClaimBases struct {
	Machine   Basis `json:"machine"`            // what the report says
	PCRs      Basis `json:"pcrs,omitzero"`      // quoted values that no log of the agent explains
	Log       Basis `json:"log,omitzero"`       // applications, gaps and failures that the log records
	Agent     Basis `json:"agent,omitzero"`     // agents that the log records
	Caller    Basis `json:"caller,omitzero"`    // caller in the statement
	PublicKey Basis `json:"publicKey,omitzero"` // that this caller named the key in the statement
}

// claimBases returns the bases of claims.
func claimBases(c *Claims, v check.Vouched) ClaimBases {
	b := ClaimBases{Machine: v.Basis(check.OnProcessor)}
	if len(c.PCRs) > 0 {
		b.PCRs = v.Basis(check.OnQuote)
	}
	if c.Log != nil {
		b.Log, b.Agent = v.Basis(check.OnHistory), v.Basis(check.OnHistory)
	}
	if len(c.Statement.Nonce) > 0 { // every statement has one
		b.Caller = v.Basis(check.OnAgent)
	}
	if len(c.Statement.PublicKey) > 0 {
		b.PublicKey = v.Basis(check.OnAgent)
	}
	return b
}

// parts lists the claims with one basis, in words.
func (b ClaimBases) parts(basis Basis) string {
	var out []string
	for _, x := range []struct {
		name string
		is   Basis
	}{
		{"the quoted PCR values", b.PCRs}, {"the log with the applications in it", b.Log}, {"the agent's digest and version", b.Agent},
		{"the caller", b.Caller}, {"that this caller named the key", b.PublicKey},
	} {
		if x.is == basis {
			out = append(out, x.name)
		}
	}
	return strings.Join(out, ", ")
}

// weakest returns the basis of a verdict: the weakest of what the policy demanded and of
// what is handed out, except quoted values that the policy does not ask about.
func (a *Appraisal) weakest() Basis {
	b := a.Accepted.claims.Basis
	found := map[Basis]bool{b.Machine: true, b.Log: true, b.Caller: true, b.PublicKey: true}
	for _, c := range a.Checks {
		if c.Class == ClassPolicy {
			found[c.Basis] = true
		}
	}
	order := []Basis{ByGuest, ByTPM, ByLaunch, ByProcessor}
	return order[slices.IndexFunc(order, func(b Basis) bool { return found[b] })]
}

// knownGuest reports whether the log continues one that the verifier knows from before, and
// the processor signs that it is the same guest.
func (a *appraiser) knownGuest() bool {
	k, now := a.expect.LogState, a.log.State
	return k != nil && now != nil && k.ReportID != "" && k.ReportID == now.ReportID && a.log.Continued == replay.Continues
}

// restSentences says for people on whose word the claims of accepted evidence rest. Known
// says that the verifier knows this very guest from before: a report names a launch, and by
// its REPORT_ID one guest.
func (b ClaimBases) restSentences(v check.Vouched, known bool) (out []string) {
	guest := b
	if v.System && b.PCRs == ByGuest { // measured software passes on what any vTPM says
		out = append(out, "By the word of a vTPM that the verifier does not know: the quoted PCR values. The host can invent them, if it runs that vTPM.")
		guest.PCRs = ""
	}
	alone := "By the guest's word alone: %s. Root of any guest with this launch measurement can invent this, also of one that the host launched from a disk of its own. It needs no TPM for it."
	if known {
		alone = "By the guest's word alone: %s. It is the guest of the known log: the processor signs the same REPORT_ID. Root of that guest can invent this, except what the known log said, and needs no TPM for it."
	}
	for _, x := range []struct {
		parts, format string
	}{
		{guest.parts(ByGuest), alone},
		{b.parts(ByTPM), "By the word of a TPM that the verifier knows: %s. Root of the guest cannot take back what was recorded, unless it has the vTPM too. That it was true when it was recorded is the word of the software that recorded it."},
		{b.parts(ByLaunch), "By the word of the measured system: %s. Root of the guest is part of it."},
	} {
		if x.parts != "" {
			out = append(out, fmt.Sprintf(x.format, x.parts))
		}
	}
	return out
}
