// SPDX-License-Identifier: Apache-2.0

package receiver

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/delivery"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is what a receiver asks, with a clock that the test sets.
type machine struct {
	*Receiver
	log bytes.Buffer

	mu     sync.Mutex
	time   uint64
	digest evidence.Digest
	is     evidence.Digest // of the declaration
	state  api.AppState
	stored map[string]string
	fails  error                     // of the next attempt to store
	during func(ctx context.Context) // while an app is measured
	takes  uint64                    // milliseconds that evidence takes
	large  int                       // bytes of evidence besides
	blind  bool                      // a measurement without a digest
	asked  []api.EvidenceRequest
}

var agentKey = evidencetest.Key('a')

func newMachine() *machine {
	m := &machine{time: 1_000_000, digest: evidence.Digest{1}, state: api.AppMeasured, stored: map[string]string{}}
	m.Receiver = New(Config{Store: m, Attester: m, Measure: m.measure, Key: agentKey, Now: m.now, Log: slog.New(slog.NewTextHandler(&m.log, nil))})
	return m
}

func (m *machine) now() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.time
}

func (m *machine) advance(ms uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.time += ms
}

func (m *machine) measure(ctx context.Context, app string) (api.App, error) {
	if m.during != nil {
		m.during(ctx)
	}
	if m.blind {
		return api.App{Name: app, State: m.state}, nil
	}
	return api.App{Name: app, State: m.state, Digest: &m.digest, Declaration: m.is, Reason: "a reason"}, nil
}

// Attest returns what is not evidence: nothing here looks at it.
func (m *machine) Attest(_ context.Context, r api.EvidenceRequest, _ evidence.Caller) ([][]byte, error) {
	m.asked = append(m.asked, r)
	m.advance(m.takes)
	return [][]byte{[]byte("evi"), []byte("dence"), make([]byte, m.large)}, nil
}

func (m *machine) Provisioned(_ context.Context, app, name string) (bool, error) {
	_, ok := m.stored[app+"/"+name]
	return ok, nil
}

func (m *machine) Provision(_ context.Context, app, name string, data *secret.Secret, replace bool) error {
	if err := m.fails; err != nil {
		m.fails = nil
		return err
	}
	if _, ok := m.stored[app+"/"+name]; ok != replace {
		return errors.New("there is one, or none")
	}
	return data.Use(func(b []byte) error { m.stored[app+"/"+name] = string(b); return nil })
}

// request asks for a ticket for a secret of an app.
func request(app, name string) api.TicketRequest {
	return api.TicketRequest{App: app, Name: name, Challenge: make([]byte, 32), ValidFor: 60, AnySender: true}
}

// ticket makes a ticket.
func (m *machine) ticket(t *testing.T, r api.TicketRequest) *delivery.Ticket {
	t.Helper()
	out, err := m.Ticket(t.Context(), r, evidence.Caller{})
	must(t, err)
	x, err := delivery.ParseTicket(out.Ticket)
	must(t, err)
	if x.ID() != out.ID {
		t.Errorf("id %v of a ticket %v", out.ID, x.ID())
	}
	return x
}

func seal(t *testing.T, x *delivery.Ticket, text string) []byte {
	t.Helper()
	s, err := x.Seal([]byte(text), nil)
	must(t, err)
	return s.Encode()
}

// refused checks the code of an error, and that nothing was stored.
func (m *machine) refused(t *testing.T, what string, b []byte, code api.Code) {
	t.Helper()
	before := maps.Clone(m.stored)
	_, err := m.Receive(t.Context(), b)
	if !errors.Is(err, code) && sealing.CodeOf(err) != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
	if !maps.Equal(before, m.stored) {
		t.Errorf("%s: something was stored", what)
	}
}

// TestReceive: what was encrypted is stored, once, and the same message gets its receipt again, also
// after the time of the ticket.
func TestReceive(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "token"))
	id := x.ID()
	if a := m.asked[0]; a.Audience != delivery.Audience || !bytes.Equal(a.UserData, id[:]) || a.Freshness != evidence.Fresh || a.Log != api.LogWhole {
		t.Errorf("evidence was asked for by %+v", a)
	}
	b := seal(t, x, "hunter2")
	out, err := m.Receive(t.Context(), b)
	must(t, err)
	if m.stored["billing/token"] != "hunter2" || out.Again || out.Replaced || out.App != "billing" || out.Name != "token" || out.ID != id {
		t.Errorf("%+v, stored %v", out, m.stored)
	}
	s, err := delivery.ParseSealed(b)
	must(t, err)
	r, err := delivery.ParseReceipt(out.Receipt)
	must(t, err)
	must(t, r.Verify(agentKey.Public().(ed25519.PublicKey), id, s.Digest()))
	delete(m.stored, "billing/token") // as root might
	m.advance(61_000)
	again, err := m.Receive(t.Context(), b)
	must(t, err)
	if !again.Again || !bytes.Equal(again.Receipt, out.Receipt) || len(m.stored) > 0 {
		t.Errorf("again: %+v, stored %v", again, m.stored)
	}
	m.refused(t, "another message", seal(t, x, "other"), api.CodeTicketUsed)
	m.refused(t, "not a message", []byte("hunter2"), api.CodeMalformedMessage)
	if n := strings.Count(m.log.String(), "a delivered secret is refused"); n != 2 {
		t.Errorf("%d refusals are logged, want 2", n)
	}
	if strings.Contains(m.log.String(), "hunter2") || !strings.Contains(m.log.String(), id.String()) {
		t.Errorf("the log is\n%s", &m.log)
	}
}

// TestReplace: a secret is replaced exactly if the ticket says so.
func TestReplace(t *testing.T) {
	m := newMachine()
	r := request("billing", "token")
	r.Replace = true
	if _, err := m.Ticket(t.Context(), r, evidence.Caller{}); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("nothing to replace: %v", err)
	}
	m.stored["billing/token"] = "old"
	if _, err := m.Ticket(t.Context(), request("billing", "token"), evidence.Caller{}); !errors.Is(err, api.CodeExists) {
		t.Errorf("there is one: %v", err)
	}
	out, err := m.Receive(t.Context(), seal(t, m.ticket(t, r), "new"))
	if err != nil || !out.Replaced || m.stored["billing/token"] != "new" {
		t.Errorf("%+v, %v, stored %v", out, err, m.stored)
	}
}

// TestExpiry: case 130. A ticket ends with its time, by the clock of the agent, to the millisecond; also
// if the time ends while the app is measured. Its key is gone then.
func TestExpiry(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "token"))
	seed := m.entries[x.ID()].seed
	m.advance(59_999)
	m.during = func(context.Context) { m.advance(1) }
	m.refused(t, "expired while the app was measured", seal(t, x, "hunter2"), api.CodeTicketExpired)
	m.during = nil
	m.refused(t, "expired", seal(t, x, "hunter2"), api.CodeTicketExpired)
	if seed.Len() != 0 || m.open != 0 {
		t.Errorf("the key has %d bytes, %d tickets are open", seed.Len(), m.open)
	}
	// The time that evidence takes is of it.
	m.takes = 10
	y := m.ticket(t, request("billing", "token"))
	m.advance(59_990)
	m.refused(t, "expired, with the time of the evidence", seal(t, y, "hunter2"), api.CodeTicketExpired)
	m.takes = 0
	y = m.ticket(t, request("billing", "token"))
	m.advance(59_999)
	_, err := m.Receive(t.Context(), seal(t, y, "hunter2"))
	must(t, err)
}

// TestFailureLeavesTheTicket: what fails before anything was stored leaves the ticket open, for the right
// message.
func TestFailureLeavesTheTicket(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "token"))
	b := seal(t, x, "hunter2")
	broken := bytes.Clone(b)
	broken[len(broken)-5] ^= 1 // of the ciphertext: the signature's field is empty
	m.refused(t, "changed", broken, api.CodeDeliveryChanged)
	m.fails = &sealing.Error{Code: api.CodeRootUnavailable}
	m.refused(t, "the store is locked", b, api.CodeRootUnavailable)
	m.digest[0]++
	m.refused(t, "the app changed", b, api.CodeAppChanged)
	m.digest[0]--
	m.is[0]++
	m.refused(t, "the app was declared anew, with the same files", b, api.CodeAppChanged)
	m.is[0]--
	m.state = api.AppUnmeasured
	m.refused(t, "the app is not measured", b, api.CodeMeasureFailed)
	m.state, m.blind = api.AppMeasured, true
	m.refused(t, "the app has no digest", b, api.CodeMeasureFailed)
	m.blind = false
	m.refused(t, "not a message", b[:10], api.CodeMalformedMessage)
	_, err := m.Receive(t.Context(), b)
	must(t, err)
	var set metrics.Set
	m.Metrics(&set)
	text := string(set.Text(metrics.Prometheus))
	for _, want := range []string{"agentd_delivery_tickets_total 1\n", "agentd_delivery_stored_total 1\n", `{reason="not-stored"} 6`, `{reason="malformed-message"} 1`, "agentd_delivery_tickets_open 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

// TestPerhapsStored: case 130. After a failure that leaves open whether the secret was stored, the ticket
// serves that message alone, and so it does after a panic.
func TestPerhapsStored(t *testing.T) {
	for what, fail := range map[string]func(*machine){
		"interrupted":  func(m *machine) { m.fails = &sealing.Error{Code: api.CodeInterrupted} },
		"counter lost": func(m *machine) { m.fails = &sealing.Error{Code: api.CodeCounterLost} },
		"a panic":      func(m *machine) { m.during = func(context.Context) { m.during = nil; panic("a fault") } },
	} {
		m := newMachine()
		x := m.ticket(t, request("billing", "token"))
		b, other := seal(t, x, "hunter2"), seal(t, x, "other")
		fail(m)
		func() {
			defer func() { _ = recover() }()
			if _, err := m.Receive(t.Context(), b); err == nil {
				t.Errorf("%s: stored", what)
			}
		}()
		m.refused(t, what+", and then another message", other, api.CodeTicketUsed)
		if _, err := m.Receive(t.Context(), b); err != nil || m.stored["billing/token"] != "hunter2" {
			t.Errorf("%s, and then the same message: %v, stored %v", what, err, m.stored)
		}
	}
}

// TestKeyEndsUnasked: the key of a ticket is overwritten at the end of its time, also if nothing asks, and
// also after a message that was not stored.
func TestKeyEndsUnasked(t *testing.T) {
	m := newMachine()
	r := request("billing", "token")
	gone := func(what string, seed *secret.Secret) {
		t.Helper()
		for end := time.Now().Add(time.Minute); seed.Len() > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the key is there after a minute", what)
			}
		}
	}
	r.ValidFor = 1
	seed := m.entries[m.ticket(t, r).ID()].seed
	m.advance(1000)
	gone("a ticket of a second", seed)

	r.ValidFor = 3600
	x := m.ticket(t, r)
	seed = m.entries[x.ID()].seed
	m.advance(3_599_990)
	broken := seal(t, x, "hunter2")
	broken[len(broken)-5] ^= 1
	m.refused(t, "changed", broken, api.CodeDeliveryChanged)
	m.advance(10)
	gone("a ticket that was taken", seed)
}

// TestLargeEvidence: a ticket that no relying party would read is not made, and a ticket keeps no evidence.
func TestLargeEvidence(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "token"))
	if kept := m.entries[x.ID()].ticket.Evidence; len(kept) > 0 {
		t.Errorf("%d bytes of evidence are kept", len(kept))
	}
	m.large = delivery.MaxTicket
	if _, err := m.Ticket(t.Context(), request("billing", "more"), evidence.Caller{}); !errors.Is(err, api.CodeTransferTooLarge) || m.open != 1 {
		t.Errorf("%v, %d tickets are open", err, m.open)
	}
}

// TestTakenCounts: a ticket by which a secret is being stored is not replaced, so that a further one for the same
// secret needs room of its own.
func TestTakenCounts(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "s0"))
	for i := 1; i < mostOfApp; i++ {
		m.ticket(t, request("billing", fmt.Sprintf("s%d", i)))
	}
	m.during = func(context.Context) {
		m.during = nil
		if _, err := m.Ticket(t.Context(), request("billing", "s0"), evidence.Caller{}); !errors.Is(err, api.CodeTooManyTickets) {
			t.Errorf("one ticket too many: %v", err)
		}
	}
	_, err := m.Receive(t.Context(), seal(t, x, "hunter2"))
	must(t, err)
}

// TestOneAtATime: while a message is stored, another one by the same ticket waits; a later ticket does not
// take its key away.
func TestOneAtATime(t *testing.T) {
	m := newMachine()
	x := m.ticket(t, request("billing", "token"))
	other := seal(t, x, "other")
	m.during = func(ctx context.Context) {
		m.during = nil
		m.refused(t, "at the same time", other, api.CodeBusy)
		m.ticket(t, request("billing", "token"))
		m.Close()
	}
	_, err := m.Receive(t.Context(), seal(t, x, "hunter2"))
	must(t, err)
	if m.stored["billing/token"] != "hunter2" || m.open != 0 {
		t.Errorf("stored %v, %d open", m.stored, m.open)
	}
}

// TestLaterTicket: a later ticket for the same secret ends the one before, and others stay.
func TestLaterTicket(t *testing.T) {
	m := newMachine()
	first := m.ticket(t, request("billing", "token"))
	others := []*delivery.Ticket{m.ticket(t, request("billing", "password")), m.ticket(t, request("ledger", "token")), m.ticket(t, request("billing", "token"))}
	m.refused(t, "replaced", seal(t, first, "hunter2"), api.CodeTicketUnknown)
	for _, x := range others {
		_, err := m.Receive(t.Context(), seal(t, x, "hunter2"))
		must(t, err)
	}
	m.refused(t, "another agent's", seal(t, newMachine().ticket(t, request("billing", "more")), "hunter2"), api.CodeTicketUnknown)
}

// TestManyTickets: open tickets have a limit for each app and one for all, ended ones are forgotten in the
// end, and each use or expiry makes room.
func TestManyTickets(t *testing.T) {
	m := newMachine()
	full := func(app string) {
		t.Helper()
		if _, err := m.Ticket(t.Context(), request(app, "more"), evidence.Caller{}); !errors.Is(err, api.CodeTooManyTickets) {
			t.Errorf("%s: %v", app, err)
		}
	}
	for app := range mostOpen / mostOfApp {
		for i := range mostOfApp {
			m.ticket(t, request(fmt.Sprintf("app%d", app), fmt.Sprintf("s%d", i)))
		}
		full(fmt.Sprintf("app%d", app))
	}
	full("another")
	m.ticket(t, request("app0", "s0")) // in the place of the one before
	full("app0")
	asked := len(m.asked)
	full("another")
	if len(m.asked) != asked {
		t.Error("evidence was made for a ticket that there was no room for")
	}
	m.advance(60_000)
	x := m.ticket(t, request("another", "more"))
	if m.open != 1 {
		t.Errorf("%d tickets are open", m.open)
	}
	for i := range mostEnded {
		m.ticket(t, request("app", fmt.Sprintf("s%d", i%10)))
	}
	if len(m.entries) > mostEnded+11 || len(m.ended) > mostEnded {
		t.Errorf("%d tickets, %d ended, are remembered", len(m.entries), len(m.ended))
	}
	_, err := m.Receive(t.Context(), seal(t, x, "hunter2")) // which is open still
	must(t, err)
}

// TestTicketRequests: members that make no ticket are refused before evidence is made.
func TestTicketRequests(t *testing.T) {
	for name, change := range map[string]func(*api.TicketRequest){
		"no app":                    func(r *api.TicketRequest) { r.App = "" },
		"a long app":                func(r *api.TicketRequest) { r.App = strings.Repeat("a", sealing.MaxName+1) },
		"no name":                   func(r *api.TicketRequest) { r.Name = "" },
		"a name that is a path":     func(r *api.TicketRequest) { r.Name = "../a" },
		"no challenge":              func(r *api.TicketRequest) { r.Challenge = nil },
		"a long challenge":          func(r *api.TicketRequest) { r.Challenge = make([]byte, 33) },
		"no time":                   func(r *api.TicketRequest) { r.ValidFor = 0 },
		"more than a day":           func(r *api.TicketRequest) { r.ValidFor = delivery.MaxValidity + 1 },
		"neither a sender nor any":  func(r *api.TicketRequest) { r.AnySender = false },
		"a sender and any":          func(r *api.TicketRequest) { r.Sender = evidence.Bytes(agentKey.Public().(ed25519.PublicKey)) },
		"a short sender":            func(r *api.TicketRequest) { r.AnySender, r.Sender = false, make([]byte, 31) },
		"a sender of a small order": func(r *api.TicketRequest) { r.AnySender, r.Sender = false, make([]byte, 32) },
	} {
		m := newMachine()
		r := request("billing", "token")
		change(&r)
		if _, err := m.Ticket(t.Context(), r, evidence.Caller{}); !errors.Is(err, api.CodeInvalidValue) || len(m.asked) > 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
