// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// predecessor is a world in which an app was measured by an agent that handed over what it knew.
type predecessor struct {
	*world
	left   []byte
	events []pcr.Event
}

// heads are the log heads of a log that a test invents.
func heads(n uint64) (evidence.LogHead, bool) {
	if n == 0 {
		return evidence.LogHead{}, true
	}
	return evidence.LogHead{Count: n, Digest: evidence.Digest{byte(n)}}, n <= 100
}

func newPredecessor(t *testing.T) *predecessor {
	t.Helper()
	w := newWorld(t, func(c *Config) { c.NewWatcher = func() (Watcher, error) { return newFakeWatcher(), nil } })
	p := &predecessor{world: w}
	w.config.Head = func() evidence.LogHead { h, _ := heads(uint64(len(w.log.all()))); return h }
	w.config.Keep = func([]byte) error { return nil }
	w.restart()
	w.write("app/bin", "one", 0o755)
	w.declare("app", list("files", w.path("app/bin")))
	w.reload()
	w.run()
	w.settled("app")
	w.eventually("the app can be handed over", func() bool {
		b, _, err := w.leave(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p.left = b
		h, err := parseHandover(b)
		return err == nil && h.of("app") != nil
	})
	p.events = w.log.all()
	return p
}

// next starts another agent, on what is left of the log and of the hand-over.
func (p *predecessor) next(events []pcr.Event, documents ...[]byte) (pcr.Event, error) {
	p.t.Helper()
	w := *p.world
	w.log = &recorder{events: slices.Clone(events)}
	w.config.Recorder, w.config.Keep = w.log, nil
	w.restart()
	for i, e := range events {
		w.Restore(uint64(i), &e)
	}
	err := w.Inherit(documents, heads)
	c := w.reload()
	if got, want := slices.Equal(c.Inherited, []string{"app"}), w.inherited.of("app") != nil; got != want {
		p.t.Errorf("handed over, says the change: %q; there is one: %v", c.Inherited, want)
	}
	all := w.log.all()
	if len(all) != len(events)+1 {
		p.t.Fatalf("%d records after the start: %+v", len(all)-len(events), all)
	}
	return all[len(all)-1], err
}

// edit changes a hand-over.
func edit(t *testing.T, b []byte, change func(map[string]any, map[string]any)) []byte {
	t.Helper()
	var h map[string]any
	if err := json.Unmarshal(b, &h); err != nil {
		t.Fatal(err)
	}
	change(h, h["apps"].([]any)[0].(map[string]any))
	out, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHandoverIsHostile: whatever comes out of the store, coverage goes on only over what the log
// and the files themselves confirm. Nothing in it ends the agent or has it claim more.
func TestHandoverIsHostile(t *testing.T) {
	p := newPredecessor(t)
	type document = map[string]any
	set := func(key string, value any) func(document, document) {
		return func(_, app document) { app[key] = value }
	}
	marks := func(n int) string { return string(must(evidence.Bytes(make([]byte, n)).MarshalText())) }
	for name, c := range map[string]struct {
		document []byte
		refused  string // by Inherit; empty if it is taken
		reason   string // in the log; empty if coverage goes on
	}{
		"as it was":             {p.left, "", ""},
		"not JSON":              {[]byte("x"), "invalid character", "handed nothing over"},
		"empty":                 {nil, "ends early", "handed nothing over"},
		"cut":                   {p.left[:len(p.left)-1], "ends early", "handed nothing over"},
		"another type":          {edit(t, p.left, func(h, _ document) { h["type"] = "agentd/coverage/2" }), "want", "handed nothing over"},
		"unknown member":        {edit(t, p.left, func(h, _ document) { h["x"] = 1 }), "x", "handed nothing over"},
		"larger than it may be": {append(slices.Clone(p.left), make([]byte, MaxHandover)...), "bytes", "handed nothing over"},
		"of another log":        {edit(t, p.left, func(h, _ document) { h["head"].(document)["count"] = 3 }), "not of this log", "handed nothing over"},
		"of a longer log":       {edit(t, p.left, func(h, _ document) { h["head"].(document)["count"] = 101 }), "not of this log", "handed nothing over"},
		"an app twice":          {edit(t, p.left, func(h, app document) { h["apps"] = []any{app, app} }), "ascending", "handed nothing over"},
		"too many apps":         {edit(t, p.left, func(h, app document) { h["apps"] = slices.Repeat([]any{app}, declaration.MaxApps+1) }), "want 0 to 256", "handed nothing over"},
		"no apps":               {edit(t, p.left, func(h, _ document) { h["apps"] = []any{} }), "", "did not hand the app over"},
		"another app":           {edit(t, p.left, set("app", "other")), "", "did not hand the app over"},
		"no name":               {edit(t, p.left, set("app", "")), "app", "handed nothing over"},
		"half a mark":           {edit(t, p.left, set("files", marks(markSize-1))), "marks", "handed nothing over"},
		"too many marks":        {edit(t, p.left, set("files", marks(markSize*(maxMarks+1)))), "marks", "handed nothing over"},
		"another mark":          {edit(t, p.left, set("files", marks(markSize))), "", "was changed"},
		"no mark":               {edit(t, p.left, set("files", "")), "", "0 before, and 1 now"},
		"one mark more":         {edit(t, p.left, set("files", marks(2*markSize))), "", "2 before, and 1 now"},
		"listed directory":      {edit(t, p.left, set("listed", marks(markSize))), "", "1 before, and 0 now"},
		"no ways":               {edit(t, p.left, set("ways", []any{})), "", "is another one"},
		"a way twice":           {edit(t, p.left, func(_, app document) { app["ways"] = slices.Repeat(app["ways"].([]any), 2) }), "ascending", "handed nothing over"},
		"a way more": {edit(t, p.left, func(_, app document) {
			app["ways"] = append(app["ways"].([]any), document{"path": "/zz", "place": marks(markSize), "change": marks(markSize)})
		}), "", "led through"},
		"a way without place": {edit(t, p.left, func(_, app document) { app["ways"].([]any)[0].(document)["place"] = "" }), "marks", "handed nothing over"},
		"another record":      {edit(t, p.left, set("record", 7)), "", "recorded the app again"},
		"another digest":      {edit(t, p.left, set("digest", marks(32))), "", "recorded the app again"},
		"another declaration": {edit(t, p.left, set("declaration", marks(32))), "", "recorded the app again"},
	} {
		e, err := p.next(p.events, c.document)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s: taken with %v, want %q", name, err, c.refused)
		}
		if e.Same == nil || e.Same.Carried != (c.reason == "") || !strings.Contains(e.Same.Reason, c.reason) {
			t.Errorf("%s: the log says %+v, want %q", name, e.Same, c.reason)
		}
		// A good one beside it serves all the same.
		if e, _ := p.next(p.events, c.document, p.left); c.refused != "" && !e.Same.Carried {
			t.Errorf("%s, beside a good one: the log says %+v", name, e.Same)
		}
	}
}

// TestCarriedByTheLog: what the log says of the app since the hand-over decides whether its
// coverage can go on.
func TestCarriedByTheLog(t *testing.T) {
	p := newPredecessor(t)
	app := *p.events[0].App
	agent := func(typ pcr.EventType, declared ...pcr.Declaration) pcr.Event {
		return pcr.Event{Type: typ, Agent: &pcr.AgentEvent{Version: "1", AgentKey: make([]byte, 32), Declarations: declared}}
	}
	same := pcr.Declaration{App: "app", Digest: app.Declaration}
	other := pcr.Declaration{App: "app", Digest: evidence.Digest{1}}
	stop := pcr.Event{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: make([]byte, 32)}}
	gap := pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "x"}}
	unmeasured := pcr.Event{Type: pcr.EventUnmeasured, Unmeasured: &pcr.UnmeasuredEvent{App: "app", Reason: "it was away"}}
	again := pcr.Event{Type: pcr.EventSame, Same: &pcr.SameEvent{App: "app", Declaration: app.Declaration, Digest: app.Digest, Reason: "x"}}
	carriedAgain := again
	carriedAgain.Same = &pcr.SameEvent{App: "app", Declaration: app.Declaration, Digest: app.Digest, Carried: true, Reason: "x"}
	for name, c := range map[string]struct {
		after []pcr.Event // the hand-over
		want  string      // in the reason; empty for an app event
		yes   bool
	}{
		"killed":                         {nil, endedCrashed, true},
		"stopped":                        {[]pcr.Event{stop}, endedStopped, true},
		"a gap, then killed":             {[]pcr.Event{gap}, endedGap, true},
		"a gap, then stopped":            {[]pcr.Event{gap, stop}, endedGap, true},
		"reloaded as before":             {[]pcr.Event{agent(pcr.EventReload, same)}, endedCrashed, true},
		"a start that measured nothing":  {[]pcr.Event{stop, agent(pcr.EventAgent, same)}, endedStopped, true},
		"carried again":                  {[]pcr.Event{stop, agent(pcr.EventAgent, same), carriedAgain}, endedCrashed, true},
		"measured again":                 {[]pcr.Event{gap, again}, "recorded the app again", false},
		"not measured":                   {[]pcr.Event{unmeasured}, "it was away", false},
		"a gap, then not measured":       {[]pcr.Event{gap, unmeasured}, endedGap, false},
		"declared otherwise":             {[]pcr.Event{agent(pcr.EventReload, other)}, endedReload, false},
		"declared otherwise for a while": {[]pcr.Event{agent(pcr.EventReload, other), agent(pcr.EventReload, same)}, endedReload, false},
		"a gap, then declared otherwise": {[]pcr.Event{gap, agent(pcr.EventReload, other)}, endedGap, false},
		"withdrawn":                      {[]pcr.Event{agent(pcr.EventReload)}, "", false},
		"withdrawn for a while":          {[]pcr.Event{agent(pcr.EventReload), agent(pcr.EventReload, same)}, "", false},
		"withdrawn at a start":           {[]pcr.Event{stop, agent(pcr.EventAgent), stop}, "", false},
		"full":                           {[]pcr.Event{{Type: pcr.EventFull}}, endedFull, false},
		"gone and measured anew":         {[]pcr.Event{unmeasured, {Type: pcr.EventApp, App: &app}}, "recorded the app again", false},
	} {
		e, err := p.next(append(slices.Clone(p.events), c.after...), p.left)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		switch {
		case c.want == "" && e.App == nil:
			t.Errorf("%s: the log says %+v, want the app anew", name, e)
		case c.want != "" && (e.Same == nil || e.Same.Carried != c.yes || !strings.Contains(e.Same.Reason, c.want)):
			t.Errorf("%s: the log says %+v, want carried %t, %q", name, e.Same, c.yes, c.want)
		}
	}
}

// TestNotHandedOver: an app is handed over only while every later change of it would be seen.
func TestNotHandedOver(t *testing.T) {
	p := newPredecessor(t)
	x := p.Apps.apps["app"]
	handed := func() bool {
		b, _, err := p.leave(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		h, err := parseHandover(b)
		if err != nil {
			t.Fatal(err)
		}
		return h.of("app") != nil
	}
	if !handed() {
		t.Fatal("it is not handed over")
	}
	p.follow.shared.start(nil, errNoWatch)
	if handed() {
		t.Error("handed over although nothing watches")
	}
	p.follow.shared.start(newFakeWatcher(), nil)
	x.renewed = time.Now()
	if handed() {
		t.Error("handed over although its directories changed right before")
	}
	x.renewed = time.Time{}
	trace := x.trace
	x.trace = nil
	if handed() {
		t.Error("handed over without a trace")
	}
	x.trace = trace
	chmod(t, p.path("app/bin"), 0o775)
	if _, err := p.Measure(t.Context(), "app"); err != nil || handed() {
		t.Errorf("handed over although its group may write it, %v", err)
	}
	for began := (time.Time{}); time.Since(began) > time.Second; { // a slow machine looks when it has settled
		began = time.Now()
		chmod(t, p.path("app/bin"), 0o755)
		if _, err := p.Measure(t.Context(), "app"); err != nil || handed() && time.Since(began) <= time.Second {
			t.Errorf("handed over right after a change, %v", err)
		}
	}
	p.eventually("it is handed over again", handed)
	p.mu.Lock()
	p.interruptAll(endedGap, true)
	p.mu.Unlock()
	if handed() {
		t.Error("handed over although it is not covered")
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
