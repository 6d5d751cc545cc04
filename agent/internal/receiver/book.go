// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Limits of tickets.
const (
	mostOfApp = 16   // open, of one app
	mostOpen  = 256  // open, in all
	mostEnded = 1024 // remembered after their end, to say why
)

// An entry is one ticket. Its fields are guarded by book.mu, but for ticket and declaration, which do
// not change, and seed, which belongs to the goroutine that took the entry.
type entry struct {
	ticket      *delivery.Ticket
	declaration evidence.Digest // of the app, when the ticket was made
	seed        *secret.Secret  // nil once the ticket has ended
	ends        uint64          // by book.now
	timer       *time.Timer     // ends the ticket also if nothing asks

	taken   bool            // a goroutine stores a secret by it
	why     api.Code        // why it has ended; empty while it is open
	perhaps bool            // it is open, and a message was perhaps stored: no other one is
	sealed  evidence.Digest // message that was stored, if it was used, or perhaps was
	receipt []byte          // of the message that was stored
}

// A book has the tickets of this agent.
type book struct {
	now func() uint64

	mu      sync.Mutex                 // guards all below
	entries map[evidence.Digest]*entry // by id, open and ended
	ended   []evidence.Digest          // ids of ended entries, the oldest first
	open    int                        // number of open ones
	stored  uint64
	made    uint64
	refused map[string]uint64 // by reason
}

// same reports whether two tickets are for one secret.
func same(e *entry, app, name string) bool { return e.ticket.App == app && e.ticket.Name == name }

// room refuses a further ticket if too many are open. One for the same secret would be replaced.
func (b *book) room(app, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.roomFor(app, name)
}

func (b *book) roomFor(app, name string) error {
	b.sweep()
	ofApp := 0
	for _, e := range b.entries {
		if e.why == "" && e.ticket.App == app {
			if e.ticket.Name == name && !e.taken {
				return nil
			}
			ofApp++
		}
	}
	switch {
	case ofApp >= mostOfApp:
		return problem.New(api.CodeTooManyTickets, fmt.Sprintf("%d tickets of app %s are open, at most %d", ofApp, app, mostOfApp))
	case b.open >= mostOpen:
		return problem.New(api.CodeTooManyTickets, fmt.Sprintf("%d tickets are open, at most %d", b.open, mostOpen))
	}
	return nil
}

// add opens a ticket, in the place of one for the same secret.
func (b *book) add(e *entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.roomFor(e.ticket.App, e.ticket.Name); err != nil {
		return err
	}
	for _, old := range b.entries {
		if old.why == "" && !old.taken && same(old, e.ticket.App, e.ticket.Name) {
			b.end(old, api.CodeTicketUnknown)
		}
	}
	if b.entries == nil {
		b.entries = make(map[evidence.Digest]*entry)
	}
	b.entries[e.ticket.ID()] = e
	b.open++
	b.made++
	b.watch(e)
	return nil
}

// watch ends a ticket when its time is over, also if nothing asks. The timer may be early or late:
// it stops while the machine is suspended. What counts is the clock of the book.
func (b *book) watch(e *entry) {
	left := time.Duration(0)
	if now := b.now(); now < e.ends {
		left = time.Duration(e.ends-now) * time.Millisecond
	}
	e.timer = time.AfterFunc(left, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.sweep()
		if e.why == "" && !e.taken {
			b.watch(e)
		}
	})
}

// sweep ends the tickets whose time is over, and that no goroutine took.
func (b *book) sweep() {
	now := b.now()
	for _, e := range b.entries {
		if e.why == "" && !e.taken && now >= e.ends {
			b.end(e, api.CodeTicketExpired)
		}
	}
}

// end ends an open ticket. Its key is overwritten.
func (b *book) end(e *entry, why api.Code) {
	e.why = why
	e.timer.Stop()
	e.seed.Wipe()
	e.seed = nil
	b.open--
	b.ended = append(b.ended, e.ticket.ID())
	if len(b.ended) > mostEnded {
		delete(b.entries, b.ended[0])
		b.ended = b.ended[1:]
	}
}

// take returns the open ticket of a message, for the caller alone, until the caller calls giveBack
// or used. If this very message was stored, it returns the receipt in place of that.
func (b *book) take(id, sealed evidence.Digest) (*entry, []byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep()
	e := b.entries[id]
	switch {
	case e == nil || e.why == api.CodeTicketUnknown:
		b.count(string(api.CodeTicketUnknown))
		return nil, nil, problem.New(api.CodeTicketUnknown, fmt.Sprintf("no ticket %v", id))
	case e.why == api.CodeTicketUsed && e.sealed == sealed:
		return e, e.receipt, nil
	case e.why == api.CodeTicketUsed:
		b.count(string(e.why))
		return nil, nil, problem.New(e.why, fmt.Sprintf("another message was stored by the ticket for %q of app %s", e.ticket.Name, e.ticket.App))
	case e.why == api.CodeTicketExpired:
		b.count(string(e.why))
		return nil, nil, errExpired(e.ticket)
	case e.taken:
		return nil, nil, problem.After(problem.New(api.CodeBusy, errTaken.Error()), time.Second)
	case e.perhaps && e.sealed != sealed:
		b.count(string(api.CodeTicketUsed))
		return nil, nil, problem.New(api.CodeTicketUsed, fmt.Sprintf("another message was perhaps stored by the ticket for %q of app %s: a write failed meanwhile", e.ticket.Name, e.ticket.App))
	}
	e.taken = true
	return e, nil, nil
}

// unclear are codes of errors after which the store may have the secret nevertheless.
var unclear = []api.Code{api.CodeInterrupted, api.CodeCounterLost}

// giveBack leaves a ticket that was taken open. If the message may have been stored, no other one is
// from then on. Err is nil after a panic.
func (b *book) giveBack(e *entry, sealed evidence.Digest, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.taken = false
	if err == nil || slices.Contains(unclear, sealing.CodeOf(err)) {
		e.perhaps, e.sealed = true, sealed
	}
	b.count(notStored)
	e.timer.Stop()
	b.watch(e)
}

// used ends a ticket by which a message was stored.
func (b *book) used(e *entry, sealed evidence.Digest, receipt []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e.taken, e.sealed, e.receipt = false, sealed, receipt
	b.end(e, api.CodeTicketUsed)
	b.stored++
}

// expired reports whether the time of a ticket is over.
func (b *book) expired(e *entry) bool { return b.now() >= e.ends }

func (b *book) refuse(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count(reason)
}

// count counts a message that was refused. The reasons are words of this package.
func (b *book) count(reason string) {
	if b.refused == nil {
		b.refused = make(map[string]uint64)
	}
	b.refused[reason]++
}

// Reasons of refusals that are not a code of one ticket.
const (
	malformed = string(api.CodeMalformedMessage)
	notStored = "not-stored"
)

// reasons are those of refusals, in the order of the metrics.
var reasons = []string{malformed, notStored, string(api.CodeTicketExpired), string(api.CodeTicketUnknown), string(api.CodeTicketUsed)}

// Metrics adds what is counted.
func (b *book) Metrics(to *metrics.Set) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sweep()
	to.Gauge("agentd_delivery_tickets_open", "Tickets by which a relying party can make a delivery now.", float64(b.open))
	to.Counter("agentd_delivery_tickets", "Tickets that were made.", float64(b.made))
	to.Counter("agentd_delivery_stored", "Deliveries that were stored.", float64(b.stored))
	for _, reason := range reasons {
		to.Counter("agentd_delivery_refused", "Deliveries that were refused, by reason.", float64(b.refused[reason]), metrics.Label{Name: "reason", Value: reason})
	}
}

// Close overwrites the keys of all tickets that no goroutine took.
func (b *book) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		if e.why == "" && !e.taken {
			b.end(e, api.CodeTicketUnknown)
		}
	}
}
