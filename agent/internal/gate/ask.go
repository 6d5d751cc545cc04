// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/pcr"
)

// may reports whether a program may start. If it may, the log says all that it must say before, or
// gap says that it could not.
func (s *Server) may(ctx context.Context, x *session, a *gatewire.Ask) (start, gap bool) {
	s.mu.Lock()
	s.counts.Asked++
	s.mu.Unlock()
	enforce, asked := x.enforces(a.App)
	if !asked { // the declaration changed: its rules are on the way
		return true, false
	}
	listed := x.parts.Apps.Covers
	if enforce = enforce && !a.Loose; enforce {
		listed = x.parts.Apps.Pinned
	}
	if listed(a.App, a.Digest) {
		return true, false
	}
	settle, cancel := context.WithTimeout(ctx, settlePatience)
	defer cancel()
	x.parts.Apps.Settle(settle, a.App)
	if listed(a.App, a.Digest) {
		return true, false
	}
	if ctx.Err() != nil { // the connection ended
		return false, false
	}
	return s.unlisted(ctx, x, a, enforce)
}

// enforces reports whether an app is to be guarded, and whether what it does not list is refused.
func (x *session) enforces(app string) (enforce, asked bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, g := range x.rules {
		if g.App.App == app {
			return g.Enforce, true
		}
	}
	return false, false
}

// unlisted records a program that no manifest in force lists, once while that one is in force. If it
// does not, the gate keeps a gap: this process may end before it can record one. Nor does the gate
// remember the answer, by which the program would start while no agent is there, also when the app is
// guarded again and no record names the program.
func (s *Server) unlisted(ctx context.Context, x *session, a *gatewire.Ask, refused bool) (start, gap bool) {
	s.record.Lock()
	manifest := x.parts.Apps.Manifest(a.App)
	s.mu.Lock()
	p := s.seen[a.App]
	if p == nil {
		p = &programs{bucket: newBucket()}
		s.seen[a.App] = p
	}
	if p.manifest != manifest || p.recorded == nil {
		p.manifest, p.recorded = manifest, make(map[evidence.Digest]bool)
	}
	before, known := p.recorded[a.Digest]
	room := known && before == refused || p.bucket.take(time.Now())
	s.mu.Unlock()
	var err error
	switch {
	case known && before == refused:
	case !room:
	default:
		if err = s.append(ctx, x.parts.Recorder, pcr.Event{Type: pcr.EventExec, Exec: &pcr.ExecEvent{App: a.App, Path: a.Path, Digest: a.Digest, Refused: refused}}); err == nil {
			s.mu.Lock()
			p.recorded[a.Digest] = refused
			if refused {
				s.counts.Refused++
			} else {
				s.counts.Recorded++
			}
			s.mu.Unlock()
		}
	}
	s.record.Unlock()
	s.c.Log.Warn("a program is not in the manifest of its app", "app", a.App, "path", a.Path, "digest", a.Digest.String(), "pid", a.PID, "refused", refused)
	switch {
	case refused:
		return false, false
	case err != nil:
		_ = s.owe(ctx, x.parts.Recorder, a.App, "a program started, and could not be recorded") // owed until it can be
	case !room:
		_ = s.owe(ctx, x.parts.Recorder, a.App, "more programs started than are recorded in such a time")
	default:
		return true, false
	}
	return true, true
}
