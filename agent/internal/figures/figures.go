// SPDX-License-Identifier: Apache-2.0

// Package figures collects what the parts of the agent count, for `GET /v1/metrics`. Nothing
// here waits for a device, and nothing is a secret or grows with the number of users: labels are
// words of this program, and names of declared applications.
package figures

import (
	"log/slog"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/credentials"
	"github.com/cvm-agentd/agentd/agent/internal/events"
	"github.com/cvm-agentd/agentd/agent/internal/gate"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/receiver"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/journal"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// A Source asks the parts of the agent. All fields are required.
type Source struct {
	Service    *apps.Service
	Apps       *startup.Part[*apps.Apps]
	Events     *events.Service
	Device     *startup.Part[*tpm.Device]
	Ledger     *startup.Part[*ledger.Ledger]
	Platform   *reports.Watched
	Vault      *vault.Vault
	Deliveries *receiver.Receiver
	Units      *credentials.Server
	Gate       *gate.Server
	Callers    func() turn.Stats // queue of the executables of callers
	Containers *rootfs.Counts    // files of containers
	Log        *slog.Logger
}

// mostApps is how many applications have figures of their own.
const mostApps = 1000

// Metrics adds the figures of all parts but the server, without those of [Shared].
func (s *Source) Metrics(to *metrics.Set) {
	s.applications(to)
	if x, up := s.Ledger.Now(); up {
		state := x.State()
		server.Limit(to, "log_bytes", float64(state.Limit), float64(state.Bytes), state.Refused)
	}
	s.Events.Metrics(to)
	s.containers(to)
	s.devices(to)
	s.Units.Metrics(to)
	s.Gate.Metrics(to)
	s.Deliveries.Metrics(to)
	s.turns(to)
	s.journal(to)
	process(to)
}

func label(name, value string) metrics.Label { return metrics.Label{Name: name, Value: value} }

func (s *Source) applications(to *metrics.Set) {
	list := s.Service.List()
	reading, stuck := 0, 0
	for i, a := range list {
		if a.Reading != nil {
			reading++
			if a.Reading.Stuck {
				stuck++
			}
		}
		if i >= mostApps {
			continue
		}
		to.Flag("agentd_app_measured", "Whether the log has the files of an app as they are now.", a.State == api.AppMeasured, label("app", a.Name))
		to.Gauge("agentd_app_bytes", "Size of the files of an app, when they were measured last.", float64(a.Bytes), label("app", a.Name))
		if a.Reading != nil {
			to.Gauge("agentd_app_reading_seconds", "How long the reading of an app takes that is under way.", float64(a.Reading.Since), label("app", a.Name))
		}
	}
	for _, x := range []struct {
		state string
		n     int
	}{{"reading", reading}, {"stuck", stuck}} {
		to.Gauge("agentd_apps", appsHelp, float64(x.n), label("state", x.state))
	}
}

func (s *Source) containers(to *metrics.Set) {
	for kind, n := range map[string]uint64{"read": s.Containers.Read.Load(), "kept": s.Containers.Kept.Load()} {
		to.Counter("agentd_container_bytes", "Bytes of files of containers that were hashed, and of those whose digest was known from before.", float64(n), label("kind", kind))
	}
}

// devices adds the figures of TPM and platform.
func (s *Source) devices(to *metrics.Set) {
	if d, up := s.Device.Now(); up {
		n := d.Counts()
		to.Counter("agentd_tpm_commands", "Commands that were sent to the TPM.", float64(n.Commands))
		for _, x := range []struct {
			kind string
			n    uint64
		}{{"put-off", n.PutOff}, {"refused", n.Refused}, {"failed", n.Failed}} {
			to.Counter("agentd_tpm_errors", "Commands that the TPM put off or refused, or that got no usable answer.", float64(x.n), label("kind", x.kind))
		}
	}
	n := s.Platform.Counts()
	for _, x := range []struct {
		kind      string
		n, failed uint64
	}{{"report", n.Reports, n.FailedReports}, {"key", n.Keys, n.FailedKeys}} {
		to.Counter("agentd_platform_requests", "Requests to the platform, for reports and for derived keys.", float64(x.n), label("kind", x.kind))
		to.Counter("agentd_platform_errors", "Requests to the platform that failed.", float64(x.failed), label("kind", x.kind))
	}
}

// turns adds the figures of the queues that classes and parties share.
func (s *Source) turns(to *metrics.Set) {
	add := func(resource string, q turn.Stats) { q.Metrics(to, resource) }
	if d, up := s.Device.Now(); up {
		add("tpm", d.Turns())
	}
	if l, up := s.Ledger.Now(); up {
		add("log", l.Turns())
	}
	add("events", s.Events.Turns())
	if q, up := s.Platform.Turns(); up {
		add("platform", q)
	}
	if q, up := s.Vault.Turns(); up {
		add("store", q)
	}
	if a, up := s.Apps.Now(); up {
		q := a.Turns()
		add("hashing", q)
		server.Limit(to, "hashing_workers", float64(q.Capacity), float64(q.Used), 0)
	}
	add("executables", s.Callers())
}

func (s *Source) journal(to *metrics.Set) {
	n, ok := journal.CountsOf(s.Log.Handler())
	if !ok {
		return
	}
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		l := label("level", strings.ToLower(level.String()))
		to.Counter("agentd_journal_records", "Records of the agent's own log.", float64(n.Records[level]), l)
		to.Counter("agentd_journal_held", "Repeated records that were counted instead of written.", float64(n.Held[level]), l)
	}
}

// process adds the figures of the process, under the names that Prometheus uses.
func process(to *metrics.Set) {
	to.Gauge("go_goroutines", "Goroutines of the agent.", float64(runtime.NumGoroutine()))
	if names, err := os.ReadDir("/proc/self/fd"); err == nil {
		to.Gauge("process_open_fds", "Open descriptors of the agent.", float64(len(names)))
	}
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) == nil {
		to.Gauge("process_max_fds", "Descriptors that the agent may open.", float64(r.Cur))
	}
	if pages := resident(); pages > 0 {
		to.Gauge("process_resident_memory_bytes", "Memory of the agent.", float64(pages*os.Getpagesize()))
	}
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) == nil {
		to.Counter("process_cpu_seconds", "Time on processors.", time.Duration(u.Utime.Nano()+u.Stime.Nano()).Seconds())
	}
}

// resident returns the resident pages of this process, the second number of proc_pid_statm(5),
// 0 if they are not known.
func resident() (pages int) {
	b, err := durable.ReadFile("/proc/self/statm", 4<<10)
	if err != nil {
		return 0
	}
	if fields := strings.Fields(string(b)); len(fields) > 1 {
		pages, _ = strconv.Atoi(fields[1]) // 0 if it is not a number
	}
	return pages
}
