// SPDX-License-Identifier: Apache-2.0

// Package verify appraises evidence. It is what a relying party imports: pure Go,
// no device, no daemon, no network, no clock of its own. The same document, the
// same policy and the same time give the same appraisal everywhere.
//
//	policy, err := verify.ParsePolicy(text)
//	...
//	a, err := verify.Evidence(document, verify.Options{
//		Policy: policy,
//		Nonce:  nonce,          // the bytes that were sent with the request
//		Time:   time.Now(),
//	})
//	if err != nil {
//		return err              // the options do not make sense; nothing was appraised
//	}
//	claims, err := a.Claims()
//	if err != nil {
//		return err              // refused: *RefusedError names every failed check
//	}
//	use(claims.Statement.PublicKey)
//
// # What an appraisal is
//
// [Evidence] runs a fixed list of checks, [Definitions]. Every check of the list
// stands in every [Appraisal] with a verdict: pass, fail, or not-asserted. A check
// that could not run because an earlier one failed is not-asserted and required,
// and evidence with such a check is refused. A check that nobody asked for (no TCB
// floor in the policy, no log in the evidence) is not-asserted and not required;
// it is listed all the same, so that nobody mistakes silence for proof.
//
// What the evidence says is reachable through [Appraisal.Claims] only, and only
// where the evidence was accepted. docs/checks.md names the attack that each check
// stops, docs/policy.md every key of a policy.
//
// # What is concluded
//
// [Binding] tells how vTPM and report hang together: the weaker of the structure
// that was found and the kind that the policy lists for the launch measurement.
// Nobody can read from a report alone where a vTPM lives, since a plain guest can
// imitate any structure inside REPORT_DATA.
//
// [Report], [Paravisor] and [Quote] put what other systems record through the same
// checks, as far as it goes. A verifier that sees the same report many times gives
// [Options] a [Cache].
package verify
