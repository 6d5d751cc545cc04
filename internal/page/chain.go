// SPDX-License-Identifier: Apache-2.0

package page

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// A state is what became of a check, or of a link of the chain.
type state string

const (
	holds  state = "holds"  // each check that was asked for passed
	guests state = "guest"  // so it did, by the guest's word
	failed state = "failed" // a check failed
	open   state = "open"   // nothing failed, and a required check could not be made
	tested state = "test"   // so it did, by the word of a test root
	moot   state = "moot"   // it passed, and proves nothing, since another link is broken
	absent state = "absent" // nothing was asked: the material has nothing of the kind
)

// A linkKind is a link of the chain from AMD's root to the caller. Checks that are below it must
// pass for it to hold.
type linkKind struct {
	id, verb, title string
	checks          []string // ids of checks, or parts that end in "."
	also            []string // checks of another link that this one depends on too
	word            string   // check of another link, on whose basis this one rests at most; may be empty
}

// linkKinds are the links, in the order of the chain. A test checks that each check below the policy is
// of exactly one.
var linkKinds = []linkKind{
	{"root-chip", "certifies", "AMD's root certifies the key of the chip",
		[]string{"report.certificate", "report.chain", "report.validity", "report.product", "report.revocation-list", "report.revocation"}, nil, ""},
	{"chip-report", "signs", "The key of the chip signs the report",
		[]string{"report.kind", "report.decode", "report.signer", "report.signature", "report.chip", "report.tcb", "report.table", "report.expected-data"}, nil, ""},
	{"report-ak", "commits to", "The report commits to the vTPM's key",
		[]string{"ak.", "paravisor.", "svsm.", "binding.attestation-key", "binding.runtime-data"}, []string{"binding.report-data"}, "policy.binding"},
	{"ak-quote", "signs", "The vTPM's key signs the values of PCRs", []string{"quote.", "anchor."}, nil, ""},
	{"quote-log", "equal", "The logs lead to the values of PCRs", []string{"log.", "firmware.", "ima.", "anchor.log-prefix", "anchor.log-replay"}, nil, ""},
	{"report-agent", "commits to", "The report commits to the agent's key", []string{"binding.report-data", "batch.agent-key"}, nil, ""},
	{"agent-statement", "signs", "The agent's key signs the statement",
		[]string{"evidence.", "batch.inclusion", "batch.agent-signature", "statement."}, nil, ""},
	{"log-caller", "names", "The log names the agent and the caller", []string{"log.agent-key", "log.caller"}, nil, ""},
	{"statement-caller", "names", "The statement names the caller", []string{"statement.decode", "statement.public-key", "statement.key-proof"}, nil, "batch.agent-signature"},
}

// of reports whether a check is of this link: named by its id, or by its part if no link names it by
// its id.
func (k *linkKind) of(id verify.CheckID) bool {
	named := func(x linkKind) bool { return slices.Contains(x.checks, string(id)) }
	if named(*k) {
		return true
	}
	part, _, _ := strings.Cut(string(id), ".")
	return slices.Contains(k.checks, part+".") && !slices.ContainsFunc(linkKinds, named)
}

// A chain is the drawing of the chain, and its links in words.
type chain struct {
	Drawing drawing
	Links   []link
	Summary string
}

// A link is a link of the chain and what became of it.
type link struct {
	ID, Verb, Title string
	State           state
	Says            string // the state in words
	Facts           []fact // of accepted evidence
	Counts          string
	Broken          []string // ids of checks that failed or could not be made
}

// chainOf returns the chain of an appraisal; claims are nil if the evidence was refused.
func (w words) chainOf(a *verify.Appraisal, claims *verify.Claims) chain {
	sound := a.Verdict == verify.Pass || a.Class == verify.ClassPolicy
	var c chain
	for i := range linkKinds {
		c.Links = append(c.Links, w.newLink(&linkKinds[i], a, sound, claims))
	}
	n := map[state]int{}
	for _, l := range c.Links {
		n[l.State]++
	}
	var out []string
	for _, s := range []state{failed, open, moot, holds, tested, guests, absent} {
		if n[s] > 0 {
			out = append(out, fmt.Sprintf("%d %s", n[s], saysOfLinks[s]))
		}
	}
	c.Summary = fmt.Sprintf("Of %d links from the root to the caller: %s.", len(c.Links), strings.Join(out, ", "))
	c.Drawing = w.draw(a, claims, c.Links)
	return c
}

// saysOfLinks says how many links are in a state.
var saysOfLinks = map[state]string{
	failed: "broken", open: "could not be checked", moot: "passed and proven nothing alone", holds: "proven", tested: "by the word of a test root", guests: "by the guest's word", absent: "not in this material",
}

// newLink returns what became of a link. A link of a chain that is not sound proves nothing by itself.
func (w words) newLink(k *linkKind, a *verify.Appraisal, sound bool, claims *verify.Claims) link {
	l := link{ID: k.id, Verb: k.verb, Title: k.title, State: absent}
	if k.id == "root-chip" && w.test {
		l.Title = "A test root, in place of AMD's, certifies the key of the chip"
	}
	var rows []checkRow
	passed, weakest := false, verify.ByVerifier
	for _, c := range a.Checks {
		if string(c.ID) == k.word {
			weakest = weaker(weakest, c.Basis)
		}
		own := k.of(c.ID)
		if !own && !slices.Contains(k.also, string(c.ID)) {
			continue
		}
		row := w.newCheckRow(c)
		if own {
			rows = append(rows, row)
		}
		switch row.State {
		case failed:
			l.State = failed
		case open:
			if l.State != failed {
				l.State = open
			}
		case holds, guests:
			passed = passed || own
			weakest = weaker(weakest, c.Basis)
		}
		if row.State == failed || row.State == open {
			l.Broken = append(l.Broken, row.ID)
		}
	}
	if l.State == absent && passed {
		l.State = w.proven(weakest, sound)
	}
	l.Says, l.Counts = w.saysOf(l.State, weakest), countRows(rows)
	l.Broken, _ = some(l.Broken, maxList)
	if claims != nil && l.State != absent {
		l.Facts = known(linkFacts[k.id](a, claims))
	}
	return l
}

// proven returns the state of a link whose checks passed.
func (w words) proven(word verify.Basis, sound bool) state {
	switch {
	case !sound:
		return moot
	case word == verify.ByGuest:
		return guests
	case word == verify.ByProcessor && w.test:
		return tested
	}
	return holds
}

// weaker returns the weaker of two bases.
func weaker(x, y verify.Basis) verify.Basis {
	order := []verify.Basis{verify.ByGuest, verify.ByTPM, verify.ByLaunch, verify.ByProcessor, verify.ByVerifier}
	if i := slices.Index(order, y); i >= 0 && i < slices.Index(order, x) {
		return y
	}
	return x
}

// saysOf returns the state of a link in words.
func (w words) saysOf(s state, word verify.Basis) string {
	switch s {
	case failed:
		return "broken"
	case open:
		return "required, and could not be checked"
	case moot:
		return "its checks passed, which proves nothing without the links that did not"
	case absent:
		return "not part of this material, or nothing asked for it"
	}
	if word == verify.ByVerifier {
		return "the verifier computed it"
	}
	return w.by(word)
}

// linkFacts return what accepted evidence says at each link.
var linkFacts = map[string]func(*verify.Appraisal, *verify.Claims) []fact{
	"root-chip":        rootFacts,
	"chip-report":      reportFacts,
	"report-ak":        akFacts,
	"ak-quote":         quoteFacts,
	"quote-log":        logFacts,
	"report-agent":     agentFacts,
	"agent-statement":  statementFacts,
	"log-caller":       func(*verify.Appraisal, *verify.Claims) []fact { return nil },
	"statement-caller": callerFacts,
}

func rootFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	out := []fact{{Name: "Root", Value: name(c.Machine.Root)}}
	if m := c.Machine.SNP; m != nil {
		out = append(out, fact{Name: "Processor", Value: name(m.Product)}, fact{Name: "Signer", Value: name(strings.ToUpper(m.Signer))},
			fact{Name: "Cloud", Value: name(m.CSPID)}, fact{Name: "Chip", Value: name(m.ChipID), Code: true})
	}
	return out
}

func reportFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	out := []fact{{Name: "Launch", Value: name(c.Machine.Measurement), Code: true}, {Name: "Listed as", Value: name(c.Machine.Label)}, {Name: "Covers", Value: name(c.Machine.Covers)}}
	m := c.Machine.SNP
	if m == nil {
		return out
	}
	return append(out, fact{Name: "VMPL", Value: fmt.Sprint(m.VMPL)},
		fact{Name: "Guest policy", Value: sentence(strings.Join(verdict.GuestPolicy(m.GuestPolicy), "; "))},
		fact{Name: "Platform", Value: sentence(strings.Join(verdict.Platform(m.PlatformInfo), "; "))},
		fact{Name: "TCB", Value: levels(m.ReportedTCB)}, fact{Name: "Boot", Value: name(m.ReportID), Code: true})
}

// levels returns the components of a TCB in words.
func levels(tcb map[string]uint8) string {
	var out []string
	for _, component := range slices.Sorted(maps.Keys(tcb)) {
		out = append(out, fmt.Sprintf("%s %d", component, tcb[component]))
	}
	return sentence(strings.Join(out, ", "))
}

func akFacts(a *verify.Appraisal, c *verify.Claims) []fact {
	return []fact{{Name: "In short", Value: sentence(verdict.Ties(a))}, {Name: "AK", Value: name(c.AKName), Code: true}}
}

func quoteFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	return []fact{{Name: "Quoted", Value: sentence(quoted(c.PCRs))}}
}

func logFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	if c.Log == nil {
		return nil
	}
	return []fact{{Name: "Records", Value: fmt.Sprint(c.Log.Head.Count)}, {Name: "Head", Value: c.Log.Head.Digest.String(), Code: true}}
}

func agentFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	if c.Log == nil {
		return nil
	}
	return []fact{{Name: "Agent key", Value: digits(c.Log.AgentKey), Code: true}}
}

func statementFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	s := &c.Statement
	return []fact{{Name: "Nonce", Value: digits(s.Nonce), Code: true}, {Name: "Audience", Value: name(s.Audience)}, {Name: "User data", Value: digits(s.UserData), Code: true},
		{Name: "Report", Value: name(s.Freshness)}}
}

func callerFacts(_ *verify.Appraisal, c *verify.Claims) []fact {
	s := &c.Statement
	if len(s.Nonce) == 0 { // every statement has one
		return nil
	}
	out := []fact{{Name: "Unit", Value: name(s.Caller.Unit), Code: true}, {Name: "App", Value: name(s.Caller.App)},
		{Name: "Process", Value: fmt.Sprintf("%d, of uid %d and gid %d", s.Caller.PID, s.Caller.UID, s.Caller.GID)},
		{Name: "Public key", Value: digits(s.PublicKey), Code: true}}
	if k := s.Caller.Container; k != nil {
		out = append(out, fact{Name: "Container", Value: name(string(k.Engine) + " " + k.ID)})
	}
	if x := s.Caller.Executable; x != nil {
		out = append(out, fact{Name: "Executable", Value: name(x.Path), Code: true})
	}
	return out
}
