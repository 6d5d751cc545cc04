// SPDX-License-Identifier: Apache-2.0

package rule

import "github.com/cvm-agentd/agentd/verify/internal/check"

var callerKeyProof = check.Definition{ID: "policy.caller-key-proof", Class: check.Policy, Ground: check.OnAgent, Checks: "the statement has a proof that its caller has the key that it names, and the proof passed", Stops: "a caller that has the key of another party vouched for"}

func (c *Caller) explainKeyProof(w *Words) {
	w.demandIf(c.KeyProof, "The key that the caller names signed the request, for this caller and the agent that answers it.")
	w.openIf(!c.KeyProof, "Whether the caller has the key that it names: without a proof, which caller.key_proof demands, any key can be named.")
}

func (c *Caller) judgeKeyProof(f *check.Findings) {
	const of = "statement.key-proof"
	if !f.SkipIf(!c.KeyProof, callerKeyProof.ID, "the policy does not ask for a proof that the caller has its key") {
		f.Decide(callerKeyProof.ID, f.Passed(of), of+": "+string(check.Pass), of+": "+string(f.Verdict(of)), "the caller did not prove that it has the key that it names")
	}
}
