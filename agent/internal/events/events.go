// SPDX-License-Identifier: Apache-2.0

// Package events records what applications say of themselves, and lists it.
//
// # Quotas
//
// A log ends at 16 MiB, and what is in it stays until the next boot. So an application has a
// quota: of events, of bytes of their records, and of events a minute. An event that does not fit
// is refused, and changes nothing. Three bounds keep an application from what is not its own:
//
//   - Events of all applications together have a quarter of the log. They have more only if
//     declarations change within the boot: each new application has its part, whatever is used.
//   - One half of that is divided among the declared applications: what is in an application's
//     part, no other one can take. The other half is for those that record more.
//   - The ledger refuses events while a quarter of the log or less is left, whatever filled it.
//     An event never closes the log.
//
// # Order
//
// Applications take turns, one event at a time (package turn), so a flood of one delays an event of
// another by the record under way. Events of one application are in the order in which they were
// asked for.
//
// # State
//
// What was used is read from the log, in which it stands. So an agent that starts again counts on,
// and a record that failed and is in the log nevertheless counts too. Nothing else is kept, apart
// from the rate.
package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// A Service records events. Its methods may be called by many goroutines. All fields of Config are
// required.
type Service struct {
	Config
	turn *turn.Queue // of one; used by Emit

	mu     sync.Mutex         // guards all below and what it contains
	ledger *ledger.Ledger     // whose log was read
	seen   uint64             // records of the log that were read
	apps   map[string]*usage  // by name
	rates  map[string]*limits // likewise
}

// Config says what a Service works with.
type Config struct {
	Apps   *startup.Part[*apps.Apps]
	Ledger *startup.Part[*ledger.Ledger]
	Limits config.Events
	Log    *slog.Logger
}

// usage is what the log has of one application.
type usage struct {
	records []uint64 // numbers
	bytes   uint64   // of these records
}

// limits is what one application asked for since the agent started.
type limits struct {
	rate    *rate.Limiter
	refused uint64
	ended   bool // its last event was refused because a quota was used up
}

// New returns a service that has recorded nothing.
func New(c Config) *Service {
	return &Service{Config: c, turn: turn.New(turn.Options{}), rates: make(map[string]*limits)}
}

// room is the part of the log that events may have together, as its divisor.
const room = 4

// Emit records an event of the application o, whose process is in unit, or in the container of o. It
// returns when log and PCR have it.
func (s *Service) Emit(ctx context.Context, o server.Owner, unit string, r api.EventRequest) (api.RecordedEvent, error) {
	a, err := s.Apps.Wait(ctx)
	if err != nil {
		return api.RecordedEvent{}, err
	}
	l, err := s.Ledger.Wait(ctx)
	if err != nil {
		return api.RecordedEvent{}, err
	}
	switch st := l.State(); { // without spending anything of the application
	case !st.Synchronised:
		return api.RecordedEvent{}, fmt.Errorf("%w: %s", ledger.ErrDesynchronised, st.Reason)
	case st.Full:
		return api.RecordedEvent{}, ledger.ErrFull
	}
	if err := s.paced(o.App); err != nil {
		return api.RecordedEvent{}, err
	}
	ctx = turn.With(ctx, turn.Who{Class: turn.Keys, Party: o.App})
	leave, err := s.turn.Enter(ctx, 1)
	if err != nil {
		return api.RecordedEvent{}, err
	}
	defer leave()
	e := &pcr.EmittedEvent{App: o.App, Unit: unit, UID: o.UID, Domain: r.Domain, Content: r.Content, Digest: r.Digest}
	if in := o.Container; in != nil { // also if that runs in a unit
		e.Unit, e.Container = "", &pcr.EmittedContainer{Engine: in.Engine, ID: in.ID}
	}
	if err := s.fits(l, a.Declared(), e); err != nil {
		return api.RecordedEvent{}, err
	}
	record, err := a.Emit(ctx, e)
	if err != nil {
		return api.RecordedEvent{}, s.failed(o.App, err)
	}
	told, err := record.Event() // with its time
	if err != nil {
		return api.RecordedEvent{}, err
	}
	return api.RecordedEvent{App: o.App, Record: record.Number, Time: told.Time, Value: e.Value()}, nil
}

// limitsOf returns the limits of an application. The caller holds mu.
func (s *Service) limitsOf(app string) *limits {
	x := s.rates[app]
	if x == nil {
		n := s.Limits.PerMinute
		x = &limits{rate: rate.NewLimiter(rate.Limit(float64(n)/60), n)}
		s.rates[app] = x
	}
	return x
}

// paced takes one event from the rate of an application.
func (s *Service) paced(app string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.limitsOf(app)
	taken := x.rate.Reserve()
	if wait := taken.Delay(); wait > 0 {
		taken.Cancel()
		x.refused++
		return problem.After(problem.New(api.CodeEventRate, fmt.Sprintf("app %s may record %d events at once, and then as many a minute", app, s.Limits.PerMinute)), wait)
	}
	return nil
}

// fits refuses an event that is beyond a quota. Only the holder of the turn asks, so nothing is
// recorded between the answer and the record.
func (s *Service) fits(l *ledger.Ledger, declared map[string]bool, e *pcr.EmittedEvent) error {
	size, err := most(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.follow(l); err != nil {
		return err
	}
	x := s.limitsOf(e.App)
	why := s.beyond(uint64(l.State().Limit)/room, declared, e.App, size)
	if why == "" {
		x.ended = false
		return nil
	}
	return s.refuse(e.App, x, why)
}

// refuse counts a refusal, and tells the administrator of the first. The caller holds mu.
func (s *Service) refuse(app string, x *limits, why string) error {
	if !x.ended {
		s.Log.Warn("an app may record no more events in this boot", "app", app, "reason", why)
	}
	x.ended = true
	x.refused++
	return problem.New(api.CodeEventQuota, fmt.Sprintf("app %s: %s", app, why))
}

// beyond says which quota an application with one more record of this size would exceed, empty if
// none. All is the room of all applications. The caller holds mu.
func (s *Service) beyond(all uint64, declared map[string]bool, app string, size uint64) string {
	most := uint64(s.Limits.BytesPerApp)
	part := min(most, all/2/uint64(max(1, len(declared))))
	var own usage
	if x := s.apps[app]; x != nil {
		own = *x
	}
	switch {
	case len(own.records) >= s.Limits.PerApp:
		return fmt.Sprintf("it recorded %s in this boot, which is all that it may (events.per_app)", text.Count(len(own.records), "event"))
	case own.bytes+size > most:
		return fmt.Sprintf("its events have %d of %d bytes of the log (events.bytes_per_app)", own.bytes, most)
	case own.bytes+size <= part:
		return "" // whatever others recorded
	}
	shared := own.bytes + size - part
	for name, x := range s.apps {
		switch {
		case name == app:
		case !declared[name]: // it has no part any more
			shared += x.bytes
		case x.bytes > part:
			shared += x.bytes - part
		}
	}
	if shared > all/2 {
		return fmt.Sprintf("its events have %d bytes of the log, more than its own part of %d, and what apps share is used up", own.bytes, part)
	}
	return ""
}

// failed counts a refusal of the ledger as one for a quota.
func (s *Service) failed(app string, err error) error {
	if !errors.Is(err, ledger.ErrReserved) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse(app, s.limitsOf(app), ledger.ErrReserved.Error())
}

// most returns how many bytes the record of an event has at most, whatever number, time and banks.
func most(e *pcr.EmittedEvent) (uint64, error) {
	banks := []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}
	r, err := pcr.NewRecord(0, 0, banks, &pcr.Event{Type: pcr.EventEmitted, Time: pcr.MaxTime, Emitted: e})
	if err != nil {
		return 0, err
	}
	return uint64(len(r.Encode())), nil
}

// prefix begins the content of a record of an event: contents have one spelling.
var prefix = []byte(`{"type":"` + string(pcr.EventEmitted) + `",`)

// follow reads the records of the log that were added since the last call. The caller holds mu.
func (s *Service) follow(l *ledger.Ledger) error {
	if s.ledger != l {
		s.ledger, s.seen, s.apps = l, 0, make(map[string]*usage)
	}
	log, err := l.View().Log(s.seen)
	if err != nil {
		return err
	}
	records, err := pcr.DecodeLog(log.Records, s.seen)
	if err != nil {
		return fmt.Errorf("read the measurement log: %w", err)
	}
	for _, r := range records {
		s.seen = r.Number + 1
		if !emitted(r) {
			continue
		}
		e, err := r.Event()
		if err != nil {
			return fmt.Errorf("read the measurement log: record %d: %w", r.Number, err)
		}
		x := s.apps[e.Emitted.App]
		if x == nil {
			x = new(usage)
			s.apps[e.Emitted.App] = x
		}
		x.records, x.bytes = append(x.records, r.Number), x.bytes+uint64(len(r.Encode()))
	}
	return nil
}

// emitted reports whether a record is of an event of an application, without decoding it.
func emitted(r pcr.Record) bool {
	const header = 5 // type and length
	return len(r.Content) > header && bytes.HasPrefix(r.Content[header:], prefix)
}
