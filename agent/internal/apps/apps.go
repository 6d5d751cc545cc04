// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

// A Recorder appends events to the measurement log. When Append returns without an
// error, the event is in the log and in the PCR.
type Recorder interface {
	Append(ctx context.Context, e pcr.Event) (pcr.Record, error)
}

// Config says where declarations are and how eagerly to follow changes. The zero
// value of every field but Recorder has a default.
type Config struct {
	Recorder Recorder

	// Directories of declarations: one in a later directory overrides one of the
	// same name in an earlier. Default: /usr/lib/agentd/apps.d, /etc/agentd/apps.d.
	Directories []string

	// Owners may own declarations and their directories. Default: uid 0 and the
	// effective uid of this process.
	Owners []uint32

	LookupUser declaration.LookupUser  // default: /etc/passwd
	NewWatcher func() (Watcher, error) // default: inotify
	Workers    int                     // files hashed at once; default: number of CPUs
	Debounce   time.Duration           // quiet time after a change before measuring; default 200 ms
	Rescan     time.Duration           // everything is looked at again this often; default 10 min
	RateEvery  time.Duration           // an app that used up RateBurst is recorded once in this time; default 10 min
	RateBurst  int                     // records of one app at once; default 30
	Logger     *slog.Logger            // default: none
}

// Apps is the declared applications of this machine. Its methods may be called by many
// goroutines.
type Apps struct {
	config  Config
	reader  *manifest.Reader
	record  *semaphore.Weighted // of one; held while the log and the state of an app change together
	gaps    *throttle           // of events that concern all apps; of Run
	log     *slog.Logger
	follow  follower
	pending *schedule

	mu    sync.Mutex // guards the three below and what they contain
	apps  map[string]*app
	prior map[string]outcome // last recorded before this process, from Restore
	owed  map[string]bool    // gaps to be recorded, by reason
}

// Status is what is known of one app.
type Status struct {
	Name        string
	Unit        string // empty if the declaration was refused
	User        string
	UID         uint32
	File        string          // of the declaration, empty if it was refused
	Declaration evidence.Digest // SHA-256 of the declaration; zero if it was refused
	Measured    bool            // the current content is in the log
	WhyNot      string          // why it is not, for people
	Digest      evidence.Digest // of the manifest; zero if not Measured
	Record      uint64          // number of the latest record about this app, if HasRecord
	HasRecord   bool
	Files       int    // manifest entries
	Bytes       uint64 // hashed, links included
}

// New returns the applications of a configuration. It reads nothing: see [Apps.Reload].
func New(c Config) (*Apps, error) {
	if c.Recorder == nil {
		return nil, errors.New("apps: no recorder to hand measurements to")
	}
	if c.Directories == nil {
		c.Directories = []string{"/usr/lib/agentd/apps.d", "/etc/agentd/apps.d"}
	}
	if c.Owners == nil {
		c.Owners = []uint32{0, uint32(os.Geteuid())}
	}
	if c.LookupUser == nil {
		c.LookupUser = lookupPasswd
	}
	if c.NewWatcher == nil {
		c.NewWatcher = newInotify
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Workers = cmp.Or(max(c.Workers, 0), runtime.NumCPU())
	c.Debounce = cmp.Or(max(c.Debounce, 0), defaultDebounce)
	c.Rescan = cmp.Or(max(c.Rescan, 0), defaultRescan)
	c.RateEvery = cmp.Or(max(c.RateEvery, 0), defaultRateEvery)
	c.RateBurst = cmp.Or(max(c.RateBurst, 0), defaultRateBurst)
	return &Apps{
		config:  c,
		reader:  manifest.NewReader(c.Workers, manifest.SettleTime),
		record:  semaphore.NewWeighted(1),
		gaps:    newThrottle(c.RateEvery, c.RateBurst),
		log:     c.Logger,
		pending: newSchedule(),
		apps:    make(map[string]*app),
		prior:   make(map[string]outcome),
		owed:    make(map[string]bool),
	}, nil
}

// lookupPasswd finds a uid through package os/user, which in a binary without cgo
// reads /etc/passwd and nothing else.
func lookupPasswd(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	return uint32(uid), err
}

// Restore takes an event that was recorded in this boot before this process
// started, in the order of the log, so that an unchanged app adds nothing to it.
// It must be called before the first Reload.
func (a *Apps) Restore(number uint64, e *pcr.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case e.App != nil:
		a.prior[e.App.App] = outcome{declaration: e.App.Declaration, digest: e.App.Digest, number: number}
	case e.Unmeasured != nil:
		a.prior[e.Unmeasured.App] = outcome{reason: e.Unmeasured.Reason, number: number}
	case e.Agent != nil:
		// What was not declared for a while is recorded again.
		declared := make(map[string]bool)
		for _, d := range e.Agent.Declarations {
			declared[d.App] = true
		}
		maps.DeleteFunc(a.prior, func(app string, _ outcome) bool { return !declared[app] })
	}
}

// List returns the status of every app, ascending by name.
func (a *Apps) List() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Status, 0, len(a.apps))
	for _, x := range a.apps {
		out = append(out, x.status())
	}
	slices.SortFunc(out, func(x, y Status) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// ByUnit returns the app that is declared for exactly this system unit and uid, measured or
// not.
func (a *Apps) ByUnit(unit string, uid uint32) (name string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.apps {
		if d := x.declaration; d != nil && d.Unit == unit && d.UID == uid {
			return x.name, true
		}
	}
	return "", false
}

// Covers reports whether the recorded manifest of app lists an executable file with content
// digest d. It is false while the app is not measured.
func (a *Apps) Covers(app string, d evidence.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.apps[app]
	return x != nil && x.measured && x.executables[d]
}
