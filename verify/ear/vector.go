// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"slices"

	"github.com/cvm-agentd/agentd/verify"
)

// vector is a trustworthiness vector: what the verifier says of each aspect (draft-ietf-rats-ar4si,
// section 2.3.4). 0 says nothing. This verifier says nothing, ever, of storage-opaque and sourced-data.
// Hardware is always there, since a vector must not be empty.
type vector struct {
	Configuration    int8 `json:"configuration,omitzero"`
	Executables      int8 `json:"executables,omitzero"`
	FileSystem       int8 `json:"file-system,omitzero"`
	Hardware         int8 `json:"hardware"`
	InstanceIdentity int8 `json:"instance-identity,omitzero"`
	RuntimeOpaque    int8 `json:"runtime-opaque,omitzero"`
}

// Values of AR4SI. Those below 0 are of the range that it leaves to verifiers.
const (
	affirmed        = 2   // hardware: genuine and supported; configuration: known and approved; and so on
	approvedBoot    = 3   // executables: only approved ones were loaded during boot
	testRoot        = -33 // hardware, a warning: the root is a test root, which vouches for no hardware
	contraindicated = 96  // hardware: recognised, and not to be trusted
	notValidated    = 99  // the evidence is forged or broken
)

// Tiers of AR4SI.
const (
	tierNone            = "none"
	tierAffirming       = "affirming"
	tierWarning         = "warning"
	tierContraindicated = "contraindicated"
)

// passed reports whether each of these checks passed. An appraisal that was read from elsewhere may lack
// some.
func passed(a *verify.Appraisal, ids ...verify.CheckID) bool {
	return !slices.ContainsFunc(ids, func(id verify.CheckID) bool {
		return !slices.ContainsFunc(a.Checks, func(c verify.Check) bool { return c.ID == id && c.Verdict == verify.Pass })
	})
}

// affirm says what accepted evidence proved. Everything rests on the processor, so nothing is affirmed
// unless its key leads to AMD's root and its firmware is one that the policy considers current.
func (v *vector) affirm(p *verify.Policy, a *verify.Appraisal, c *verify.Claims) {
	passed := func(ids ...verify.CheckID) bool { return passed(a, ids...) }
	if c.Machine.TestRoot {
		v.Hardware = testRoot
		return
	}
	if !passed("report.signature", "report.chain", "report.validity", "report.tcb", "policy.tcb-reported") {
		return
	}
	v.Hardware = affirmed
	if passed("policy.debug", "policy.migration-agent") {
		v.RuntimeOpaque = affirmed
	}
	if passed("policy.ak") || passed("policy.gcp-machine") || len(p.Chips) > 0 && passed("policy.chip") {
		v.InstanceIdentity = affirmed
	}
	if c.Machine.Covers != verify.CoversSystem || !passed("policy.launch") {
		return
	}
	v.Configuration, v.Executables = affirmed, approvedBoot
	other := c.Basis.Log == verify.ByLaunch || c.Basis.Log == verify.ByTPM
	if other && passed("policy.app-present", "policy.app-digest", "policy.app-covered") {
		v.FileSystem = affirmed
	}
}

// refuse says why evidence was refused, as far as AR4SI has words for it. What is missing, or merely not
// what the policy asks for, is in the details.
func (v *vector) refuse(a *verify.Appraisal) {
	switch a.Class {
	case verify.ClassBinding:
		*v = vector{notValidated, notValidated, notValidated, notValidated, notValidated, notValidated}
	case verify.ClassRevoked:
		v.Hardware = contraindicated
	}
}

// status returns the tier of the whole. Only a verdict "pass" over genuine hardware is affirming.
func (v *vector) status(verdict verify.Verdict) string {
	switch {
	case verdict != verify.Pass:
		return tierContraindicated
	case v.Hardware == testRoot:
		return tierWarning
	case v.Hardware == affirmed:
		return tierAffirming
	}
	return tierNone
}
