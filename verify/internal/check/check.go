// SPDX-License-Identifier: Apache-2.0

// Package check records what came of each check of an appraisal. A room of the verifier
// defines its checks (a [Definition] each) and records them in one [Findings]; package
// verify puts the definitions of all rooms in order and shows the result.
package check

import "fmt"

// ID names a check, as "part.what-it-checks". Ids are stable: one is never reused for
// something else, and a check that is dropped leaves its id unused.
type ID string

// Verdict is the outcome of one check, or of the whole appraisal.
type Verdict string

const (
	Pass        Verdict = "pass"
	Fail        Verdict = "fail"
	NotAsserted Verdict = "not-asserted" // nothing is claimed either way; the sentence says why
)

// Class groups checks by what their failure means. The number is the exit code of
// "agentctl verify".
type Class int

const (
	Accepted   Class = 0 // nothing failed
	Binding    Class = 2 // a signature, a format or a binding is broken: treat as forged
	Collateral Class = 3 // a certificate or CRL is missing or out of date: fetch it, try again
	Revoked    Class = 4 // a key was revoked
	Policy     Class = 5 // genuine, but not what the policy asks for
)

// String returns the name of the class for people.
func (c Class) String() string {
	switch c {
	case Accepted:
		return "accepted"
	case Binding:
		return "signature or binding"
	case Collateral:
		return "collateral"
	case Revoked:
		return "revoked"
	case Policy:
		return "policy"
	}
	return fmt.Sprintf("class %d", int(c))
}

// Definition describes one check.
type Definition struct {
	ID     ID
	Class  Class  // meaning of its failure
	Checks string // condition that must be true, for a table
	Stops  string // attack that it stops, or what would go unnoticed without it
}

// Check is one check of an appraisal.
type Check struct {
	ID       ID      `json:"id"`
	Class    Class   `json:"class"`
	Verdict  Verdict `json:"verdict"`
	Required bool    `json:"required"`          // false only if nothing asked for it; required and not asserted counts as refused
	Expected string  `json:"expected,omitzero"` // for people; digests in hexadecimal
	Found    string  `json:"found,omitzero"`    // for people; may contain text from the evidence, quoted
	Sentence string  `json:"sentence"`          // what was checked, or why not
}
