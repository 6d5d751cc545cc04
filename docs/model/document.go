// SPDX-License-Identifier: Apache-2.0

package main

// A slot is a value in a document that the attacker is putting together. As long as no
// signature or hash pins it, the attacker may choose it.
type slot[T comparable] struct {
	value T
	set   bool
}

// is pins the value, and reports whether that is possible.
func (s *slot[T]) is(v T) bool {
	if s.set {
		return s.value == v
	}
	s.value, s.set = v, true
	return true
}

// A log is the measurement log in a document: the start value that its first record claims,
// and the records.
type log struct{ start, records sequence }

// A quote is where a TPMS_ATTEST comes from.
type quote struct {
	batch    int8 // whose quote it is; none if no honest agent asked for it
	guest    int8 // whose TPM made it; none if it is invented
	at       int8 // when, for one that no honest agent asked for
	pcr      sequence
	clock    int8
	boot     int8 // stands for resetCount
	signedBy signer
}

func (q quote) invented() bool { return q.guest == none }

// A signer says for a trace how the attacker came to a signature.
type signer uint8

const (
	byBatch signer = iota
	byOwnKey
	byNoKey
	byLeakedKey
	byEndedKey
	byRoot
	byTPM
	byTPMForAttacker
	byOwnAK
	byTakenAK
	byNothing
)

var signerNames = [...]string{"of that batch", "by the attacker's key", "by no key", "by a leaked key", "by the leaked key of a run that ended",
	"by a key that root read", "its TPM", "the TPM, for the attacker", "an AK of the attacker", "the AK, which the attacker has", "nothing that vouches for it"}

// A snapshot is the member batch or anchor of a document.
type snapshot struct {
	root   slot[int8] // batch whose tree it is; evil for a tree of the attacker
	time   slot[int8]
	head   slot[log]
	attest slot[int8] // batch whose quote it is; evil for another
	quote  quote
}

// A report is where the report of a document comes from.
type report struct {
	batch        int8 // of which honest batch; none if the attacker asked for it
	guest, boot  int8 // none for another launch measurement
	from, to, at int8 // when it can have been asked for, and the earliest moment
}

// A statement is one that the verifier accepts.
type statement struct {
	batch   int8 // whose tree it is in; none if no honest agent made it
	process process
	key     int8 // guest whose application has the key; none if there is no key
}

// A process is a caller: the honest application that has a key, or a process of the
// attacker, by what it has in common with that application.
type process uint8

const (
	sameUID process = 1 << iota
	samePID
	sameStart
	application // is the last: below it are all combinations of the three
)

// A document is one that the attacker is putting together.
type document struct {
	onAnchor      bool
	report        report
	key, ak       slot[int8] // run, or evil; guest, or evil
	batch, anchor snapshot
	signedBy      signer
	log           log
	noLog         bool
	statement     statement
	need          capabilities
	open          propertySet // which properties are worth a look
}

// snapshot returns the member anchor or batch.
func (d *document) snapshot(anchor bool) *snapshot {
	if anchor {
		return &d.anchor
	}
	return &d.batch
}

// reported returns the snapshot that the report is over.
func (d *document) reported() *snapshot { return d.snapshot(d.onAnchor) }

// A search looks for documents that the verifier accepts although a property does not hold.
type search struct {
	*world
	removed items
	found   *findings
}

// keeps reports whether a part or check is in place.
func (s *search) keeps(i item) bool { return !s.removed.has(i) }

// head is what a log head says about a log. Without the previous digest it is the last
// record.
func (s *search) head(l log) log {
	if s.keeps(logPrevious) {
		return l
	}
	return log{records: l.records & 0xff}
}

// documents puts together every document whose signatures the attacker has or can make in
// this history: first the report, then the agent's signature, quotes, log and statement.
// Each step pins what its signature is over. What stays open takes the value that the
// checks demand, so no choice is left out.
func (s *search) documents() {
	for _, onAnchor := range []bool{false, true} {
		for i, b := range s.batches.all() {
			if b.anchor != none {
				continue
			}
			d := document{onAnchor: onAnchor, need: s.need, report: report{batch: int8(i), guest: b.guest, boot: b.boot, from: b.at, to: b.at, at: b.at}}
			if !s.keeps(checkBinding) || s.pinReport(&d, int8(i)) {
				s.signatures(&d)
			}
		}
		for _, x := range s.roots.all() {
			s.signatures(&document{onAnchor: onAnchor, need: s.need | root.on(x.guest),
				report: report{batch: none, guest: x.guest, boot: x.boot, from: x.from, to: min(x.to, s.length)}})
		}
		if !s.keeps(checkLaunch) || !s.keeps(checkReport) {
			s.signatures(&document{onAnchor: onAnchor, need: s.need, report: report{batch: none, guest: none, boot: none, to: s.length}})
		}
	}
}

// pinReport pins what the report data of an honest batch is over.
func (s *search) pinReport(d *document, i int8) bool {
	x, b := d.reported(), &s.batches.at[i]
	return (!s.keeps(reportRoot) || x.root.is(i)) &&
		(!s.keeps(reportTime) || x.time.is(b.time)) &&
		(!s.keeps(reportKey) || d.key.is(b.run)) &&
		(!s.keeps(reportAK) || d.ak.is(b.guest)) &&
		(!s.keeps(reportAttest) || x.attest.is(i)) &&
		(!s.keeps(reportHead) || x.head.is(s.head(log{records: b.log})))
}

// pinAnchor pins the anchor digest that batch i has: nothing, or a hash over its anchor.
func (s *search) pinAnchor(d *document, i int8) bool {
	a := s.batches.at[i].anchor
	if a == none || !d.onAnchor {
		return (a != none) == d.onAnchor
	}
	x, b := &d.anchor, &s.batches.at[a]
	return (!s.keeps(anchorRoot) || x.root.is(a)) &&
		(!s.keeps(anchorTime) || x.time.is(b.time)) &&
		(!s.keeps(anchorKey) || d.key.is(b.run)) &&
		(!s.keeps(anchorAK) || d.ak.is(b.guest)) &&
		(!s.keeps(anchorAttest) || x.attest.is(a)) &&
		(!s.keeps(anchorHead) || x.head.is(s.head(log{records: b.log}))) &&
		(!s.keeps(anchorReport) || d.report.batch == a)
}

// pinBatch pins what the agent signature of batch i is over.
func (s *search) pinBatch(d *document, i int8) bool {
	x, b := &d.batch, &s.batches.at[i]
	return d.key.is(b.run) &&
		(!s.keeps(batchRoot) || x.root.is(i)) &&
		(!s.keeps(batchTime) || x.time.is(b.time)) &&
		(!s.keeps(batchAttest) || x.attest.is(i)) &&
		(!s.keeps(batchHead) || x.head.is(s.head(log{records: b.log}))) &&
		(!s.keeps(batchAnchor) || s.pinAnchor(d, i))
}

// signatures takes each agent signature: of an honest batch, or by a key that the attacker
// has.
func (s *search) signatures(d *document) {
	for i := range s.batches.n {
		if next := *d; s.pinBatch(&next, i) {
			s.attests(&next, false)
		}
	}
	s.sign(d, evil, 0, byOwnKey)
	for i := range s.runs.n {
		r := &s.runs.at[i]
		if !s.keeps(checkSignature) {
			s.sign(d, i, 0, byNoKey)
			continue
		}
		if r.to >= s.asked {
			s.sign(d, i, leaked.on(r.guest), byLeakedKey)
		} else {
			s.sign(d, i, old.on(r.guest), byEndedKey)
		}
		for _, x := range s.roots.all() {
			if x.boot == r.boot && r.to >= x.from {
				s.sign(d, i, root.on(r.guest), byRoot)
			}
		}
	}
}

// sign takes an agent signature by a key that the attacker has.
func (s *search) sign(d *document, key int8, need capabilities, by signer) {
	next := *d
	next.need, next.signedBy = next.need|need, by
	if next.key.is(key) {
		s.attests(&next, false)
	}
}

// attests takes each quote for the batch or the anchor: one that an honest agent asked for,
// one that the attacker asks a TPM for, and one that the attacker invents.
func (s *search) attests(d *document, ofAnchor bool) {
	x := d.snapshot(ofAnchor)
	for i := range s.batches.n {
		b := &s.batches.at[i]
		if x.attest.set && x.attest.value != i {
			continue
		}
		q := quote{batch: i, guest: b.guest, pcr: b.pcr, clock: b.clock, boot: b.boot, signedBy: byTPM}
		s.quoted(d, ofAnchor, b.guest, 0, q)
		if x.attest.set { // else an invented quote is as good
			s.forgeries(d, ofAnchor, q)
		}
	}
	if x.attest.set {
		return
	}
	s.forgeries(d, ofAnchor, quote{batch: none, guest: none, boot: none})
	for g := range guests {
		for at := range s.length + 1 {
			if at < s.length && s.alike(g, at) {
				continue
			}
			q := quote{batch: none, guest: g, at: at, pcr: s.pcr[g][at], clock: s.clock[at], boot: s.boot[g][at], signedBy: byTPMForAttacker}
			s.quoted(d, ofAnchor, g, device.on(g), q)
			for _, x := range s.roots.all() {
				if x.guest == g && x.from <= at && at <= x.to {
					s.quoted(d, ofAnchor, g, root.on(g), q)
				}
			}
		}
	}
}

// alike reports whether a quote at a moment says the same as one at the next, for which the
// attacker knows at least as much.
func (s *search) alike(g, at int8) bool {
	return s.pcr[g][at] == s.pcr[g][at+1] && s.clock[at] == s.clock[at+1] && s.boot[g][at] == s.boot[g][at+1] && at+1 != s.asked
}

// quoted takes a quote under an AK.
func (s *search) quoted(d *document, ofAnchor bool, ak int8, need capabilities, q quote) {
	if d.ak.set && d.ak.value != ak {
		return
	}
	next := *d
	next.need |= need
	next.ak.is(ak)
	x := next.snapshot(ofAnchor)
	x.quote = q
	data := checkData
	if ofAnchor {
		data = checkAnchorData
	}
	if q.batch == none {
		x.attest.is(evil)
	} else if !x.attest.is(q.batch) || s.keeps(data) && (s.keeps(quoteRoot) && !x.root.is(q.batch) ||
		s.keeps(quoteAnchor) && !s.pinQuotedAnchor(&next, ofAnchor, q.batch)) {
		return
	}
	if next.onAnchor && !ofAnchor {
		s.attests(&next, true)
	} else {
		s.logs(&next)
	}
}

// forgeries takes each signature over q by which the TPM does not vouch for what q says.
func (s *search) forgeries(d *document, ofAnchor bool, q quote) {
	q.signedBy = byOwnAK
	s.quoted(d, ofAnchor, evil, 0, q)
	signed := checkQuote
	if ofAnchor {
		signed = checkAnchorQuote
	}
	for g := range guests {
		q.signedBy = byTakenAK
		s.quoted(d, ofAnchor, g, vtpm.on(g), q)
		q.signedBy = byNothing
		if !s.keeps(signed) {
			s.quoted(d, ofAnchor, g, 0, q)
		}
		if !s.keeps(checkType) || !s.keeps(checkAttributes) {
			s.quoted(d, ofAnchor, g, device.on(g), q)
		}
	}
}

// pinQuotedAnchor pins the anchor digest in the quote of batch i. The quote of an anchor has
// none.
func (s *search) pinQuotedAnchor(d *document, ofAnchor bool, i int8) bool {
	if ofAnchor {
		return s.batches.at[i].anchor == none
	}
	return s.pinAnchor(d, i)
}
