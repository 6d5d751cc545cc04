// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"golang.org/x/sync/semaphore"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
)

// app is one declared app and what is known of it. Apps.mu guards its fields. The lock busy
// is held through a whole measurement, so that an older reading is never recorded after a
// newer one.
type app struct {
	name     string
	busy     *semaphore.Weighted // of one
	throttle *throttle

	declaration *declaration.Declaration // nil if it was refused
	refused     error                    // why, if it was
	removed     bool                     // by a reload, while a measurement still uses this

	last        *outcome // what the log says of this app; nil if nothing
	measured    bool     // the content found last is what the log says
	whyNot      string   // why not, if not
	digest      evidence.Digest
	executables map[evidence.Digest]bool
	files       int
	bytes       uint64
}

// outcome is what one record says of an app: a manifest, or why there is none.
type outcome struct {
	declaration evidence.Digest // zero with a reason
	digest      evidence.Digest // zero with a reason
	reason      string
	number      uint64 // of the record
}

// same reports whether recording o would add nothing to p.
func (o outcome) same(p *outcome) bool {
	return p != nil && o.declaration == p.declaration && o.digest == p.digest && o.reason == p.reason
}

func (x *app) status() Status {
	s := Status{Name: x.name, Measured: x.measured, WhyNot: x.whyNot}
	if d := x.declaration; d != nil {
		s.Unit, s.User, s.UID, s.File, s.Declaration = d.Unit, d.User, d.UID, d.File, d.Digest
	}
	if x.last != nil {
		s.Record, s.HasRecord = x.last.number, true
	}
	if x.measured {
		s.Digest, s.Files, s.Bytes = x.digest, x.files, x.bytes
	}
	return s
}

// unmeasured forgets what was covered: from here on nothing is claimed of the app.
func (x *app) unmeasured(why string) {
	x.measured, x.whyNot = false, why
	x.digest, x.executables, x.files, x.bytes = evidence.Digest{}, nil, 0, 0
}
