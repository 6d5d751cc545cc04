// SPDX-License-Identifier: Apache-2.0

package verify

import "fmt"

// alsoListed is a further launch that a policy lists, which no evidence of the tests has.
func alsoListed(kind, covers string) string {
	return fmt.Sprintf("[[launch]]\nmeasurement = %q\nkind = %q\ncovers = %q\n", repeated(9, 48), kind, covers)
}

var (
	anyParavisor = alsoListed("paravisor", "firmware")
	anySystem    = alsoListed("plain", "firmware+kernel+cmdline+system")
)

// whole returns a policy that lists the launch of the tests as one of the whole system.
func whole(root, tables string) string {
	return covering("firmware+kernel+cmdline+system")(makePolicy(root, tables))
}

// The evidence of these is good, and another party vouches for it than the policy asks for.
// Any program that can ask for a report makes evidence like that: it needs no TPM.
var basisMutations = []mutation{
	{id: PolicyBasisHistory, name: "case 97 only the guest vouches for the AK", tables: pinFour + asking + anyParavisor + "[basis]\nhistory = \"tpm\""},
	{id: PolicyBasisHistory, name: "case 97 the whole system is measured, and the AK is unknown", policy: whole("", anyParavisor+"[basis]\nhistory = \"tpm\"")},
	{id: PolicyBasisHistory, name: "the AK is enrolled, and a launch is asked for", tables: anySystem + enrolment(recipeAK(), "none") + "[basis]\nhistory = \"launch\""},
	{id: PolicyBasisHistory, name: "a bare report", root: bareRoot, tables: anyParavisor + "[basis]\nhistory = \"tpm\"", raw: bare(nil, nil)},
	{id: PolicyBasisHistory, name: "a paravisor's set from a plain launch", policy: paravisorPolicy("plain", "") + anyParavisor + "[basis]\nhistory = \"tpm\"", raw: paravisorSet(nil, nil)},
	{id: PolicyBasisCaller, name: "case 97 the launch covers the kernel alone", tables: asking + anySystem + "[basis]\ncaller = \"launch\""},
	{id: PolicyBasisCaller, name: "case 97 the AK is enrolled", tables: anySystem + enrolment(recipeAK(), "none") + "[basis]\ncaller = \"launch\""},
	{id: PolicyBasisCaller, name: "the whole system, whose memory the host may write", policy: whole("", "[guest_policy]\nallow_debug = true\n[basis]\ncaller = \"launch\""), recipe: body(setPolicy(1 << 19))},
	{id: PolicyBasisCaller, name: "the whole system, which the host may move", policy: whole("", "[guest_policy]\nallow_migration_agent = true\n[basis]\ncaller = \"launch\""), recipe: body(setPolicy(1 << 18))},
	{id: PolicyBasisCaller, name: "a bare report", policy: whole(bareRoot, "[basis]\ncaller = \"launch\""), raw: bare(nil, nil)},
	{id: PolicyBasisAll, name: "case 97 the launch covers the kernel alone", tables: anySystem + "[basis]\nall = \"launch\""},
	{id: PolicyBasisAll, name: "the whole system, and a value quoted by an unknown vTPM", policy: whole("", pinFour+anyParavisor+"[basis]\nall = \"launch\"")},
	{id: PolicyBasisAll, name: "a paravisor's set from a plain launch", policy: paravisorPolicy("plain", "") + anySystem + "[basis]\nall = \"launch\"", raw: paravisorSet(nil, nil)},
}
