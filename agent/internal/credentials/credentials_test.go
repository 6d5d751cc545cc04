// SPDX-License-Identifier: Apache-2.0

package credentials

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/metrics/metricstest"
)

const patience = time.Minute

// world is all that a server asks, under the control of a test.
type world struct {
	mu   sync.Mutex
	peer caller.Peer
	own  error // why the process is not systemd's

	ended    atomic.Bool
	asked    atomic.Int64
	waits    chan struct{} // if set, the source waits for it
	answered error         // of the source
	data     []byte
	handed   [][]byte // what the source returned
}

func (w *world) set(f func(*world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

func (w *world) UID(*net.UnixConn) (uint32, error) { return 0, nil }

func (w *world) Identify(*net.UnixConn) (*caller.Peer, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.peer
	p.Process = &process{w}
	return &p, nil
}

type process struct{ w *world }

func (p *process) Running() error {
	if p.w.ended.Load() {
		return caller.ErrGone
	}
	return nil
}
func (*process) Executable(context.Context) *evidence.Executable { return nil }
func (*process) Close() error                                    { return nil }

func (w *world) Own(int, Kind) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.own
}

func (w *world) Credential(ctx context.Context, a Asked) ([]byte, error) {
	w.asked.Add(1)
	if w.waits != nil {
		select {
		case <-w.waits:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	if w.answered != nil {
		return nil, w.answered
	}
	b := bytes.Clone(w.data)
	w.set(func(w *world) { w.handed = append(w.handed, b) })
	return b, nil
}

func (w *world) VolumeKey(ctx context.Context, a Asked) ([]byte, error) {
	return w.Credential(ctx, a)
}

// explain knows problems, and that a process has ended.
func explain(err error) *api.Problem {
	if p, ok := errors.AsType[*api.Problem](err); ok {
		return p
	}
	if errors.Is(err, caller.ErrGone) {
		return problem.New(api.CodePeerGone, err.Error())
	}
	return nil
}

// bed is a server on a socket of its own.
type bed struct {
	t      *testing.T
	server *Server
	path   string
	log    *lines
	done   chan error
}

// lines is a log that can be read while it grows.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func serve(t *testing.T, w *world, open int) *bed {
	b := &bed{t: t, path: filepath.Join(t.TempDir(), "s"), log: &lines{}, done: make(chan error, 1)}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: b.path})
	if err != nil {
		t.Fatal(err)
	}
	b.server = New(Config{Identifier: w, Own: w.Own, Source: w, Explain: explain, Open: open, Log: slog.New(slog.NewTextHandler(b.log, nil))})
	go func() { b.done <- b.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		b.server.Shutdown(ctx)
		l.Close()
	})
	return b
}

var number atomic.Uint64

// connect binds a fresh abstract address that ends as systemd's, and connects.
func (b *bed) connect(path string) *net.UnixConn {
	b.t.Helper()
	name := fmt.Sprintf("@%x%s", uint64(time.Now().UnixNano())+number.Add(1), path)
	c, err := net.DialUnix("unix", &net.UnixAddr{Net: "unix", Name: name}, &net.UnixAddr{Net: "unix", Name: b.path})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.CloseWrite() // as systemd does
	c.SetReadDeadline(time.Now().Add(patience))
	return c
}

// ask reads to the end, as systemd does.
func (b *bed) ask(path string) []byte {
	b.t.Helper()
	return read(b.t, b.connect(path))
}

func read(t *testing.T, c *net.UnixConn) []byte {
	t.Helper()
	all, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// refused checks that an answer makes systemd fail the unit: more than 1 MiB, and nothing else in
// it than zeros.
func refused(t *testing.T, b []byte) {
	t.Helper()
	if len(b) <= 1<<20 || len(bytes.Trim(b, "\x00")) != 0 {
		t.Errorf("an answer of %d bytes, want a refusal", len(b))
	}
}

// refusedAs checks the refusal of what path asks for. systemd-cryptsetup tries what it reads as a
// key: so it must be what no volume is made for.
func refusedAs(t *testing.T, path string, b []byte) {
	t.Helper()
	least := 64
	switch {
	case strings.HasPrefix(path, "/unit/"):
		refused(t, b)
		return
	case !strings.HasPrefix(path, "/cryptsetup/"):
		least = 1<<20 + 1 // systemd may have asked for a credential of a strange name
	}
	if len(b) != least || bytes.Count(b, []byte{0}) > len(b)/8 {
		t.Errorf("%s: %d bytes, of which %d are zero: want %d random ones", path, len(b), bytes.Count(b, []byte{0}), least)
	}
}

func system() *world {
	return &world{peer: caller.Peer{PID: 4242, Unit: "billing.service"}, data: []byte("secret bytes")}
}

// TestGivenAndRefused: each check by itself keeps the bytes back, at accept and after the answer
// is ready. Each refusal is one line with the name of the unit, its code and what to do. Case 120.
func TestGivenAndRefused(t *testing.T) {
	const ask = "/unit/billing.service/db-password"
	for name, c := range map[string]struct {
		path   string
		change func(*world)
		code   api.Code
	}{
		"as it should be":           {ask, func(*world) {}, ""},
		"a process of another user": {ask, func(w *world) { w.peer.UID = 1000 }, api.CodeNotSystemd},
		"root outside a unit":       {ask, func(w *world) { w.peer.Unit, w.peer.UnitReason = "", "it is in a slice" }, api.CodeNoSystemUnit},
		"another unit":              {ask, func(w *world) { w.peer.Unit = "other.service" }, api.CodeOtherUnit},
		"an instance":               {ask, func(w *world) { w.peer.Unit = "billing@1.service" }, api.CodeOtherUnit},
		"a program of the unit":     {ask, func(w *world) { w.own = errors.New("it runs /bin/sh") }, api.CodeNotSystemd},
		"a process that ended":      {ask, func(w *world) { w.ended.Store(true) }, api.CodePeerGone},
		"root's own manager":        {"/unit/user@0.service/k", func(w *world) { w.peer.Unit = "user@0.service" }, api.CodeNoSystemUnit},
		"a capsule":                 {"/unit/capsule@x.service/k", func(w *world) { w.peer.Unit = "capsule@x.service" }, api.CodeNoSystemUnit},
		"a scope":                   {"/unit/session-1.scope/k", func(w *world) { w.peer.Unit = "session-1.scope" }, api.CodeNoSystemUnit},
		"no address of systemd":     {"/file/x", func(*world) {}, api.CodeNotSystemd},
		"an error of the source":    {ask, func(w *world) { w.answered = problem.New(api.CodeNotFound, "none") }, api.CodeNotFound},
		"an error without a code":   {ask, func(w *world) { w.answered = errors.New("strange") }, api.CodeInternal},
		"an empty secret":           {ask, func(w *world) { w.data = nil }, api.CodeInternal},
		"a volume, as it should be": {"/cryptsetup/data", func(w *world) { w.peer.Unit = "systemd-cryptsetup@data.service" }, ""},
		"a volume by another unit":  {"/cryptsetup/data", func(*world) {}, api.CodeOtherUnit},
	} {
		for _, late := range []bool{false, true} {
			if late && (c.code == "" || strings.HasPrefix(name, "an e") || name == "root's own manager" || name == "a capsule" || name == "a scope" || name == "no address of systemd" || name == "a volume by another unit") {
				continue
			}
			t.Run(fmt.Sprintf("%s/late=%t", name, late), func(t *testing.T) {
				w := system()
				if late {
					w.waits = make(chan struct{})
				} else {
					c.change(w)
				}
				b := serve(t, w, 0)
				conn := b.connect(c.path)
				if late {
					until(t, func() bool { return w.asked.Load() == 1 })
					w.set(c.change)
					close(w.waits)
				}
				got := read(t, conn)
				until(t, func() bool { given, refused := b.server.Counts(); return given+refused == 1 })
				b.counted(c.path, c.code)
				if c.code == "" {
					if string(got) != "secret bytes" || !strings.Contains(b.log.String(), "handed out") {
						t.Errorf("%.40q\n%s", got, b.log)
					}
					return
				}
				refusedAs(t, c.path, got)
				if !late && w.asked.Load() != 0 && w.answered == nil && w.data != nil {
					t.Error("the source was asked")
				}
				if c.code == api.CodePeerGone {
					return // no unit waits for a line
				}
				line := b.log.String()
				unit := strings.Split(c.path, "/")[2]
				if strings.Count(line, "\n") != 1 || !strings.Contains(line, string(c.code)) || !strings.Contains(line, c.code.Info().Hint[:10]) || name != "no address of systemd" && !strings.Contains(line, unit) {
					t.Errorf("want one line with %s and %s:\n%s", unit, c.code, line)
				}
				if name == "root outside a unit" && !strings.Contains(line, "it is in a slice") {
					t.Errorf("the line does not say where the process is:\n%s", line)
				}
			})
		}
	}
}

// counted checks that the figures have one answer and no other: of the kind that path asks for, given
// or refused with that code.
func (b *bed) counted(path string, code api.Code) {
	b.t.Helper()
	var set metrics.Set
	b.server.Metrics(&set)
	kind := "unknown"
	for _, k := range []Kind{Credential, Volume} {
		if strings.HasPrefix(path, map[Kind]string{Credential: "/unit/", Volume: "/cryptsetup/"}[k]) {
			kind = string(k)
		}
	}
	want := map[string]float64{`agentd_credentials_given_total{kind="credential"}`: 0, `agentd_credentials_given_total{kind="volume"}`: 0}
	if code == "" {
		want[`agentd_credentials_given_total{kind="`+kind+`"}`] = 1
	} else {
		want[`agentd_credentials_refused_total{kind="`+kind+`",code="`+string(code)+`"}`] = 1
	}
	if got, err := metricstest.Parse(set.Text(metrics.Prometheus)); err != nil || !maps.Equal(got, want) {
		b.t.Errorf("%v, %v; want %v", got, err, want)
	}
}

// until waits for a condition.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// TestBytesAreOverwritten: no copy of a secret stays in the server's hands.
func TestBytesAreOverwritten(t *testing.T) {
	w := system()
	b := serve(t, w, 0)
	b.ask("/unit/billing.service/k")
	w.set(func(w *world) { w.own = errors.New("no") })
	refused(t, b.ask("/unit/billing.service/k"))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := b.server.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if len(w.handed) != 1 || len(bytes.Trim(w.handed[0], "\x00")) != 0 {
		t.Errorf("%q", w.handed)
	}
}

// TestOneUnitHoldsUpNoOther: a unit whose answers take long gets a quarter of the connections, and
// a refusal after that. Another one is answered meanwhile.
func TestOneUnitHoldsUpNoOther(t *testing.T) {
	slow, quick := system(), make(chan struct{})
	slow.waits = quick
	b := serve(t, slow, 8)
	var waiting []*net.UnixConn
	for range 2 {
		waiting = append(waiting, b.connect("/unit/billing.service/k"))
	}
	until(t, func() bool { return slow.asked.Load() == 2 })
	refused(t, b.ask("/unit/billing.service/k"))
	if !strings.Contains(b.log.String(), string(api.CodeBusy)) {
		t.Errorf("%s", b.log)
	}
	slow.set(func(w *world) { w.peer.Unit = "other@1.service" })
	other := b.connect("/unit/other@1.service/k")
	until(t, func() bool { return slow.asked.Load() == 3 })
	slow.set(func(w *world) { w.peer.Unit = "other@2.service" })
	second := b.connect("/unit/other@2.service/k")
	until(t, func() bool { return slow.asked.Load() == 4 })
	slow.set(func(w *world) { w.peer.Unit = "other@3.service" })
	refused(t, b.ask("/unit/other@3.service/k")) // instances of a template share
	close(quick)
	for _, c := range append(waiting, other, second) {
		read(t, c)
	}
}

// TestNoneIsClosedWithoutAnswer: when the agent stops, a connection that waits is refused, since an
// end without bytes would start the unit with an empty credential.
func TestNoneIsClosedWithoutAnswer(t *testing.T) {
	w := system()
	w.waits = make(chan struct{})
	b := serve(t, w, 0)
	c := b.connect("/unit/billing.service/k")
	until(t, func() bool { return w.asked.Load() == 1 })
	stopped := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		stopped <- b.server.Shutdown(ctx)
	}()
	refused(t, read(t, c))
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if err := <-b.done; err != nil {
		t.Error(err)
	}
}

// TestGivenUp: the answer to a process that has ended is not waited for.
func TestGivenUp(t *testing.T) {
	w := system()
	w.waits = make(chan struct{})
	b := serve(t, w, 0)
	b.connect("/unit/billing.service/k")
	until(t, func() bool { return w.asked.Load() == 1 })
	w.ended.Store(true)
	until(t, func() bool { _, refused := b.server.Counts(); return refused == 1 })
}
