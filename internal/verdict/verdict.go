// SPDX-License-Identifier: Apache-2.0

// Package verdict has the words in which the result of an appraisal is said to people, wherever
// that is: on a terminal, in a document for a CI server, on a page.
package verdict

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// By returns how a basis is said of what passed. What the verifier did itself needs no word.
func By(b verify.Basis) string {
	return map[verify.Basis]string{
		verify.ByProcessor: "by the processor's signature",
		verify.ByLaunch:    "by the measured system's word",
		verify.ByTPM:       "by the TPM's word",
		verify.ByGuest:     "by the guest's word",
	}[b]
}

// Sentence returns what a check says, after on whose word if it passed.
func Sentence(c verify.Check) string {
	if by := By(c.Basis); by != "" {
		return by + ": " + c.Sentence
	}
	return c.Sentence
}

// OnGuestWord returns ", by the guest's word" of an appraisal whose verdict rests on it. It is
// empty otherwise, and if the evidence was refused.
func OnGuestWord(a *verify.Appraisal) string {
	if a.Basis == verify.ByGuest {
		return ", " + By(verify.ByGuest)
	}
	return ""
}

// Ties returns of accepted evidence what ties vTPM and report, how the AK is known, and how old
// the report is.
func Ties(a *verify.Appraisal) string {
	return fmt.Sprintf("Binding %s, AK known by %s, report %s.", a.Binding, KnownBy(a), a.Freshness)
}

// Refused returns of refused evidence the class, and the exit code of agentctl verify.
func Refused(a *verify.Appraisal) string {
	return fmt.Sprintf("refused (%s), exit code %d.", a.Class, a.ExitCode())
}

// With returns the checks of a verdict, in their order.
func With(a *verify.Appraisal, v verify.Verdict) []verify.Check {
	return slices.DeleteFunc(slices.Clone(a.Checks), func(c verify.Check) bool { return c.Verdict != v })
}

// KnownBy returns how the verifier knows the AK.
func KnownBy(a *verify.Appraisal) string {
	switch {
	case a.AKOrigin == verify.AKEnrolled && a.Enrolments != nil && a.Enrolments.State == keys.Approved:
		return "an approved enrolment" // apart from the policy, whose author did not name this key
	case a.AKOrigin == verify.AKEnrolled:
		return "the policy"
	case a.AKOrigin == verify.AKCertified:
		return "certificate"
	}
	return "the report alone"
}
