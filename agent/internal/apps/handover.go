// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
)

// Limits of a hand-over.
const (
	MaxHandover  = 16 << 20 // bytes of the document
	maxWays      = 4096     // directories on the ways to the files of one app
	maxMarks     = 2 * manifest.MaxFiles
	markSize     = len(manifest.Mark{})
	handoverType = "agentd/coverage/1"
)

// handover is what an agent leaves for the next one, in memory: how the files of the apps
// looked when it measured them. The log decides which of it counts: see [Apps.Inherit].
type handover struct {
	Type string           `json:"type"` // handoverType
	Head evidence.LogHead `json:"head"` // of the log, when this was written
	Apps handedApps       `json:"apps"` // ascending by name
}

// handed is an app whose files tell every later change.
type handed struct {
	App         string          `json:"app"`
	Declaration evidence.Digest `json:"declaration"`
	Digest      evidence.Digest `json:"digest"` // of the manifest
	Record      uint64          `json:"record"` // number of the last record about the app
	Files       evidence.Bytes  `json:"files"`  // marks, in the order of their paths
	Listed      evidence.Bytes  `json:"listed"` // likewise, of directories that are listed
	Ways        handedWays      `json:"ways"`   // ascending by path
}

// handedWay is a directory on the way to a file.
type handedWay struct {
	Path   string         `json:"path"`
	Place  evidence.Bytes `json:"place"`  // mark of device and inode
	Change evidence.Bytes `json:"change"` // mark with its change time
}

// Lists of a hand-over. Each stops reading at its cap.
type (
	handedApps []handed
	handedWays []handedWay
)

// UnmarshalJSONFrom reads at most as many apps as may be declared.
func (l *handedApps) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, declaration.MaxApps, handed{})
}

// UnmarshalJSONFrom reads at most maxWays directories.
func (l *handedWays) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, maxWays, handedWay{})
}

// parseHandover decodes and checks a hand-over.
func parseHandover(b []byte) (*handover, error) {
	var h handover
	if err := strictjson.Decode(b, MaxHandover, &h); err != nil {
		return nil, err
	}
	if h.Type != handoverType {
		return nil, fmt.Errorf("type %s, want %q", text.Excerpt(h.Type), handoverType)
	}
	for i, x := range h.Apps {
		if err := x.check(); err != nil {
			return nil, fmt.Errorf("apps[%d]: %w", i, err)
		}
		if i > 0 && x.App <= h.Apps[i-1].App {
			return nil, fmt.Errorf("apps[%d]: not in ascending order", i)
		}
	}
	return &h, nil
}

func (x *handed) check() error {
	if err := text.Check("app", x.App, 1, evidence.MaxName); err != nil {
		return err
	}
	for _, marks := range [][]byte{x.Files, x.Listed} {
		if len(marks)%markSize != 0 || len(marks) > maxMarks*markSize {
			return fmt.Errorf("marks of %d bytes", len(marks))
		}
	}
	for i, w := range x.Ways {
		if err := text.Check("path", w.Path, 1, evidence.MaxPath); err != nil {
			return fmt.Errorf("ways[%d]: %w", i, err)
		}
		if len(w.Place) != markSize || len(w.Change) != markSize {
			return fmt.Errorf("ways[%d]: marks of %d and %d bytes", i, len(w.Place), len(w.Change))
		}
		if i > 0 && w.Path <= x.Ways[i-1].Path {
			return fmt.Errorf("ways[%d]: not in ascending order", i)
		}
	}
	return nil
}

// ends returns why no next agent could carry the coverage of x on, and nil if one could. The
// caller holds mu.
func (a *Apps) ends(x *app) error {
	switch {
	case a.config.Keep == nil:
		return errors.New("no service manager keeps anything for the next agent")
	case !x.measured || x.trace == nil:
		return errors.New("it is not measured")
	case len(x.trace.Ways) > maxWays:
		return fmt.Errorf("the ways to its files lead through more than %d directories", maxWays)
	}
	if err := a.follow.stateFor(x.name); err != nil {
		return err // what changes unseen would be handed over as unchanged
	}
	if time.Since(x.renewed) < renewedPatience {
		return errRenewed
	}
	_, err := x.trace.Settled()
	return err
}

// endsNow does what ends does, and also tells if the hand-over of now is not kept yet. The caller
// holds mu.
func (a *Apps) endsNow(x *app) error {
	if err := a.ends(x); err != nil {
		return err
	}
	if record, kept := a.handed[x.name]; !kept || record < x.cover.base {
		return errors.New("it is not handed over to the service manager yet")
	}
	return nil
}

// hand returns what the next agent needs to carry the coverage of x on. The caller holds mu.
func (x *app) hand() handed {
	out := handed{App: x.name, Declaration: x.cover.last.declaration, Digest: x.cover.last.digest, Record: x.cover.record}
	out.Files, out.Listed = joinMarks(x.trace.Files), joinMarks(x.trace.Listed)
	for _, p := range slices.Sorted(maps.Keys(x.trace.Ways)) {
		w := x.trace.Ways[p]
		out.Ways = append(out.Ways, handedWay{Path: p, Place: w.Place[:], Change: w.Change[:]})
	}
	return out
}

func joinMarks(marks map[string]manifest.Mark) (out []byte) {
	for _, p := range slices.Sorted(maps.Keys(marks)) {
		m := marks[p]
		out = append(out, m[:]...)
	}
	return out
}

// trace returns the trace that x was made of. It has the paths of now, which is a reading of
// the same app: other paths are an error.
func (x *handed) trace(now *manifest.Trace) (*manifest.Trace, error) {
	out := &manifest.Trace{Ways: make(map[string]manifest.Way)}
	var err error
	if out.Files, err = splitMarks(x.Files, now.Files); err != nil {
		return nil, err
	}
	if out.Listed, err = splitMarks(x.Listed, now.Listed); err != nil {
		return nil, err
	}
	for _, w := range x.Ways {
		out.Ways[w.Path] = manifest.Way{Place: manifest.Mark(w.Place), Change: manifest.Mark(w.Change)}
	}
	return out, nil
}

func splitMarks(b []byte, of map[string]manifest.Mark) (map[string]manifest.Mark, error) {
	if len(b) != len(of)*markSize {
		return nil, fmt.Errorf("files and links, or directories: %d before, and %d now", len(b)/markSize, len(of))
	}
	out := make(map[string]manifest.Mark)
	for _, p := range slices.Sorted(maps.Keys(of)) {
		out[p], b = manifest.Mark(b[:markSize]), b[markSize:]
	}
	return out, nil
}

// leave writes the hand-over of this moment, and returns the records that it names for each app.
// An app that makes it too large is left out.
func (a *Apps) leave(ctx context.Context) (document []byte, records map[string]uint64, err error) {
	if err := a.record.Acquire(ctx, 1); err != nil { // so that log and state belong together
		return nil, nil, err
	}
	defer a.record.Release(1)
	h := handover{Type: handoverType, Head: a.config.Head(), Apps: handedApps{}}
	records = make(map[string]uint64)
	a.mu.Lock()
	defer a.mu.Unlock()
	size := 0
	for _, name := range slices.Sorted(maps.Keys(a.apps)) {
		if a.ends(a.apps[name]) != nil {
			continue
		}
		x := a.apps[name].hand()
		b, err := strictjson.Encode(x)
		if err != nil {
			return nil, nil, err
		}
		if size += len(b); size > MaxHandover-4096 {
			a.log.Warn("the hand-over to the next agent is full", "app", name)
			break
		}
		h.Apps = append(h.Apps, x)
		records[name] = x.Record
	}
	document, err = strictjson.Encode(h)
	return document, records, err
}

// keepPause is how long changes are collected for one hand-over.
const keepPause = 100 * time.Millisecond

// keepHandover gives the service manager a hand-over after each change, until ctx ends.
func (a *Apps) keepHandover(ctx context.Context) {
	if a.config.Keep == nil {
		return
	}
	var last []byte
	for failed := false; ; {
		select {
		case <-a.changed:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(keepPause):
		case <-ctx.Done():
			return
		}
		b, records, err := a.leave(ctx)
		if err == nil && !bytes.Equal(b, last) {
			if err = a.config.Keep(b); err == nil {
				last, failed = b, false
				a.mu.Lock()
				a.handed = records
				a.mu.Unlock()
			}
		}
		if err != nil && ctx.Err() == nil && !failed {
			failed = true
			a.log.Warn("nothing is handed over to the next agent, which will begin the coverage of all apps anew", "error", err)
		}
	}
}

// change notes that the hand-over is not what it should be.
func (a *Apps) change() {
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// Inherit takes what the agent before left: of several hand-overs the latest that is of this
// log. At returns the head of the log after that many records, and false if there are fewer. It
// must be called before the first Reload, after the last Restore. The error says why there is
// none.
func (a *Apps) Inherit(documents [][]byte, at func(uint64) (evidence.LogHead, bool)) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs error
	for _, b := range documents {
		h, err := parseHandover(b)
		if err == nil {
			if head, known := at(h.Head.Count); !known || head != h.Head {
				err = errors.New("it is not of this log")
			}
		}
		if err != nil {
			errs = errors.Join(errs, fmt.Errorf("hand-over of the agent before: %w", err))
			continue
		}
		if a.inherited == nil || h.Head.Count > a.inherited.Head.Count {
			a.inherited = h
		}
	}
	return errs
}

// of returns what was handed over of an app, nil if nothing was.
func (h *handover) of(app string) *handed {
	if h == nil {
		return nil
	}
	i := slices.IndexFunc(h.Apps, func(x handed) bool { return x.App == app })
	if i < 0 {
		return nil
	}
	return &h.Apps[i]
}

// carriedOn is what a coverage that is carried rests on, as the log says it.
const carriedOn = "files, links and the directories to them have the inode and change time of before, the content is the same, and only root and the agent can write to the files"

// carry returns whether the coverage of x goes on with what was found, and what that rests on,
// or why it does not. The caller holds mu.
func (a *Apps) carry(x *app, f finding) (bool, string) {
	if !x.cover.carriable {
		return false, x.cover.ended
	}
	before, err := x.trace, error(nil)
	if before == nil {
		before, err = a.handedTrace(x, f)
	}
	if err == nil {
		err = x.unchanged(before, f)
	}
	if err != nil {
		return false, text.Fit(x.cover.ended+", and "+err.Error(), pcr.MaxReason)
	}
	return true, x.cover.ended + "; " + carriedOn
}

// unchanged returns nil if the files of x cannot have been others between the reading of the
// trace before and that of f, whether or not something watched.
func (x *app) unchanged(before *manifest.Trace, f finding) error {
	if before == nil {
		return errors.New("how its files looked before is not known")
	}
	if before == x.trace {
		if _, err := before.Settled(); err != nil {
			return err
		}
		if time.Since(x.renewed) < renewedPatience {
			return errRenewed
		}
	}
	return f.Trace.Since(before)
}

// errRenewed means that the trace is that of directories which changed, on the word of the
// watching, whose events may have been lost.
var errRenewed = errors.New("directories changed right before")

// handedTrace returns how the files of x looked to the agent before, if the log does not say
// more of x than that agent knew.
func (a *Apps) handedTrace(x *app, f finding) (*manifest.Trace, error) {
	h := a.inherited.of(x.name)
	switch {
	case a.inherited == nil:
		return nil, errors.New("it handed nothing over")
	case h == nil:
		return nil, errors.New("it did not hand the app over: another user than root may write its files, they were changed a moment before, or their file system does not tell enough")
	case h.Record < x.cover.base || h.Record > x.cover.record || h.Declaration != x.cover.last.declaration || h.Digest != x.cover.last.digest:
		return nil, errors.New("it recorded the app again after it had handed it over")
	}
	return h.trace(f.Trace)
}
