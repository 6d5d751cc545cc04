// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	shown "github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

// imaFiles are the rules about files, ready for lists of any length: an entry costs a look
// into a map for its digest and one for its path, and a comparison with each pattern.
type imaFiles struct {
	anywhere *fileRule
	at       map[string]*fileRule // by path
	patterns []*fileRule
}

// fileRule is what files at one path, or with one pattern, may be.
type fileRule struct {
	path       string
	any        bool
	digests    map[string]bool
	references []*ima.Reference
}

func newIMAFiles(rules []IMAFiles) *imaFiles {
	out := &imaFiles{anywhere: new(fileRule), at: make(map[string]*fileRule)}
	for _, x := range rules {
		r := out.of(x.Path)
		r.any = r.any || x.AnyDigest
		if r.digests == nil {
			r.digests = make(map[string]bool, len(x.Digests))
		}
		for _, d := range x.Digests {
			r.digests[d] = true
		}
	}
	return out
}

// of returns the rule of a path, and makes it if there is none.
func (l *imaFiles) of(path string) *fileRule {
	switch {
	case path == "":
		return l.anywhere
	case !strings.Contains(path, "*"):
		if l.at[path] == nil {
			l.at[path] = &fileRule{path: path}
		}
		return l.at[path]
	}
	i := slices.IndexFunc(l.patterns, func(r *fileRule) bool { return r.path == path })
	if i < 0 {
		i = len(l.patterns)
		l.patterns = append(l.patterns, &fileRule{path: path})
	}
	return l.patterns[i]
}

func (l *imaFiles) refer(path string, p *ima.Reference) {
	r := l.of(path)
	r.references = append(r.references, p)
}

// lists reports whether a rule accepts a file.
func (l *imaFiles) lists(x *ima.Fields) bool {
	digest := x.Digest.String()
	if l.anywhere.accepts(x, digest) || l.at[x.Path] != nil && l.at[x.Path].accepts(x, digest) {
		return true
	}
	return slices.ContainsFunc(l.patterns, func(r *fileRule) bool { return matches(r.path, x.Path) && r.accepts(x, digest) })
}

func (r *fileRule) accepts(x *ima.Fields, digest string) bool {
	return r.any || r.digests[digest] || slices.ContainsFunc(r.references, func(p *ima.Reference) bool { return p.Has(x.Digest) })
}

// maxPattern is the longest path of a rule, in bytes.
const maxPattern = 256

// matches reports whether a path has a pattern, of at most [maxPattern] bytes. It follows all
// places of the pattern at once, so that the time is in proportion to the product of both
// lengths, whatever name an attacker gives to a file.
func matches(pattern, path string) bool {
	fixed := strings.IndexByte(pattern, '*') // what most paths do not begin with
	if fixed < 0 {
		return pattern == path
	}
	if !strings.HasPrefix(path, pattern[:fixed]) {
		return false
	}
	pattern, path = pattern[fixed:], path[fixed:]
	var now places
	now.reach(pattern, 0)
	for at := range len(path) {
		var next places
		for p := range pattern {
			switch all := strings.HasPrefix(pattern[p:], "**"); {
			case !now[p]:
			case all || pattern[p] == '*' && path[at] != '/':
				next.reach(pattern, p)
			case pattern[p] == path[at] && pattern[p] != '*':
				next.reach(pattern, p+1)
			}
		}
		now = next
	}
	return now[len(pattern)]
}

// places are places in a pattern up to which a path matches.
type places [maxPattern + 1]bool

// reach adds a place, and those after the asterisks that follow, which stand for nothing too.
func (s *places) reach(pattern string, p int) {
	s[p] = true
	for p < len(pattern) && pattern[p] == '*' {
		if p++; p < len(pattern) && pattern[p] == '*' {
			p++
		}
		s[p] = true
	}
}

// maxNamed is how many files of a list the claims name.
const maxNamed = 100

// MeasuredFile is one entry of the list of IMA.
type MeasuredFile struct {
	Entry  uint64 `json:"entry"`           // number in the list, from 0
	Path   string `json:"path"`            // with ? for characters that may not be shown
	Digest string `json:"digest,omitzero"` // with the name of its algorithm; absent of a violation
	Fault  string `json:"fault,omitzero"`  // why the entry cannot be read
}

// Measured is what the entries of a list came to under a policy, as they come one by one.
type Measured struct {
	Violations uint64         // files that were written while they were used
	Unlisted   uint64         // entries that no rule lists
	Violated   []MeasuredFile // first of the violations
	Named      []MeasuredFile // first of the entries that are not listed

	rules      *IMARules
	policy     string          // SHA-256, hexadecimal
	aggregates map[string]bool // digests that the first entry can have
	first      string          // digest of the first entry, if that is boot_aggregate
	begun      bool
	known      *replay.IMAState // of the entries before the first; nil if that is the first of the list
}

// NewMeasured begins with a list. The first entry is compared with the quoted PCRs of the boot,
// without what systemd extends once the kernel runs, if the firmware's log shows their values
// before that.
func (c *Compiled) NewMeasured(q *quote.Quote, firmware pcr.Values) *Measured {
	m := &Measured{rules: &c.IMARules, policy: c.Sum.String(), aggregates: make(map[string]bool)}
	if q == nil {
		return m
	}
	for bank, quoted := range q.Values {
		if bank == pcr.SHA1 {
			continue
		}
		values := make(map[uint32][]byte)
		for index, v := range quoted {
			values[index] = v
			if tcglog.Leads(firmware, bank, index, v) != "" {
				values[index] = firmware[bank][index]
			}
		}
		for _, d := range ima.Aggregates(bank, values) {
			m.aggregates[ima.Digest{Algorithm: bank.String(), Value: d}.String()] = true
		}
	}
	return m
}

// Continue begins after the entries that an earlier appraisal judged. Their files are not named again.
func (m *Measured) Continue(known *replay.IMAState) {
	m.known, m.begun, m.first = known, true, known.First
	m.Violations, m.Unlisted = known.Violations, known.Unlisted
}

// Note completes what a verifier keeps of the list.
func (m *Measured) Note(s *replay.IMAState) {
	s.Policy, s.First, s.Violations, s.Unlisted = m.policy, m.first, m.Violations, m.Unlisted
}

// Add judges one entry, of any PCR. The name of a template is hashed nowhere, so that there are no
// other rules for some of them. A file can be called boot_aggregate too: only the first entry, and
// any with the digest of the first, are the kernel's.
func (m *Measured) Add(e *ima.Entry) {
	x, err := e.Fields()
	first := !m.begun && e.PCR == ima.PCR
	m.begun = m.begun || e.PCR == ima.PCR
	switch {
	case e.Violation():
		m.Violations++
		m.Violated = name(m.Violated, e, x, nil)
	case err != nil:
		m.Unlisted++
		m.Named = name(m.Named, e, nil, err)
	case x.Path == ima.AggregateName && (first || x.Digest.String() == m.first):
		m.first = x.Digest.String()
	case !m.rules.files.lists(x) && !x.Signed(m.rules.keys):
		m.Unlisted++
		m.Named = name(m.Named, e, x, nil)
	}
}

// begins says how the list begins.
func (m *Measured) begins() string {
	if m.first == "" {
		return "another entry"
	}
	return m.first
}

func name(list []MeasuredFile, e *ima.Entry, x *ima.Fields, err error) []MeasuredFile {
	if len(list) == maxNamed {
		return list
	}
	f := MeasuredFile{Entry: e.Number}
	if x != nil {
		f.Path = shown.Fit(x.Path, ima.MaxPath)
		if !e.Violation() {
			f.Digest = x.Digest.String()
		}
	}
	if err != nil {
		f.Fault = err.Error()
	}
	return append(list, f)
}
