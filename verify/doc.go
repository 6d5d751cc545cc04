// SPDX-License-Identifier: Apache-2.0

// Package verify checks evidence. It is what a relying party imports: pure Go, no
// device, no daemon, no network, no clock of its own. The same document, the same
// policy and the same time give the same result everywhere.
//
//	policy, err := verify.ParsePolicy(text)
//	...
//	v, err := verify.New(policy, verify.Config{})
//	...
//	claims, err := v.Verify(document, verify.Expect{Nonce: nonce}, time.Now())
//	if err != nil {
//		return err // refused: a *RefusedError contains every check
//	}
//	use(claims.Statement.PublicKey)
//
// A [Verifier] has what does not change between requests: policy, roots, certificates,
// revocation lists and a cache. [Expect] has what one request expects of its answer.
//
// # Refused is an error
//
// [Verifier.Verify] returns claims only of evidence that it accepted. Every refusal is a
// [*RefusedError], which contains the [Appraisal]: class, exit code and every check.
// [Verifier.Appraise] is for tools that show every check. Its error says nothing about
// the evidence, and [Appraisal.Claims] is the only way from it to the claims.
//
// # What an appraisal is
//
// An appraisal runs a fixed list of checks, [Definitions]. Every check of the list is in
// every appraisal with a verdict: pass, fail, or not-asserted. A check that could not run
// because an earlier one failed is not-asserted and required, and evidence with such a
// check is refused. A check that nothing asked for (no TCB floor in the policy, no log in
// the evidence) is not-asserted and not required; it is listed all the same, so that
// silence is not mistaken for proof. docs/checks.md names the attack that each check
// stops, docs/policy.md every key of a policy.
//
// # What is concluded
//
// [Binding] tells what ties the vTPM to the report: the weaker of the structure that was
// found and the kind that the policy lists for the launch measurement. A report alone
// cannot show where a vTPM runs, since a plain guest can imitate any structure inside
// REPORT_DATA.
//
// [Verifier.VerifyReport], [Verifier.VerifyParavisor] and [Verifier.AppraiseQuote] put
// what other systems record through the same checks, if it has what they need.
package verify
