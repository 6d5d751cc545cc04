// SPDX-License-Identifier: Apache-2.0

// Package check records what came of each check of an appraisal. A room of the verifier
// defines its checks (a [Definition] each) and records them in one [Findings]; package
// verify puts the definitions of all rooms in order and shows the result.
package check

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

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
	Collateral Class = 3 // a certificate or CRL is missing or out of date, or a log cannot be read: fetch it, try again
	Revoked    Class = 4 // a key was revoked
	Policy     Class = 5 // genuine, but not what the policy asks for
)

// String returns the name of the class for people.
func (c Class) String() string {
	names := map[Class]string{Accepted: "accepted", Binding: "signature or binding", Collateral: "collateral", Revoked: "revoked", Policy: "policy"}
	return cmp.Or(names[c], fmt.Sprintf("class %d", int(c)))
}

// Definition describes one check.
type Definition struct {
	ID     ID
	Class  Class  // meaning of its failure
	Ground Ground // kind of fact that it is about: on whose word it can pass
	Checks string // condition that must be true, for a table
	Stops  string // attack that it stops, or what would go unnoticed without it
}

// Check is one check of an appraisal.
type Check struct {
	ID       ID      `json:"id"`                // name of the check, as docs/checks.md lists it
	Class    Class   `json:"class"`             // what a failure means: the exit code
	Verdict  Verdict `json:"verdict"`           // outcome
	Basis    Basis   `json:"basis,omitzero"`    // on whose word it passed; absent otherwise
	Required bool    `json:"required"`          // false only if nothing asked for it; required and not asserted counts as refused
	Expected string  `json:"expected,omitzero"` // for people; digests in hexadecimal
	Found    string  `json:"found,omitzero"`    // for people; may contain text from the evidence, quoted
	Sentence string  `json:"sentence"`          // what was checked, or why not
}

// maxText is how much of one text a check keeps, in bytes: more than any reason that a
// log may give. A longer text was written to be long.
const maxText = 2 << 10

// Findings collects the checks of one appraisal. Each begins as required and not
// asserted, so that a step that was not reached cannot look like one that passed.
type Findings struct {
	*Order
	checks  []Check
	ignored map[ID]bool
	leans   map[ID]Ground // of checks that rest on another fact than their definition says
}

// Order is the definitions of an appraisal, indexed once for all appraisals.
type Order struct {
	definitions []Definition
	index       map[ID]int
}

// NewOrder indexes definitions in the order in which checks are listed.
func NewOrder(definitions []Definition) *Order {
	o := &Order{definitions: definitions, index: make(map[ID]int, len(definitions))}
	for i, d := range definitions {
		o.index[d.ID] = i
	}
	return o
}

// NewFindings starts an appraisal. A check in ignored passes whatever it found: tests
// show with it that each check is the only one that stops its attack.
func NewFindings(o *Order, ignored map[ID]bool) *Findings {
	f := &Findings{Order: o, ignored: ignored, checks: make([]Check, len(o.definitions))}
	for i, d := range o.definitions {
		f.checks[i] = Check{ID: d.ID, Class: d.Class, Verdict: NotAsserted, Required: true}
	}
	return f
}

// at returns the place of a check. It panics for an id without a definition, which is a
// mistake of this module.
func (f *Findings) at(id ID) int {
	i, ok := f.index[id]
	if !ok {
		panic("verify: no check " + string(id))
	}
	return i
}

func (f *Findings) set(id ID, v Verdict, expected, found, sentence string) bool {
	c := &f.checks[f.at(id)]
	c.Verdict, c.Expected, c.Found, c.Sentence = v, expected, cut(found), cut(sentence)
	return v == Pass
}

// Decide records a check that ran, and reports whether it passed. The sentence is for a
// failure; a check that passed says what its definition says.
func (f *Findings) Decide(id ID, ok bool, expected, found, sentence string, args ...any) bool {
	if ok || f.ignored[id] {
		return f.set(id, Pass, expected, found, f.definitions[f.at(id)].Checks)
	}
	return f.set(id, Fail, expected, found, fmt.Sprintf(sentence, args...))
}

// PassWith records a check that passed in part, with a sentence that says which part.
func (f *Findings) PassWith(id ID, sentence string, args ...any) {
	f.set(id, Pass, "", "", fmt.Sprintf(sentence, args...))
}

// Compared is an error that tells what was compared.
type Compared interface {
	error
	Compared() (expected, found string)
}

// DecideError records a check that ran and failed if err is not nil. It shows what an
// error in the tree of err compared, if there is a [Compared].
func (f *Findings) DecideError(id ID, err error) bool {
	if err == nil {
		return f.Decide(id, true, "", "", "")
	}
	expected, found := "", err.Error()
	if c, ok := errors.AsType[Compared](err); ok {
		expected, found = c.Compared()
	}
	return f.Decide(id, false, expected, found, "%v", err)
}

// DecideSignature records the check of a signature that key should have made.
func (f *Findings) DecideSignature(id ID, ok bool, key, sentence string, args ...any) bool {
	found := "a signature that does not verify"
	if ok {
		found = "a signature that verifies"
	}
	return f.Decide(id, ok, "a signature by "+key, found, sentence, args...)
}

// SkipAll skips each check of a list, see [Findings.Skip].
func (f *Findings) SkipAll(list []Definition, why string) {
	for _, d := range list {
		f.Skip(d.ID, why)
	}
}

// Skip records a check that nothing asked for, or that has nothing to look at: it
// asserts nothing and is not required.
func (f *Findings) Skip(id ID, why string, args ...any) {
	f.Block(id, why, args...)
	f.checks[f.at(id)].Required = false
}

// SkipIf skips a check if unasked, and reports whether it did.
func (f *Findings) SkipIf(unasked bool, id ID, why string, args ...any) bool {
	if unasked {
		f.Skip(id, why, args...)
	}
	return unasked
}

// Block records a required check that could not run, with the reason.
func (f *Findings) Block(id ID, why string, args ...any) {
	if len(args) > 0 {
		why = fmt.Sprintf(why, args...)
	}
	f.set(id, NotAsserted, "", "", why)
}

// Verdict returns what was recorded for a check.
func (f *Findings) Verdict(id ID) Verdict { return f.checks[f.at(id)].Verdict }

// Passed reports whether a check passed.
func (f *Findings) Passed(id ID) bool { return f.Verdict(id) == Pass }

// Met reports whether each of these checks passed, or nothing asked for it.
func (f *Findings) Met(list ...Definition) bool {
	return !slices.ContainsFunc(list, func(d Definition) bool { return f.Asked(d.ID) && !f.Passed(d.ID) })
}

// Asked reports whether anything asked for a check.
func (f *Findings) Asked(id ID) bool { return f.checks[f.at(id)].Required }

// Checks returns every check in the order of the definitions, each with a sentence. One
// that nothing was recorded for was not reached; the first that failed is the reason,
// since the steps run in that order.
func (f *Findings) Checks() []Check {
	open := "there is nothing to check in material of this kind"
	if i := slices.IndexFunc(f.checks, func(c Check) bool { return c.Verdict == Fail }); i >= 0 {
		open = fmt.Sprintf("not reached: %s failed", f.checks[i].ID)
	}
	for i := range f.checks {
		if c := &f.checks[i]; c.Verdict == NotAsserted && c.Sentence == "" {
			c.Sentence = open
		}
	}
	return f.checks
}

// Zero reports whether all bytes of b are zero.
func Zero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

// Short returns b in hexadecimal, cut after 32 bytes: enough to tell it apart on a screen.
func Short(b []byte) string {
	const most = 32
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) <= most {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%x... (%d bytes)", b[:most], len(b))
}

// cut shortens a text that may contain some of the document, with a mark that it did.
func cut(s string) string {
	if len(s) <= maxText {
		return s
	}
	return fmt.Sprintf("%s... (cut, %d bytes)", strings.ToValidUTF8(s[:maxText], ""), len(s))
}
