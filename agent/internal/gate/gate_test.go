// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/gatewire"
	"github.com/cvm-agentd/agentd/pcr"
)

const long = 60 * time.Second // for what happens at once on a machine that is not busy

// bed is a server with a log and applications of the test.
type bed struct {
	t      *testing.T
	s      *Server
	socket string
	change chan struct{}

	mu        sync.Mutex
	events    []pcr.Event
	fail      error // of the log
	unit      string
	program   *evidence.Executable // of the gate
	uid       uint32
	listed    map[evidence.Digest]bool
	guarded   []apps.Guarded
	measuring map[string]bool // apps that ask for the gate and are not measured yet
	news      chan struct{}
	hold      chan struct{}            // that a record waits for, once it is in the log; may be nil
	pinned    map[evidence.Digest]bool // what was listed when it was asked for; nil: what is listed
	settle    func(context.Context)    // what following up an app does; may be nil
	manifest  evidence.Digest          // in force
}

func newBed(t *testing.T, guarded ...apps.Guarded) *bed {
	t.Helper()
	b := &bed{t: t, change: make(chan struct{}, 1), unit: gatewire.Unit, listed: make(map[evidence.Digest]bool), guarded: guarded, news: make(chan struct{}, 1), program: &evidence.Executable{Digest: &evidence.Digest{9}}}
	b.serve()
	return b
}

// serve begins with the log as it is, as another agent does.
func (b *bed) serve() {
	b.s = New(Config{Identifier: b, Patience: long, Parts: func(context.Context) (Parts, error) { return Parts{b, b}, nil }})
	for i := range b.events {
		b.s.Restore(&b.events[i])
	}
	b.s.Restored()
	b.socket = filepath.Join(b.t.TempDir(), "gate.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket, Net: "unix"})
	if err != nil {
		b.t.Fatal(err)
	}
	s := b.s
	go s.Serve(l)
	b.t.Cleanup(func() { s.Shutdown(); l.Close() })
}

func (b *bed) Append(_ context.Context, e pcr.Event) (pcr.Record, error) {
	if b.hold != nil {
		defer func() { <-b.hold }()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fail != nil {
		return pcr.Record{}, b.fail
	}
	b.events = append(b.events, e)
	select {
	case b.news <- struct{}{}:
	default:
	}
	return pcr.Record{}, nil
}

func (b *bed) Covers(_ string, d evidence.Digest) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listed[d]
}
func (b *bed) Pinned(app string, d evidence.Digest) bool {
	b.mu.Lock()
	pinned := b.pinned
	b.mu.Unlock()
	if pinned == nil {
		return b.Covers(app, d)
	}
	return pinned[d]
}
func (b *bed) Settle(ctx context.Context, _ string) {
	b.mu.Lock()
	settle := b.settle
	b.mu.Unlock()
	if settle != nil {
		settle(ctx)
	}
}
func (b *bed) Manifest(string) evidence.Digest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.manifest
}
func (b *bed) Declaration(app string) (d evidence.Digest) {
	for _, g := range b.Guarded() {
		if g.App.App == app {
			d = g.Declaration
		}
	}
	return d
}
func (b *bed) AskGate() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := maps.Clone(b.measuring)
	for _, g := range b.guarded {
		if out == nil {
			out = make(map[string]bool)
		}
		out[g.App.App] = true
	}
	return out
}
func (b *bed) GateChanged() <-chan struct{} { return b.change }
func (b *bed) Guarded() []apps.Guarded {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.guarded)
}

func (b *bed) UID(*net.UnixConn) (uint32, error) { return b.uid, nil }
func (b *bed) Identify(*net.UnixConn) (*caller.Peer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &caller.Peer{UID: b.uid, Unit: b.unit, Process: process{b.program}}, nil
}

type process struct{ program *evidence.Executable }

func (process) Running() error                                    { return nil }
func (process) Close() error                                      { return nil }
func (p process) Executable(context.Context) *evidence.Executable { return p.program }

// log returns the events of the gate.
func (b *bed) log() []pcr.Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.events)
}

// set changes what the bed says.
func (b *bed) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

// wait waits until the log has n events.
func (b *bed) wait(n int) []pcr.Event {
	b.t.Helper()
	end := time.After(long)
	for {
		if l := b.log(); len(l) >= n {
			return l
		}
		select {
		case <-b.news:
		case <-time.After(10 * time.Millisecond):
		case <-end:
			b.t.Fatalf("%d events, want %d: %+v", len(b.log()), n, b.log())
		}
	}
}

// peer is a gate of the test.
type peer struct {
	t    *testing.T
	conn net.Conn
}

// dial connects, and guards everything.
func (b *bed) dial(hello gatewire.Hello) *peer {
	b.t.Helper()
	conn, err := net.Dial("unix", b.socket)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	p := &peer{b.t, conn}
	hello.Version = gatewire.Version
	p.send(&gatewire.ToAgent{Hello: &hello})
	return p
}

func (p *peer) send(m *gatewire.ToAgent) {
	p.t.Helper()
	if err := gatewire.Write(p.conn, m); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) read() gatewire.ToGate {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(long))
	var m gatewire.ToGate
	if err := gatewire.Read(p.conn, &m); err != nil {
		p.t.Fatal(err)
	}
	return m
}

// guard takes the rules, and waits until they are recorded.
func (p *peer) guard() gatewire.Rules {
	p.t.Helper()
	m := p.read()
	if m.Rules == nil {
		p.t.Fatalf("%+v, want rules", m)
	}
	ready := &gatewire.Ready{Generation: m.Rules.Generation}
	for _, a := range m.Rules.Apps {
		ready.Apps = append(ready.Apps, a.App)
	}
	p.send(&gatewire.ToAgent{Ready: ready})
	if r := p.read(); r.Recorded == nil {
		p.t.Fatalf("%+v, want what is recorded", r)
	}
	return *m.Rules
}

// newGate returns a bed, and a gate that guards what the bed says.
func newGate(t *testing.T, guarded ...apps.Guarded) (*bed, *peer) {
	t.Helper()
	b := newBed(t, guarded...)
	p := b.dial(gatewire.Hello{})
	p.guard()
	return b, p
}

// confirm has evidence asked for, and returns what the gate is asked for then, and how that ends.
func (p *peer) confirm(ctx context.Context, s *Server) (*gatewire.Ping, <-chan error) {
	p.t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Confirm(ctx) }()
	m := p.read()
	if m.Ping == nil {
		p.t.Fatalf("%+v, want a ping", m)
	}
	return m.Ping, done
}

func (p *peer) ask(id uint64, app string, d evidence.Digest, loose bool) bool {
	p.t.Helper()
	p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: id, App: app, Path: "/opt/app", Digest: d, Loose: loose}})
	m := p.read()
	if m.Answer == nil || m.Answer.ID != id {
		p.t.Fatalf("%+v, want the answer", m)
	}
	return m.Answer.Start
}

func guardOf(app string, enforce bool) apps.Guarded {
	return apps.Guarded{App: gatewire.App{App: app, Enforce: enforce}, Declaration: evidence.Digest{5}}
}

func declared() pcr.Event {
	return pcr.Event{Type: pcr.EventAgent, Agent: &pcr.AgentEvent{Declarations: pcr.Declarations{{App: "free", Digest: evidence.Digest{5}}, {App: "strict", Digest: evidence.Digest{5}}}}}
}

// TestProgramIsRecordedFirst: a program that the manifest does not list is in the log before the
// answer, once. One that is enforced is refused.
func TestProgramIsRecordedFirst(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	b.set(func() { b.listed[evidence.Digest{1}] = true })
	for id, c := range []struct {
		app    string
		digest evidence.Digest
		loose  bool
		start  bool
		events int // in the log afterwards
	}{
		{"free", evidence.Digest{1}, false, true, 1},
		{"free", evidence.Digest{2}, false, true, 2},
		{"free", evidence.Digest{2}, false, true, 2},
		{"strict", evidence.Digest{2}, false, false, 3},
		{"strict", evidence.Digest{2}, false, false, 3},
		{"strict", evidence.Digest{3}, true, true, 4},
		{"strict", evidence.Digest{1}, false, true, 4},
	} {
		if start := p.ask(uint64(id), c.app, c.digest, c.loose); start != c.start || len(b.log()) != c.events {
			t.Errorf("%+v: %t, %d events", c, start, len(b.log()))
		}
	}
	want := []pcr.ExecEvent{
		{App: "free", Path: "/opt/app", Digest: evidence.Digest{2}},
		{App: "strict", Path: "/opt/app", Digest: evidence.Digest{2}, Refused: true},
		{App: "strict", Path: "/opt/app", Digest: evidence.Digest{3}},
	}
	for i, e := range b.log()[1:] {
		if *e.Exec != want[i] {
			t.Errorf("%+v, want %+v", *e.Exec, want[i])
		}
	}
}

// TestGateEnds: the end of the connection is in the log before evidence is made, and evidence waits
// for a log that fails. Case 126.
func TestGateEnds(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	fails := errors.New("the disk is full")
	b.set(func() { b.fail = fails })
	p.conn.Close()
	if err := b.s.Confirm(t.Context()); !errors.Is(err, fails) {
		t.Errorf("evidence is made: %v", err)
	}
	b.set(func() { b.fail = nil })
	if err := b.s.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil || l[1].GateGap.App != "" {
		t.Errorf("log %+v", l)
	}
	if err := b.s.Confirm(t.Context()); err != nil || len(b.log()) != 2 {
		t.Errorf("%v, %d events: nothing is guarded any more", err, len(b.log()))
	}
}

// TestGateIsStopped: a gate that does not answer is a gap before evidence is made. Case 126.
func TestGateIsStopped(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.s.c.Patience = 50 * time.Millisecond
	p := b.dial(gatewire.Hello{})
	p.guard()
	if err := b.s.Confirm(t.Context()); err != nil {
		t.Error(err)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil {
		t.Errorf("log %+v", l)
	}
	if m := p.read(); m.Ping == nil {
		t.Errorf("%+v, want a ping", m)
	}
	p.conn.SetReadDeadline(time.Now().Add(long))
	var m gatewire.ToGate
	if err := gatewire.Read(p.conn, &m); !errors.Is(err, io.EOF) {
		t.Errorf("%+v, %v, want the end of the connection", m, err)
	}
}

// TestConfirmWaitsForARecord: while what a gate guards is being recorded, the log may say it already.
func TestConfirmWaitsForARecord(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.s.c.Patience = 50 * time.Millisecond
	b.hold = make(chan struct{})
	p := b.dial(gatewire.Hello{})
	m := p.read()
	p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: m.Rules.Generation, Apps: []string{"free"}}})
	b.wait(1) // it is in the log, and the server does not know yet
	done := make(chan error, 1)
	go func() { done <- b.s.Confirm(context.Background()) }()
	select {
	case err := <-done:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(b.hold)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if l := b.log(); len(l) != 2 || l[1].GateGap == nil { // this gate does not answer
		t.Errorf("log %+v", l)
	}
}

// TestAgentRestarts: a gate that went on is carried, one that did not is not, and an app that it
// lost is a gap.
func TestAgentRestarts(t *testing.T) {
	for name, c := range map[string]struct {
		held    []gatewire.Held
		carried bool
		gaps    int
	}{
		"went on":       {[]gatewire.Held{{App: "free"}, {App: "strict", Enforce: true}}, true, 0},
		"another one":   {nil, false, 0},
		"lost one":      {[]gatewire.Held{{App: "free"}}, true, 1},
		"enforced less": {[]gatewire.Held{{App: "free"}, {App: "strict"}}, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, guardOf("free", false), guardOf("strict", true))
			b.s.Restore(&[]pcr.Event{declared()}[0])
			b.dial(gatewire.Hello{}).guard()
			b.s.Shutdown()
			if l := b.log(); len(l) != 1 {
				t.Fatalf("the end of an agent is not a gap: %+v", l)
			}
			b.events = append([]pcr.Event{declared()}, b.events...)
			b.serve()
			b.dial(gatewire.Hello{Held: c.held}).guard()
			l := b.log()[2:]
			if len(l) != c.gaps+1 || l[c.gaps].GateStart == nil || l[c.gaps].GateStart.Carried != c.carried || len(l[c.gaps].GateStart.Apps) != 2 {
				t.Errorf("log %+v", l)
			}
		})
	}
}

// TestOnlyTheGate: another user, another unit and a second gate are turned away.
func TestOnlyTheGate(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	refused := func(why string) {
		t.Helper()
		conn, err := net.Dial("unix", b.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = gatewire.Write(conn, &gatewire.ToAgent{Hello: &gatewire.Hello{Version: gatewire.Version}}) // it may be closed already
		conn.SetReadDeadline(time.Now().Add(long))
		var m gatewire.ToGate
		if err := gatewire.Read(conn, &m); err == nil {
			t.Errorf("%s: %+v", why, m)
		}
	}
	b.set(func() { b.unit = "agentd.service" })
	refused("another unit")
	b.set(func() { b.unit, b.uid = gatewire.Unit, 1000 })
	refused("another user")
	good := b.program
	b.set(func() { b.uid, b.program = 0, nil })
	refused("a program that cannot be found")
	b.set(func() { b.program = &evidence.Executable{State: evidence.ExecutableUnreadable} })
	refused("a program that cannot be read")
	b.set(func() { b.program = good })
	b.dial(gatewire.Hello{}).guard()
	refused("a second gate")
	if l := b.log(); len(l) != 1 {
		t.Errorf("log %+v", l)
	}
}

// TestFlood: programs beyond the quota are a gap of the app, once, or refused without a record.
// The log is not filled. The gate must not remember the answer about one that has no record: the app is
// guarded again later, and the program would start while no agent is there. Case 126.
func TestFlood(t *testing.T) {
	b, p := newGate(t, guardOf("free", false), guardOf("strict", true))
	for i := range 3 * burst {
		d := evidence.Digest{7, byte(i)}
		p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: uint64(i), App: "strict", Path: "/x", Digest: d}})
		if m := p.read(); m.Answer == nil || m.Answer.Start {
			t.Fatalf("%+v", m)
		}
	}
	if l := b.log(); len(l) != 1+burst {
		t.Errorf("%d records of refusals, want %d", len(l)-1, burst)
	}
	for i := range burst + 1 {
		p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: uint64(1000 + i), App: "free", Path: "/x", Digest: evidence.Digest{8, byte(i)}}})
		if m := p.read(); m.Answer == nil || !m.Answer.Start || m.Answer.Gap != (i == burst) {
			t.Fatalf("program %d, not enforced: %+v", i, m.Answer)
		}
	}
	l := b.wait(1 + burst + burst + 1)
	if x := l[len(l)-1].GateGap; x == nil || x.App != "free" {
		t.Errorf("the last record is %+v", l[len(l)-1])
	}
}

// TestRulesChange: another list of apps is recorded, and the same one is not.
func TestRulesChange(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	b.change <- struct{}{}
	p.guard()
	if n := len(b.log()); n != 1 {
		t.Errorf("%d records of one list", n)
	}
	b.set(func() { b.guarded = append(b.guarded, guardOf("strict", true)) })
	b.change <- struct{}{}
	if r := p.guard(); len(r.Apps) != 2 || len(b.log()) != 2 {
		t.Errorf("%+v, log %+v", r, b.log())
	}
}

// TestWaitsForTheGate: an app that was measured is guarded before it starts, if a gate is there.
func TestWaitsForTheGate(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.s.Await(t.Context(), "free") // without a gate it does not wait
	p := b.dial(gatewire.Hello{})
	m := p.read()
	done := make(chan struct{})
	go func() { b.s.Await(context.Background(), "free"); close(done) }()
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	if m = p.read(); m.Rules == nil { // what is measured by now
		t.Fatalf("%+v, want rules", m)
	}
	p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: m.Rules.Generation, Apps: []string{"free"}}})
	<-done
	if l := b.log(); len(l) != 1 || l[0].GateStart == nil {
		t.Errorf("log %+v", l)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b.s.Await(ctx, "another") // which is not guarded
}

// TestHeldIsMeasuredFirst: the agent that comes back sends no rules before it has measured what the
// gate held: they would not name it, and so end that.
func TestHeldIsMeasuredFirst(t *testing.T) {
	b := newBed(t, guardOf("free", false))
	b.s.Restore(&[]pcr.Event{declared()}[0])
	b.dial(gatewire.Hello{}).guard()
	b.s.Shutdown()
	b.events = append([]pcr.Event{declared()}, b.events...)
	b.set(func() { b.guarded, b.measuring = nil, map[string]bool{"free": false} })
	b.serve()
	p := b.dial(gatewire.Hello{Held: []gatewire.Held{{App: "free"}}})
	p.conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	var m gatewire.ToGate
	if err := gatewire.Read(p.conn, &m); err == nil {
		t.Fatalf("rules before it is measured: %+v", m.Rules)
	}
	b.set(func() { b.guarded, b.measuring = []apps.Guarded{guardOf("free", false)}, nil })
	p.guard()
	if l := b.log(); len(l) != 3 || l[2].GateStart == nil || !l[2].GateStart.Carried || len(l[2].GateStart.Apps) != 1 {
		t.Errorf("log %+v", l)
	}
}

// TestWaitsForWhatIsKnownNow: a measurement may find another folder of an app that is guarded already.
func TestWaitsForWhatIsKnownNow(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	done := make(chan struct{})
	go func() { b.s.Await(context.Background(), "free"); close(done) }()
	m := p.read()
	if m.Rules == nil || m.Rules.Generation != 2 {
		t.Fatalf("%+v, want the rules of now", m)
	}
	select {
	case <-done:
		t.Fatal("it did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: 2, Apps: []string{"free"}}})
	<-done
	if l := b.log(); len(l) != 1 {
		t.Errorf("log %+v", l)
	}
}

// TestNotRecorded: the gate keeps the gap of a program that started and could not be recorded, since
// the agent may end before it can. Case 126.
func TestNotRecorded(t *testing.T) {
	b, p := newGate(t, guardOf("free", false))
	b.set(func() { b.fail = errors.New("the disk is full") })
	p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: 1, App: "free", Path: "/opt/app", Digest: evidence.Digest{2}}})
	if m := p.read(); m.Answer == nil || !m.Answer.Start || !m.Answer.Gap {
		t.Errorf("%+v, want that it starts, with a gap", m)
	}
	b.set(func() { b.fail = nil })
	p.send(&gatewire.ToAgent{Ask: &gatewire.Ask{ID: 2, App: "free", Path: "/opt/app", Digest: evidence.Digest{3}}})
	if m := p.read(); m.Answer == nil || !m.Answer.Start || m.Answer.Gap {
		t.Errorf("%+v, want that it starts", m)
	}
}

// TestOldDeclaration: what a gate is ready for by a declaration that is not in force any more is not
// recorded, also if another one comes into force while it is.
func TestOldDeclaration(t *testing.T) {
	b := newBed(t, guardOf("free", false), guardOf("strict", true))
	b.hold = make(chan struct{})
	p := b.dial(gatewire.Hello{})
	m := p.read()
	declare := func(app int, d byte) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.guarded = slices.Clone(b.guarded)
		b.guarded[app].Declaration = evidence.Digest{d}
	}
	declare(0, 6)
	p.send(&gatewire.ToAgent{Ready: &gatewire.Ready{Generation: m.Rules.Generation, Apps: []string{"free", "strict"}}})
	b.wait(1)
	declare(1, 6)
	close(b.hold)
	l := b.wait(2)
	if a := l[0].GateStart.Apps; len(a) != 1 || a[0].App != "strict" {
		t.Errorf("first %+v, want the one whose declaration is in force", a)
	}
	if a := l[1].GateStart.Apps; len(a) != 0 {
		t.Errorf("then %+v, want none", a)
	}
	if r := p.read(); r.Recorded == nil || len(r.Recorded.Apps) != 0 {
		t.Errorf("%+v", r)
	}
}

// TestFolders: the app with the most folders, or the most bytes of names, is left out, and the rules of
// the others can be sent.
func TestFolders(t *testing.T) {
	many := func(app string, n, length int) apps.Guarded {
		g := guardOf(app, false)
		for i := range n {
			g.Folders = append(g.Folders, gatewire.Folder{Path: fmt.Sprintf("/%06d%s", i, strings.Repeat(`"`, length))})
		}
		return g
	}
	for _, c := range []struct {
		all        []apps.Guarded
		fits, left []string
	}{
		{[]apps.Guarded{many("a", gatewire.MaxFolders+1, 1), many("b", 2, 1)}, []string{"b"}, []string{"a"}},
		{[]apps.Guarded{many("a", gatewire.MaxFolders-1, 1), many("b", 2, 1)}, []string{"b"}, []string{"a"}},
		{[]apps.Guarded{many("a", gatewire.MaxFolders-1, 1), many("b", 2, 200000)}, []string{"b"}, []string{"a"}},
		{[]apps.Guarded{many("a", gatewire.MaxFolders-2, 1), many("b", 2, 1)}, []string{"a", "b"}, nil},
		{[]apps.Guarded{many("a", 2000, 4000), many("b", 1700, 4000), many("c", 1, 1)}, []string{"b", "c"}, []string{"a"}},
	} {
		fits, left := fit(c.all)
		m := &gatewire.Rules{}
		var names []string
		for _, g := range fits {
			names, m.Apps = append(names, g.App.App), append(m.Apps, g.App)
		}
		if !slices.Equal(names, c.fits) || !slices.Equal(left, c.left) {
			t.Errorf("%v fit, %v are left, want %v and %v", names, left, c.fits, c.left)
		}
		if err := gatewire.Write(io.Discard, &gatewire.ToGate{Rules: m}); err != nil {
			t.Error(err)
		}
	}
}

// TestStopsWhileItStarts: an agent that is told to stop before it has started does not wait for that
// because a gate does.
func TestStopsWhileItStarts(t *testing.T) {
	b := &bed{t: t, unit: gatewire.Unit, program: &evidence.Executable{Digest: &evidence.Digest{9}}}
	waits, ended := make(chan struct{}), make(chan struct{})
	b.s = New(Config{Identifier: b, Parts: func(ctx context.Context) (Parts, error) {
		close(waits)
		<-ctx.Done()
		return Parts{}, ctx.Err()
	}})
	b.socket = filepath.Join(t.TempDir(), "gate.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go b.s.Serve(l)
	b.dial(gatewire.Hello{})
	<-waits
	go func() { b.s.Shutdown(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(long):
		t.Error("it waits")
	}
}
