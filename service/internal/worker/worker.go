// SPDX-License-Identifier: Apache-2.0

package worker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/net/netutil"
	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/service/internal/settings"
	"github.com/cvm-agentd/agentd/service/internal/store"
	"github.com/cvm-agentd/agentd/service/internal/traces"
)

// Worker is one process of the service.
type Worker struct {
	store    *store.Store
	log      *slog.Logger
	figures  figures
	traces   *traces.Traces // nil: none are sent
	draining atomic.Bool
	current  atomic.Pointer[generation]
	told     rate.Sometimes // that policies do not count

	readiness sync.Mutex
	asked     time.Time // when the database was asked last; with readiness
	unready   error     // what it said; with readiness
}

func (w *Worker) now() *generation { return w.current.Load() }

// OpenStore opens the database of settings. It does not connect.
func OpenStore(s *settings.Settings) (*store.Store, error) {
	limits := store.Limits{Challenges: s.Limits.Challenges, Machines: s.Limits.Machines}
	if s.Database.File != "" {
		return store.OpenSQLite(s.Database.File, limits)
	}
	p := store.Postgres{URL: s.Database.URL, Connections: s.Database.Connections}
	if s.Database.PasswordFile != "" {
		b, err := secret(s.Database.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("password of the database: %w", err)
		}
		p.Password = string(bytes.TrimRight(b, "\r\n"))
	}
	return store.OpenPostgres(p, limits)
}

// Run serves until the context ends, and then until what is under way has ended. A message of reload has
// it read the settings again with load.
func Run(ctx context.Context, log *slog.Logger, load func() (*settings.Settings, error), reload <-chan struct{}) (err error) {
	s, err := load()
	if err != nil {
		return err
	}
	st, err := OpenStore(s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	w := &Worker{store: st, log: log, told: rate.Sometimes{First: 5, Interval: 10 * time.Second}}
	roots, err := authority(s.Tracing.CA, "the collector of traces")
	if err != nil {
		return err
	}
	if w.traces, err = traces.New(&s.Tracing, roots, log); err != nil {
		return err
	}
	defer w.endTraces()
	g, err := newGeneration(w, s)
	if err != nil {
		return err
	}
	w.current.Store(g)
	useMemory(&s.Limits)
	servers, err := w.listen(ctx, s)
	if err != nil {
		return err
	}
	failed := make(chan error, len(servers))
	for _, x := range servers {
		go func() { failed <- x.serve() }()
	}
	log.Info("serving", "clients", servers[0].listener.Addr().String())
	w.notify(daemon.SdNotifyReady)
	w.tellHead(ctx)
	heads := time.NewTicker(10 * time.Minute)
	defer heads.Stop()
	for {
		select {
		case <-reload:
			w.notify(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec())
			w.reload(load)
			w.notify(daemon.SdNotifyReady)
		case <-heads.C:
			w.tellHead(ctx)
		case err := <-failed:
			return err
		case <-ctx.Done():
			return w.drain(servers, time.Duration(w.now().settings.Server.DrainSeconds)*time.Second)
		}
	}
}

// endTraces sends what waits for the collector. A collector that does not answer must not keep the
// process for long.
func (w *Worker) endTraces() {
	ctx, cancel := context.WithTimeout(context.Background(), tracesPatience)
	defer cancel()
	if err := w.traces.Close(ctx); err != nil {
		w.log.Warn("the last traces are lost, since the collector does not take them", "error", err)
	}
}

// notify tells systemd a state (sd_notify(3)). Without systemd it does nothing.
func (w *Worker) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		w.log.Warn("systemd could not be told", "state", state, "error", err)
	}
}

// tracesPatience is how long the last traces may take.
const tracesPatience = 5 * time.Second

// reload exchanges what settings and files say. If they cannot be used, what was in force stays.
func (w *Worker) reload(load func() (*settings.Settings, error)) {
	s, err := load()
	if err == nil {
		old := w.now().settings
		l, before := &s.Limits, &old.Limits
		if s.Server.Listen != old.Server.Listen || s.Admin.Listen != old.Admin.Listen || s.Monitoring.Listen != old.Monitoring.Listen || (s.Server.Certificate == "") != (old.Server.Certificate == "") ||
			s.Database != old.Database || s.Tracing != old.Tracing || l.Connections != before.Connections || l.Challenges != before.Challenges || l.Machines != before.Machines {
			err = errors.New("listen, [database], [tracing], whether there is TLS, and the limits connections, challenges and machines change with a new start only")
		}
	}
	var g *generation
	if err == nil {
		g, err = newGeneration(w, s)
	}
	if err != nil {
		w.log.Error("the settings were not read again, and those of before stay in force", "error", err)
		return
	}
	w.current.Store(g)
	useMemory(&s.Limits)
	w.log.Info("the settings were read again", "tokenKeys", len(g.keys))
}

// tellHead writes the end of the chain of records into the log, which is another place than the database.
func (w *Worker) tellHead(ctx context.Context) {
	h, err := w.store.Head(ctx)
	if err != nil {
		w.log.Error("the database does not answer", "error", err)
		return
	}
	w.log.Info("head of the records", "sequence", h.Sequence, "hash", h.Hash)
}

// fault is told of faults that clients learn nothing of.
func (w *Worker) fault(err error) {
	w.figures.fault()
	w.log.Error("a request failed", "error", err)
}

// refuse answers with the problem for an error of the store.
func (w *Worker) refuse(out http.ResponseWriter, err error) {
	p, fault := explained(err)
	if fault {
		w.fault(err)
	}
	refuse(out, p)
}

// healthy says that the process answers.
func (w *Worker) healthy(out http.ResponseWriter) {
	head(out, "text/plain; charset=utf-8")
	_, _ = io.WriteString(out, "ok\n") // the client is gone
}

// ready says whether a load balancer may send requests. The database is asked at most once a second,
// however many ask.
func (w *Worker) ready(out http.ResponseWriter, r *http.Request) {
	w.readiness.Lock()
	if now := time.Now(); now.Sub(w.asked) > time.Second {
		w.unready = w.store.Ready(context.WithoutCancel(r.Context()))
		w.asked = time.Now()
		if w.unready != nil {
			w.log.Error("not ready", "error", w.unready)
		}
	}
	err := w.unready
	w.readiness.Unlock()
	said, code := "ok\n", http.StatusOK
	switch {
	case w.draining.Load():
		said, code = "draining\n", http.StatusServiceUnavailable
	case err != nil: // its text is for the owner of the service, in the log
		said, code = "the database does not answer\n", http.StatusServiceUnavailable
	}
	head(out, "text/plain; charset=utf-8")
	out.WriteHeader(code)
	_, _ = io.WriteString(out, said) // the client is gone
}

// server is one listener with its requests.
type server struct {
	http     *http.Server
	listener net.Listener
	tls      bool
}

func (s *server) serve() error {
	var err error
	if s.tls {
		err = s.http.ServeTLS(s.listener, "", "")
	} else {
		err = s.http.Serve(s.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// listen opens the listeners: that of clients is the first.
func (w *Worker) listen(ctx context.Context, s *settings.Settings) (all []*server, err error) {
	add := func(address string, most int, h http.Handler, config func(*generation) *tls.Config) {
		if address == "" || err != nil {
			return
		}
		var l net.Listener
		l, err = new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			err = fmt.Errorf("listen: %w", durable.Cause(err))
			return
		}
		x := &server{listener: netutil.LimitListener(l, most), http: &http.Server{
			Handler: h, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
		}}
		if config != nil && config(w.now()) != nil {
			x.tls = true
			x.http.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return config(w.now()), nil }}
		}
		all = append(all, x)
	}
	add(s.Server.Listen, s.Limits.Connections, http.HandlerFunc(w.clients), func(g *generation) *tls.Config { return g.client })
	add(s.Admin.Listen, 64, w.administration(), func(g *generation) *tls.Config { return g.admin })
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", w.monitoring)
	mux.HandleFunc("GET /healthz", func(out http.ResponseWriter, _ *http.Request) { w.healthy(out) })
	mux.HandleFunc("GET /readyz", w.ready)
	add(s.Monitoring.Listen, 64, mux, nil)
	if err != nil {
		for _, x := range all {
			x.listener.Close()
		}
	}
	return all, err
}

// endPatience is how long requests may go on after the worker stopped to take new ones.
const endPatience = 30 * time.Second

// drain says that the worker is not ready, still serves for a while, since a load balancer learns of it
// late, and then waits for the requests that are under way.
func (w *Worker) drain(servers []*server, wait time.Duration) error {
	w.draining.Store(true)
	w.notify(daemon.SdNotifyStopping)
	w.log.Info("draining", "seconds", wait.Seconds())
	time.Sleep(wait)
	ctx, cancel := context.WithTimeout(context.Background(), endPatience)
	defer cancel()
	var errs []error
	for _, x := range servers {
		errs = append(errs, x.http.Shutdown(ctx))
	}
	return errors.Join(errs...)
}
