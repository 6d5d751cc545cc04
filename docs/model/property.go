// SPDX-License-Identifier: Apache-2.0

package main

// A property is what a verifier may conclude from a document that it accepts.
type property uint8

const (
	fresherThanNonce property = iota
	forUs
	byCaller
	oneMachine
	complete
	honest
	young
	hasKey
	continues
	knownBoot
	prefixed
	properties
)

var propertyNames = [properties]struct{ name, says string }{
	fresherThanNonce: {"nonce", "statement, quote and, if fresh, report were made after the verifier chose its nonce"},
	forUs:            {"audience", "an honest caller asked for this verifier"},
	byCaller:         {"caller", "an agent of a guest with this launch measurement made the statement for this caller and key"},
	oneMachine:       {"machine", "report, TPM and agent are of one guest in one boot"},
	complete:         {"history", "the log lacks nothing that extended the PCR before the nonce was chosen"},
	honest:           {"records", "the agent wrote each record of the log"},
	young:            {"age", "the report is not older than max_anchor_age"},
	hasKey:           {"key proof", "the caller that the statement names has the key"},
	continues:        {"same boot", "after one log of a REPORT_ID no other is accepted"},
	knownBoot:        {"known boot", "a quote of a known boot is not accepted under the report of another guest"},
	prefixed:         {"anchor's log", "the log contains what was measured before the report"},
}

// A mode is what the policy demands.
type mode uint8

const (
	freshKnown mode = iota // fresh evidence, an AK known from elsewhere
	freshAny               // fresh evidence, any AK
	anchoredKnown
	anchoredAny
	freshNoLog
	anchoredNoLog
	modes
)

var modeNames = [modes]string{"fresh, known AK", "fresh, any AK", "anchored, known AK", "anchored, any AK", "fresh, known AK, no log", "anchored, known AK, no log"}

// accept records which properties do not hold for a document with this statement.
func (s *search) accept(d *document, st statement) {
	d.statement = st
	for p := range properties {
		if d.open>>p&1 == 1 && s.broken(d, p) {
			s.report(d, p)
		}
	}
}

// acceptKeys records whether a statement about a process can name the key of another.
func (s *search) acceptKeys(d *document, i int8, p process) {
	for g := range guests {
		d.statement = statement{i, p, g}
		if d.open>>hasKey&1 == 1 && s.keyless(d) {
			s.report(d, hasKey)
		}
	}
}

// broken reports whether a property does not hold for a document that is accepted.
func (s *search) broken(d *document, p property) bool {
	switch p {
	case fresherThanNonce:
		return s.stale(d)
	case forUs:
		return s.misdirected(d)
	case byCaller:
		return s.misattributed(d)
	case oneMachine:
		return s.mixed(d)
	case complete:
		return s.incomplete(d)
	case honest:
		return s.invented(d)
	case young:
		return s.aged(d)
	case continues:
		return s.forked(d)
	case knownBoot:
		return s.borrowed(d)
	case prefixed:
		return s.rewritten(d)
	}
	return false
}

func (m mode) onAnchor() bool { return m == anchoredKnown || m == anchoredAny || m == anchoredNoLog }

func (m mode) withLog() bool { return m < freshNoLog }

// findings are the boundaries of all properties under all policies.
type findings struct {
	boundaries [modes][properties]boundary
	broken     [modes][1 << (2 * perGuest)]propertySet // what each set of capabilities breaks
}

type propertySet uint16

// add adds a set of capabilities that breaks a property, if no smaller one does.
func (f *findings) add(m mode, p property, x breach) {
	if f.boundaries[m][p].covers(x.need) {
		return
	}
	f.boundaries[m][p].add(x)
	for i := range f.broken[m] {
		if x.need&^capabilities(i) == 0 {
			f.broken[m][i] |= 1 << p
		}
	}
}

// in reports whether the policy of a mode accepts the document.
func (s *search) in(d *document, m mode) bool {
	if m.onAnchor() && !d.onAnchor || !m.onAnchor() && d.onAnchor && s.keeps(checkFreshness) || m.withLog() == d.noLog {
		return false
	}
	return m == freshAny || m == anchoredAny || d.ak.value != evil || !s.keeps(checkAK)
}

// unbroken returns the properties that the document's capabilities are not known to break
// under some policy that accepts it.
func (s *search) unbroken(d *document) propertySet {
	var open propertySet
	need := d.need.seenFrom(d.report.guest)
	for m := range modes {
		if s.in(d, m) {
			open |= ^s.found.broken[m][need]
		}
	}
	return open & (1<<properties - 1)
}

func (s *search) report(d *document, p property) {
	x := breach{d.need.seenFrom(d.report.guest), ""}
	for m := range modes {
		if s.in(d, m) && s.found.broken[m][x.need]>>p&1 == 0 {
			if x.trace == "" {
				x.trace = s.trace(d)
			}
			s.found.add(m, p, x)
		}
	}
}

// caller reports whether the statement names the honest application as caller.
func (s *search) caller(d *document) bool {
	return d.statement.process == application || !s.keeps(leafCaller)
}

func (s *search) stale(d *document) bool {
	made := func(i, at int8) int8 {
		if i != none {
			return s.batches.at[i].at
		}
		return at
	}
	if d.statement.batch != none && made(d.statement.batch, 0) < s.asked || !d.onAnchor && d.report.at < s.asked {
		return true
	}
	q := &d.batch.quote
	return !q.invented() && made(q.batch, q.at) < s.asked
}

func (s *search) misdirected(d *document) bool {
	return d.statement.batch != none && d.statement.process == application && s.batches.at[d.statement.batch].audience == another
}

func (s *search) misattributed(d *document) bool {
	if !s.caller(d) {
		return false
	}
	return d.statement.batch == none || d.statement.process != application || !s.keeps(leafKey)
}

func (s *search) mixed(d *document) bool {
	g, boot := d.report.guest, d.report.boot
	if d.ak.value != g || !d.batch.quote.invented() && d.batch.quote.boot != boot {
		return true
	}
	return d.statement.batch != none && s.batches.at[d.statement.batch].boot != boot
}

// subject returns whose history the log has to be: that of the TPM that made the quote, or
// of the report's guest if the quote is invented.
func (d *document) subject() (g, boot int8) {
	if q := &d.batch.quote; !q.invented() {
		return q.guest, q.boot
	}
	return d.report.guest, d.report.boot
}

func (s *search) incomplete(d *document) bool {
	g, boot := d.subject()
	return g != none && !d.noLog && s.lacks(d, s.pcrOf(g, boot, s.asked))
}

// pcrOf returns the PCR in a boot of a guest, at a moment or when the boot ended before.
func (s *search) pcrOf(g, boot, at int8) sequence {
	b := s.boots.at[boot]
	if b.from > at {
		return 0
	}
	return s.pcr[g][min(at, b.to)]
}

// lacks reports whether the log lacks something of a sequence, or has it elsewhere.
func (s *search) lacks(d *document, extended sequence) bool {
	return !extended.starts(d.log.records) || d.log.start != 0
}

func (s *search) invented(d *document) bool {
	g, boot := d.subject()
	return !d.noLog && (g == none || !join(d.log).starts(s.writtenIn(g, boot)))
}

// writtenIn returns the log that the agent of a guest wrote in a boot: the PCR without what
// the attacker extended.
func (s *search) writtenIn(g, boot int8) sequence {
	pcr := s.pcrOf(g, boot, s.length)
	written := sequence(0)
	for n := 56; n >= 0; n -= 8 {
		switch r := record(pcr >> n); {
		case r == 0, r == foreign, r == agentStart|record(evil):
		default:
			written = written.add(r)
		}
	}
	return written
}

func (s *search) aged(d *document) bool {
	return d.onAnchor && s.clock[s.asked] > s.clock[d.report.at]
}

func (s *search) keyless(d *document) bool {
	st := &d.statement
	if st.key == none || st.batch != none && st.process == application {
		return false
	}
	g, alike := st.key, true // in a statement of the attacker, the ids are those of the application
	if st.batch != none {
		g = s.batches.at[st.batch].guest
		alike = st.process == sameUID|samePID|sameStart && g != st.key
	}
	for _, b := range s.batches.all() {
		if alike && b.guest == st.key && b.guest == d.report.guest && b.audience == ours && b.at > s.asked {
			return false // the document says what that application asked for
		}
	}
	if st.batch == none {
		return !s.keeps(checkProof) || !s.keeps(proofLabel) || s.proved(d, st.key)
	}
	return !s.keeps(checkProof) && !s.keeps(agentProof) || s.proves(d, st.key, g, st.process)
}

// known calls f with what the verifier may know from evidence that it accepted before.
func (s *search) known(f func(b *batch) bool) bool {
	for i := range s.batches.all() {
		if b := &s.batches.at[i]; b.at < s.asked && f(b) {
			return true
		}
	}
	return false
}

func (s *search) forked(d *document) bool {
	return !s.keeps(checkContinuation) && !d.noLog && s.known(func(b *batch) bool {
		return b.boot == d.report.boot && s.lacks(d, b.log)
	})
}

func (s *search) borrowed(d *document) bool {
	return !s.keeps(checkSameBoot) && s.known(func(b *batch) bool {
		return b.guest == d.ak.value && b.boot == d.batch.quote.boot && b.boot != d.report.boot
	})
}

func (s *search) rewritten(d *document) bool {
	return d.onAnchor && !d.noLog && d.report.batch != none && s.lacks(d, s.batches.at[d.report.batch].log)
}
