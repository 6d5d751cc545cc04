// SPDX-License-Identifier: Apache-2.0

package main

// Two guests of the same launch measurement. Each has its own TPM and its own agent.
const (
	guestA int8 = iota
	guestB
	guests
)

// A record is one event of a measurement log, as its digest: what the PCR is extended by.
type record = uint8

// Kinds of records, in the high four bits. The low four name a run or an event.
const (
	agentStart record = 0x10
	agentStop  record = 0x20
	measured   record = 0x30
	foreign    record = 0x40 // no record at all
)

// A sequence is what a PCR was extended by since its reset, and also the records of a log:
// up to eight, the last in the low byte. Hash chains are injective, so the sequence stands
// for the value of the PCR and for the log head.
type sequence uint64

func (s sequence) add(r record) sequence {
	if s>>56 != 0 {
		panic("a sequence has at most eight records")
	}
	return s<<8 | sequence(r)
}

// starts reports whether s is a prefix of t.
func (s sequence) starts(t sequence) bool {
	for ; t != s; t >>= 8 {
		if t == 0 {
			return false
		}
	}
	return true
}

// key returns the run that the last agent-start names, and whether an agent-stop follows.
func (s sequence) key() (run int8, stopped bool) {
	for ; s != 0; s >>= 8 {
		switch record(s) & 0xf0 {
		case agentStart:
			return int8(s & 0xf), stopped
		case agentStop:
			stopped = true
		}
	}
	return none, false
}

// none is an index that names nothing; evil is the attacker's own agent key or attestation
// key, and a tree that the attacker made.
const (
	none int8 = -1
	evil int8 = 15
)

type kind uint8

const (
	challenge kind = iota // the verifier chooses its nonce
	pass                  // time passes, longer than an anchor may be old
	measure               // the agent measures an application
	fresh                 // the agent serves a batch with a report
	anchored              // the agent serves a batch on its anchor
	stop                  // the agent ends cleanly
	restart               // the agent starts again, after a stop or a crash
	reboot                // the guest is launched again, and its TPM reset
	takeover              // the attacker becomes root
	extend                // the attacker extends the PCR
	kinds
)

// most is how often each kind of event happens in a history.
var most = [kinds]int8{challenge: 1, pass: 1, measure: 2, fresh: 2, anchored: 2, stop: 1, restart: 1, reboot: 1, takeover: 2, extend: 1}

// An audience is the verifier that an honest caller asks for.
type audience uint8

const (
	noRequest audience = iota // no honest caller asks
	ours                      // our verifier
	another                   // another verifier, who may be the attacker
)

type event struct {
	kind     kind
	guest    int8
	audience audience // of the honest caller's request, in fresh and anchored
	record   record   // in extend
}

// alphabet lists the events. B is a mirror of A: a history with the two exchanged has the
// same documents, so that B needs few events of its own.
var alphabet = []event{
	{kind: challenge}, {kind: pass}, {kind: measure},
	{kind: fresh}, {kind: fresh, audience: ours}, {kind: fresh, audience: another},
	{kind: anchored}, {kind: anchored, audience: ours}, {kind: anchored, audience: another},
	{kind: stop}, {kind: restart}, {kind: reboot}, {kind: takeover},
	{kind: extend, record: foreign}, {kind: extend, record: agentStart | record(evil)},
	{kind: fresh, guest: guestB}, {kind: fresh, guest: guestB, audience: ours}, {kind: takeover, guest: guestB},
}

const longest = 8 // events in a history

// moments is the number of states in a history: before the first event, and after each.
const moments = longest + 1

// span is a time in which something lasts, from the moment of its first event to the last.
type span struct {
	guest, boot, from, to int8
}

// A batch is what an honest agent made for one tree of statements.
type batch struct {
	at, guest, boot, run int8
	audience             audience
	anchor               int8 // batch of the anchor; none in a fresh batch, which has a report
	pcr, log             sequence
	time, clock          int8 // of the guest, since boot; of the TPM
}

// A guest is the state of a guest at one moment.
type guest struct {
	boot, run, anchor int8
	pcr, log          sequence
}

// A world is a history and all that the attacker learns from it.
type world struct {
	events  [longest]event
	length  int8
	count   [kinds]int8
	now     [guests]guest
	boots   list[span]
	runs    list[span]
	roots   list[span]
	batches list[batch]
	pcr     [guests][moments]sequence
	boot    [guests][moments]int8
	clock   [moments]int8
	asked   int8         // moment of the challenge; 0 before it
	need    capabilities // of the events that the attacker causes
}

// A list is a slice that a copy of the world does not share.
type list[T any] struct {
	at [6]T
	n  int8
}

func (l *list[T]) add(x T) int8 {
	l.at[l.n] = x
	l.n++
	return l.n - 1
}

func (l *list[T]) all() []T { return l.at[:l.n] }

// begin returns the world in which both guests are launched and their agents started.
func begin() world {
	var w world
	for g := range guests {
		w.launch(g)
		w.pcr[g][0] = w.now[g].pcr
	}
	return w
}

func (w *world) launch(g int8) {
	w.now[g] = guest{boot: w.boots.add(span{guest: g, from: w.length, to: longest})}
	w.start(g)
}

func (w *world) start(g int8) {
	now := &w.now[g]
	now.run = w.runs.add(span{guest: g, boot: now.boot, from: w.length, to: longest})
	now.anchor = none
	w.record(g, agentStart|record(now.run))
}

// record extends the PCR, and then writes the log.
func (w *world) record(g int8, r record) {
	w.now[g].pcr = w.now[g].pcr.add(r)
	w.now[g].log = w.now[g].log.add(r)
}

// end ends what lasts in a list on a guest.
func end(l *list[span], g, at int8) {
	for i := range l.all() {
		if x := &l.at[i]; x.guest == g && x.to == longest {
			x.to = at
		}
	}
}

// rooted reports whether the attacker is root of the guest.
func (w *world) rooted(g int8) bool {
	for _, x := range w.roots.all() {
		if x.guest == g && x.to == longest {
			return true
		}
	}
	return false
}

// happen lets e happen, and reports whether it can.
func (w *world) happen(e event, removed items) bool {
	if w.count[e.kind]++; w.count[e.kind] > most[e.kind] {
		return false
	}
	w.events[w.length] = e
	before := w.length
	w.length++
	w.clock[w.length] = w.clock[before]
	g, now := e.guest, &w.now[e.guest]
	switch e.kind {
	case challenge:
		w.asked = w.length
	case pass:
		w.clock[w.length]++
	case measure:
		if now.run == none {
			return false
		}
		w.record(g, measured|record(before))
	case fresh, anchored:
		if !w.serve(e, removed) {
			return false
		}
	case stop:
		if now.run == none {
			return false
		}
		w.record(g, agentStop|record(now.run))
		end(&w.runs, g, before)
		now.run = none
	case restart:
		end(&w.runs, g, before)
		w.start(g)
	case reboot:
		end(&w.runs, g, before)
		end(&w.boots, g, before)
		end(&w.roots, g, before)
		w.launch(g)
	case takeover:
		if w.rooted(g) {
			return false
		}
		w.roots.add(span{guest: g, boot: now.boot, from: w.length, to: longest})
	case extend:
		if w.rooted(g) {
			w.need |= root.on(g)
		} else {
			w.need |= device.on(g)
		}
		now.pcr = now.pcr.add(e.record)
	}
	for g := range guests {
		w.pcr[g][w.length] = w.now[g].pcr
		w.boot[g][w.length] = w.now[g].boot
	}
	return true
}

// serve lets an agent serve a batch. It compares PCR and log, and needs an anchor for an
// anchored batch.
func (w *world) serve(e event, removed items) bool {
	now := &w.now[e.guest]
	if now.run == none || now.pcr != now.log && !removed.has(agentReplay) || e.kind == anchored && now.anchor == none {
		return false
	}
	b := batch{at: w.length, guest: e.guest, boot: now.boot, run: now.run, audience: e.audience, anchor: none, pcr: now.pcr, log: now.log,
		clock: w.clock[w.length], time: w.clock[w.length] - w.clock[w.boots.at[now.boot].from]}
	if e.kind == anchored {
		b.anchor = now.anchor
	}
	i := w.batches.add(b)
	if e.kind == fresh {
		now.anchor = i
	}
	return true
}

// explore calls visit with every history of length events in which the verifier asks, until
// it returns false. What the attacker learns only grows, so that shorter histories are
// contained in these.
func explore(length int8, removed items, visit func(*world) bool) {
	var next func(*world) bool
	next = func(w *world) bool {
		if w.length == length {
			return w.asked == 0 || visit(w)
		}
		for _, e := range alphabet {
			if w.mirrored(e) {
				continue
			}
			if child := *w; child.happen(e, removed) && !next(&child) {
				return false
			}
		}
		return true
	}
	w := begin()
	next(&w)
}

// mirrored reports whether e is an event of B after an event of A that does not concern it:
// the history with the two exchanged is explored instead.
func (w *world) mirrored(e event) bool {
	if e.guest != guestB || w.length == 0 {
		return false
	}
	last := w.events[w.length-1]
	return last.guest == guestA && last.kind > pass
}
