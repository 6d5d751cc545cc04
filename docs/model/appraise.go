// SPDX-License-Identifier: Apache-2.0

package main

// logs takes each log that fits the quote, and no log, and makes the checks that are about
// the log and the anchor.
func (s *search) logs(d *document) {
	if without := *d; !d.onAnchor || s.anchorFits(&without) {
		without.noLog = true
		s.statements(&without)
	}
	var space [12]log
	for _, l := range s.candidates(d, space[:0]) {
		next := *d
		next.log = l
		if s.fits(&next) {
			s.statements(&next)
		}
	}
}

// candidates returns the logs that may fit the batch's quote: its PCR as the records, or
// divided into start value and records; and for an invented quote the shortest log that the
// rest of the document allows.
func (s *search) candidates(d *document, logs []log) []log {
	q := &d.batch.quote
	if !q.invented() {
		logs = append(logs, log{records: q.pcr})
		if !s.keeps(checkStart) {
			for n := uint(8); q.pcr>>n != 0; n += 8 {
				logs = append(logs, log{start: q.pcr >> n, records: q.pcr & (1<<n - 1)})
			}
		}
		if !s.keeps(checkPCR) && q.batch == none {
			logs = append(logs, log{records: sequence(agentStart | record(d.key.value))}) // in another PCR, which the attacker extended
		}
		if s.keeps(checkReplay) {
			return logs
		}
	}
	if d.batch.head.set {
		logs = append(logs, d.batch.head.value)
	}
	shortest := sequence(0)
	if d.onAnchor && d.anchor.head.set && s.keeps(checkPrefix) {
		shortest = d.anchor.head.value.records
	}
	if run, stopped := shortest.key(); run != d.key.value || stopped {
		shortest = shortest.add(agentStart | record(d.key.value))
	}
	logs = append(logs, log{records: shortest})
	if d.batch.head.set && !s.keeps(logPrevious) {
		logs = append(logs, log{records: sequence(agentStart|record(d.key.value))<<8 | d.batch.head.value.records})
	}
	return logs
}

// fits makes the checks that are about the log, the anchor and its age.
func (s *search) fits(d *document) bool {
	if s.keeps(checkHead) && !d.batch.head.is(s.head(d.log)) {
		return false
	}
	run, stopped := d.log.records.key()
	if s.keeps(checkAgentKey) && run != d.key.value || s.keeps(checkAgentStop) && stopped {
		return false
	}
	return !d.onAnchor || s.prefix(d) && s.anchorFits(d)
}

// anchorFits makes the checks of an anchor. A TPM or clock that lies can make one pass.
func (s *search) anchorFits(d *document) bool {
	a, b := &d.anchor, &d.batch
	if !a.quote.invented() && !b.quote.invented() {
		lies := vtpm.on(b.quote.guest)
		age := b.quote.clock - a.quote.clock
		if s.keeps(checkReset) && a.quote.boot != b.quote.boot || s.keeps(checkAnchorClock) && age != 0 {
			if b.quote.batch == none {
				return false // as invented, this quote is another choice
			}
			d.need |= lies
		}
	}
	if a.time.set && b.time.set && s.keeps(checkAnchorTime) && a.time.value != b.time.value {
		if d.report.guest == none {
			return false
		}
		d.need |= clock.on(d.report.guest)
	}
	return true
}

// prefix checks that a prefix of the log is the anchor's, and leads to the anchor's PCR.
func (s *search) prefix(d *document) bool {
	a := &d.anchor
	for records := d.log.records; ; records >>= 8 {
		l := log{d.log.start, records}
		if (!s.keeps(checkPrefix) || !a.head.set || a.head.value == s.head(l)) &&
			(!s.keeps(checkAnchorReplay) || a.quote.invented() || a.quote.pcr == join(l)) {
			return true
		}
		if records == 0 {
			return false
		}
	}
}

// join returns the PCR that a log replays to.
func join(l log) sequence {
	pcr := l.start
	for n := 56; n >= 0; n -= 8 {
		if r := record(l.records >> n); r != 0 {
			pcr = pcr.add(r)
		}
	}
	return pcr
}

// statements takes each statement under the root: what an honest agent put into its tree,
// and anything in a tree of the attacker.
func (s *search) statements(d *document) {
	if d.open = s.unbroken(d); d.open == 0 {
		return
	}
	for i := range s.batches.n {
		b := &s.batches.at[i]
		next := *d
		if !s.answers(b) || !next.batch.root.is(i) || !s.possible(&next) {
			continue
		}
		if b.audience == ours || b.audience == another && !(s.keeps(leafAudience) && s.keeps(checkAudience)) {
			s.accept(&next, statement{i, application, b.guest})
		}
		s.accept(&next, statement{i, 0, none})
		for p := range application {
			s.acceptKeys(&next, i, p)
		}
	}
	if !d.batch.root.set || !s.keeps(checkInclusion) {
		next := *d
		if s.keeps(checkInclusion) {
			next.batch.root.is(evil)
		}
		if s.possible(&next) {
			s.accept(&next, statement{none, application, none})
			s.acceptKeys(&next, none, application)
		}
	}
}

// answers reports whether the nonce of a batch's statements passes: the agent had it, or
// nothing compares it.
func (s *search) answers(b *batch) bool {
	return b.at > s.asked || !s.keeps(checkNonce) || !s.keeps(leafNonce)
}

// possible reports whether the attacker had what each quote and report is over when it was
// asked for, and finds the earliest moment of the report. Nonces and salts cannot be
// guessed; all else can.
func (s *search) possible(d *document) bool {
	if d.report.batch == none {
		d.report.at = max(d.report.from, s.born(d))
		if d.report.at > d.report.to {
			return false
		}
	}
	return s.askable(d, &d.batch, checkData) && (!d.onAnchor || s.askable(d, &d.anchor, checkAnchorData))
}

// born returns the moment from which the attacker has what its report is over.
func (s *search) born(d *document) int8 {
	at, x := int8(0), d.reported()
	if !s.keeps(checkBinding) {
		return 0
	}
	if s.keeps(reportRoot) || s.keeps(reportAttest) && s.keeps(quoteRoot) {
		at = s.planted(d, x)
	}
	if s.keeps(reportAttest) && x.attest.value != evil {
		at = max(at, s.batches.at[x.attest.value].at)
	}
	if s.keeps(reportKey) && d.key.value != evil {
		at = max(at, s.runs.at[d.key.value].from)
	}
	return at
}

// planted returns the moment from which the attacker has the root of a snapshot. A tree of
// its own contains the nonce if it is the batch's.
func (s *search) planted(d *document, x *snapshot) int8 {
	switch {
	case x.root.set && x.root.value != evil:
		return s.batches.at[x.root.value].at
	case x == &d.batch && s.keeps(checkNonce) && s.keeps(leafNonce):
		return s.asked
	}
	return 0
}

// askable reports whether the attacker had what a quote is over when it asked the TPM.
func (s *search) askable(d *document, x *snapshot, data item) bool {
	if x.quote.batch != none || x.quote.invented() || !s.keeps(data) {
		return true
	}
	if s.keeps(quoteRoot) && x.quote.at < s.planted(d, x) {
		return false
	}
	return !d.onAnchor || x == &d.anchor || !s.keeps(quoteAnchor) || !s.keeps(anchorReport) || x.quote.at >= d.report.at
}

// proves reports whether a proof of possession passes: by the application of guest holder,
// in a statement about process p on guest g.
func (s *search) proves(d *document, holder, g int8, p process) bool {
	if !s.keeps(proofLabel) {
		return true // the application signs what others choose, elsewhere
	}
	if g == holder && p&samePID != 0 && p&sameStart != 0 {
		return false // there is one such process
	}
	if s.keeps(proofUID) && p&sameUID == 0 || s.keeps(proofPID) && p&samePID == 0 || s.keeps(proofStarted) && p&sameStart == 0 {
		return false
	}
	return s.proved(d, holder)
}

// proved reports whether the application of a guest made a proof that the verifier accepts.
func (s *search) proved(d *document, holder int8) bool {
	for i := range s.batches.n {
		b := &s.batches.at[i]
		if b.guest == holder && b.audience != noRequest &&
			(!s.keeps(proofNonce) || b.at > s.asked) &&
			(!s.keeps(proofAudience) || b.audience == ours) &&
			(!s.keeps(proofKey) || b.run == d.key.value) {
			return true
		}
	}
	return false
}
