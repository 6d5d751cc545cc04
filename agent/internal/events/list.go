// SPDX-License-Identifier: Apache-2.0

package events

import (
	"context"
	"slices"
	"sort"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// mostLooked is how many records one answer is made from at most. The caller asks on.
const mostLooked = 1000

// Events returns events of the application o since boot, from record start on, in a domain or, if
// that is empty, in all.
func (s *Service) Events(ctx context.Context, o server.Owner, start uint64, domain string) (api.Events, error) {
	l, err := s.Ledger.Wait(ctx)
	if err != nil {
		return api.Events{}, err
	}
	numbers, quota, err := s.ofApp(l, o.App, start)
	if err != nil {
		return api.Events{}, err
	}
	out := api.Events{App: o.App, Events: []api.Event{}, Quota: quota}
	v := l.View()
	for i, n := range numbers {
		if i == mostLooked || len(out.Events) == api.MaxListedEvents {
			out.Next = &n
			return out, nil
		}
		r, err := v.Record(n)
		if err != nil {
			return api.Events{}, err
		}
		told, err := r.Event()
		if err != nil {
			return api.Events{}, err
		}
		if e := told.Emitted; domain == "" || e.Domain == domain {
			out.Events = append(out.Events, api.Event{Record: n, Time: told.Time, Unit: e.Unit, Container: (*api.EventContainer)(e.Container), Domain: e.Domain, Content: e.Content, Digest: e.Digest})
		}
	}
	return out, nil
}

// ofApp returns the numbers of the records of an application from start on, and its quota.
func (s *Service) ofApp(l *ledger.Ledger, app string, start uint64) ([]uint64, api.EventQuota, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.follow(l); err != nil {
		return nil, api.EventQuota{}, err
	}
	q := api.EventQuota{EventsLimit: uint64(s.Limits.PerApp), BytesLimit: min(uint64(s.Limits.BytesPerApp), uint64(l.State().Limit)/room)}
	if x := s.rates[app]; x != nil {
		q.Refused = x.refused
	}
	x := s.apps[app]
	if x == nil {
		return nil, q, nil
	}
	q.Events, q.Bytes = uint64(len(x.records)), x.bytes
	from := sort.Search(len(x.records), func(i int) bool { return x.records[i] >= start })
	return slices.Clone(x.records[from:]), q, nil
}

// Status returns how much of the log events have. It does not wait for a device.
func (s *Service) Status() api.EventStatus {
	var out api.EventStatus
	l, up := s.Ledger.Now()
	if !up {
		return out
	}
	out.Limit = uint64(l.State().Limit) / room
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.follow(l) // the agent wrote the log, and could read it when it started
	for _, x := range s.apps {
		out.Recorded += uint64(len(x.records))
		out.Bytes += x.bytes
	}
	for _, x := range s.rates {
		out.Refused += x.refused
		if x.ended {
			out.Exhausted++
		}
	}
	return out
}

// mostApps is how many applications have figures of their own.
const mostApps = 1000

// Metrics adds figures of each application, for administrators.
func (s *Service) Metrics(to *metrics.Set) {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := make(map[string]bool)
	for name := range s.apps {
		names[name] = true
	}
	for name := range s.rates {
		names[name] = true
	}
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	for _, name := range sorted[:min(len(sorted), mostApps)] {
		app := metrics.Label{Name: "app", Value: name}
		if x := s.apps[name]; x != nil {
			to.Gauge("agentd_app_events", "Events of an app in the log, since boot.", float64(len(x.records)), app)
			to.Gauge("agentd_app_event_bytes", "Bytes of the log that the events of an app have.", float64(x.bytes), app)
		}
		if x := s.rates[name]; x != nil {
			to.Counter("agentd_app_events_refused", "Events of an app that were refused, because a quota was used up or it asked too often.", float64(x.refused), app)
			to.Flag("agentd_app_events_exhausted", "Whether the last event of an app was refused because a quota was used up.", x.ended, app)
		}
	}
}

// Turns returns what the queue of events counts.
func (s *Service) Turns() turn.Stats { return s.turn.Stats() }
