// SPDX-License-Identifier: Apache-2.0

// Package apps measures the declared applications, and implements the API calls about
// them ([Service]).
//
// An app is a systemd system unit and its user, and the files that make it up. The package
// reads the declarations, has the files of each app hashed (package manifest), and hands one
// event for each app to an [identity.Recorder], which appends it to the measurement log. It watches
// the files and measures again when they change.
//
// Identity is content. Whether the bytes that were hashed are what runs is a different
// question, which only a comparison of content answers ([Apps.Covers]).
//
// What is not seen: writes through a memory mapping that was made writable before
// the file was hashed, bind mounts that are put over a measured path, and writes by
// a hard link from elsewhere. None raises an inotify event. [Apps.Measure] hashes
// everything again and so finds them; the rescan that [Apps.Run] makes now and then
// finds the latter two. The format of the declarations and the limits of all this are
// in docs/apps.md.
package apps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/pcr"
)

// Config says where declarations are and how eagerly to follow changes. The zero
// value of every field but Recorder has a default.
type Config struct {
	Recorder identity.Recorder

	// Keep gives the service manager what the next agent needs to carry coverage on. Head is
	// the log head, for it. Without Keep, nothing is handed over.
	Keep func([]byte) error
	Head func() evidence.LogHead

	// Directories of declarations: one in a later directory overrides one of the
	// same name in an earlier. Default: /usr/lib/agentd/apps.d, /etc/agentd/apps.d.
	Directories []string

	// Owners may own declarations and their directories. Default: uid 0 and the
	// effective uid of this process.
	Owners []uint32

	LookupUser declaration.LookupUser // default: /etc/passwd
	// DynamicUser returns the name of the user for whom systemd has a dynamic uid now. Without it,
	// no process is that of an app with a dynamic user.
	DynamicUser func(uid uint32) (name string, err error)
	NewWatcher  func() (Watcher, error) // default: inotify
	Queues      int                     // apps with a queue of events of their own; default 96, fewer if descriptors are few; negative: none
	Workers     int                     // files hashed at once; default: number of CPUs

	UnaskedBytes  uint64        // of one app that are hashed in a minute because it changed; default 1 GiB
	AnswerTimeout time.Duration // after which a file system that does not answer is given up; default 30 s
	Timeout       time.Duration // within which an app has to be read; default 10 min

	Debounce  time.Duration // quiet time after a change before measuring; default 200 ms
	Rescan    time.Duration // everything is looked at again this often; default 10 min
	RateEvery time.Duration // an app that used up RateBurst is recorded once in this time; default 10 min
	RateBurst int           // records of one app at once; default 30
	Logger    *slog.Logger  // default: none
}

// Apps is the declared applications of this machine. Its methods may be called by many
// goroutines.
type Apps struct {
	config    Config
	reader    *manifest.Reader
	record    *semaphore.Weighted // of one; held while the log and the state of an app change together
	announced *[]pcr.Declaration  // declarations that the log lists, nil if that is not known; guarded by record
	gaps      *throttle           // of events that concern all apps; of Run
	log       *slog.Logger
	follow    queues
	pending   *schedule

	changed chan struct{} // of one: the hand-over is not what it should be
	gate    chan struct{} // of one: what the gate is to guard may be another

	ctx      context.Context // of readings
	cancel   context.CancelFunc
	readings sync.WaitGroup

	mu         sync.Mutex // guards all below and what they contain
	apps       map[string]*app
	containers map[string]*declaration.Declaration // apps that are containers, which have no files here
	prior      history                             // before this process, from Restore
	inherited  *handover                           // from the agent before; nil if it left none
	handed     map[string]uint64                   // what was handed over last: of each app the record that it names
	owed       map[string]bool                     // gaps to be recorded, by reason
	stuck      map[string][]*stuck                 // readings that may still hang, by app
	degraded   bool                                // watching does not work, and a gap says so or is owed
}

// Status is what is known of one app.
type Status struct {
	Name        string
	Unit        string // empty if the declaration was refused
	User        string
	UID         uint32
	Dynamic     bool            // systemd gives User a uid at each start of the unit, and UID is none
	Users       *pcr.AppUsers   // further users of the unit whose processes are the app; nil if there are none
	File        string          // of the declaration, empty if it was refused
	Declaration evidence.Digest // SHA-256 of the declaration; zero if it was refused
	Measured    bool            // the current content is in the log
	WhyNot      string          // why it is not, for people
	Digest      evidence.Digest // of the manifest; zero if not Measured
	Record      uint64          // number of the latest record about this app, if HasRecord
	HasRecord   bool
	Since       uint64    // when its coverage began, by the clock of records; 0 if not Measured
	From        uint64    // number of the record that began it, if Measured
	Changed     uint64    // time of the record that has Digest, likewise
	Carried     uint64    // how often it was carried over an interruption
	Ends        string    // why the next agent could not carry it on, for people; empty if it could
	Reading     *Progress // the reading under way, or one that is stuck; nil if there is none
	at          uint64    // time of that record
	Files       int       // manifest entries
	Bytes       uint64    // hashed, links included
	Interpreter string    // path of the interpreter if the manifest lists nothing else; empty if it does, and if not Measured
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
	c.Logger = cmp.Or(c.Logger, slog.New(slog.DiscardHandler))
	c.Workers = cmp.Or(max(c.Workers, 0), runtime.NumCPU())
	c.Debounce = cmp.Or(max(c.Debounce, 0), defaultDebounce)
	c.Rescan = cmp.Or(max(c.Rescan, 0), defaultRescan)
	c.RateEvery = cmp.Or(max(c.RateEvery, 0), defaultRateEvery)
	c.RateBurst = cmp.Or(max(c.RateBurst, 0), defaultRateBurst)
	c.UnaskedBytes = cmp.Or(c.UnaskedBytes, defaultUnaskedBytes)
	c.AnswerTimeout = cmp.Or(max(c.AnswerTimeout, 0), defaultAnswerTimeout)
	c.Timeout = cmp.Or(max(c.Timeout, 0), defaultTimeout)
	c.Queues = cmp.Or(c.Queues, defaultQueues())
	ctx, cancel := context.WithCancel(context.Background())
	return &Apps{
		follow:  queues{limit: max(c.Queues, 0), own: make(map[string]*follower)},
		ctx:     ctx,
		cancel:  cancel,
		config:  c,
		reader:  manifest.NewReader(c.Workers, manifest.SettleTime),
		record:  semaphore.NewWeighted(1),
		gaps:    newThrottle(c.RateEvery, c.RateBurst),
		log:     c.Logger,
		pending: newSchedule(),
		changed: make(chan struct{}, 1),
		gate:    make(chan struct{}, 1),
		apps:    make(map[string]*app),
		prior:   history{apps: make(map[string]*coverage)},
		owed:    make(map[string]bool),
		stuck:   make(map[string][]*stuck),
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

// Restore takes an event that was recorded in this boot before this process started, in the
// order of the log. It must be called before the first Reload.
func (a *Apps) Restore(number uint64, e *pcr.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.prior.follow(number, e)
}

// List returns the status of every app, ascending by name.
func (a *Apps) List() []Status {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]Status, 0, len(a.apps))
	for _, x := range a.apps {
		out = append(out, a.status(x))
	}
	slices.SortFunc(out, func(x, y Status) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// ByUnit returns the app that is declared for exactly this system unit and uid, measured or
// not. If there is none, it is the one that is declared for the unit's template: but not while a
// declaration is refused that is, or may be, for exactly this unit. What runs in the unit is another program, and a
// mistake in a file must not give it the secrets of the template's app.
//
// A dynamic user has the uid that systemd has for its name now: a process that is left from before
// a restart can have one that is another unit's by now.
func (a *Apps) ByUnit(unit string, uid uint32) (app caller.App, ok bool) {
	holder := a.dynamicUser(uid)
	found := a.ofUnit(unit, func(d *declaration.Declaration) bool {
		if d.Dynamic {
			return d.User == holder
		}
		return d.HasUser(uid)
	})
	if len(found) == 0 {
		return caller.App{}, false
	}
	if found[0].Dynamic {
		found[0].UID = uid
	}
	return found[0], true
}

// dynamicUser returns the name of the user for whom systemd has a uid now, empty if for none.
func (a *Apps) dynamicUser(uid uint32) string {
	if a.config.DynamicUser == nil || !pcr.DynamicUID(uid) {
		return ""
	}
	name, err := a.config.DynamicUser(uid)
	if err != nil {
		a.log.Debug("a caller has no dynamic user", "uid", uid, "error", err)
		return ""
	}
	return name
}

// OfUnit returns the apps that are declared for this system unit, one for each user, by the rules
// of [Apps.ByUnit].
func (a *Apps) OfUnit(unit string) []caller.App {
	return a.ofUnit(unit, func(*declaration.Declaration) bool { return true })
}

// ofUnit returns the apps that are declared for exactly this unit and that match accepts. If there
// are none, it is those of its template, unless a declaration is refused.
func (a *Apps) ofUnit(unit string, match func(*declaration.Declaration) bool) []caller.App {
	a.mu.Lock()
	defer a.mu.Unlock()
	var exact, template []caller.App
	refused := false
	for _, x := range a.apps {
		d := cmp.Or(x.declaration, x.before)
		refused = refused || x.meant.Holds(unit)
		if d == nil || !match(d) || !evidence.InUnit(d.Unit, unit) {
			continue
		}
		found := caller.App{Name: x.name, Unit: d.Unit, UID: d.UID, User: d.User, Dynamic: d.Dynamic}
		switch same := d.Unit == unit; {
		case same && x.declaration != nil:
			exact = append(exact, found)
		case same:
			refused = true
		case x.declaration != nil:
			template = append(template, found)
		}
	}
	if len(exact) > 0 || refused {
		return exact
	}
	return template
}

// Covers reports whether the recorded manifest of app lists an executable file with content
// digest d. It is false while the app is not measured.
func (a *Apps) Covers(app string, d evidence.Digest) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := a.apps[app]
	return x != nil && x.measured && x.executables[d]
}

// app is one declared app and what is known of it. Apps.mu guards its fields. At most one
// reading is under way, so that an older one is never recorded after a newer one.
type app struct {
	name     string
	throttle *throttle
	budget   *budget
	held     time.Time // until then the app is not measured, since it changes too often; zero otherwise
	size     uint64    // bytes of the last whole reading
	run      *reading  // under way; nil if none is
	next     *reading  // begins after that; nil if none was ordered
	looked   bool      // a reading by this declaration has ended
	short    time.Time // since when no reading could look, for want of descriptors or memory; zero if the last one could

	declaration *declaration.Declaration // nil if it was refused
	refused     error                    // why, if it was
	before      *declaration.Declaration // the last one in force, if it was; nil if there was none since the start
	meant       declaration.Meant        // for which instances it was meant, if it was
	removed     bool                     // by a reload, while a measurement still uses this

	cover       coverage        // what the log says of this app
	trace       *manifest.Trace // of the last reading; nil if that gave none
	generation  uint64          // of the watching that saw the changes since trace; 0 is none
	doubted     time.Time       // when a reading first differed from trace, without a word from the watching; zero if none did
	renewed     time.Time       // when the trace was last replaced by one that differs, on the word of the watching
	events      uint64          // changes that the watching reported
	handled     uint64          // of these, those before the last reading
	told        tellings        // what they were
	lost        uint64          // number of the last event that stands for events that were lost
	unwatched   bool            // changes of it are not noticed as they happen, by the last look
	measured    bool            // the content found last is what the log says
	whyNot      string          // why not, if not
	digest      evidence.Digest
	executables map[evidence.Digest]bool
	paths       []string                 // of the regular files, if it asks for the gate; as found last
	located     bool                     // that they were found by the declaration in force
	pinned      map[evidence.Digest]bool // executables of the last manifest that was asked for; nil if there is none
	interpreter string                   // see Status
	files       int
	bytes       uint64
}

// status returns what is known of x. The caller holds mu.
func (a *Apps) status(x *app) Status {
	s := Status{Name: x.name, Measured: x.measured, WhyNot: x.whyNot, Reading: a.progress(x)}
	if d := x.declaration; d != nil {
		s.Unit, s.User, s.UID, s.Dynamic, s.File, s.Declaration = d.Unit, d.User, d.UID, d.Dynamic, d.File, d.Digest
		if len(d.Users) > 0 {
			s.Users = &d.Users
		}
	}
	if left := time.Until(x.held); left > 0 && !x.measured {
		s.WhyNot = fmt.Sprintf("%s: measured in %s", s.WhyNot, left.Round(time.Second))
	}
	s.Record, s.HasRecord, s.at = x.cover.record, x.cover.known, x.cover.at
	if x.measured {
		s.Digest, s.Files, s.Bytes, s.Interpreter = x.digest, x.files, x.bytes, x.interpreter
		s.Since, s.From, s.Carried, s.Changed = x.cover.since, x.cover.from, x.cover.carried, x.cover.changed
		if err := a.endsNow(x); err != nil {
			s.Ends = err.Error()
		}
	}
	return s
}

// unmeasured forgets what was covered: from here on nothing is claimed of the app.
func (x *app) unmeasured(why string) {
	x.measured, x.whyNot, x.held = false, why, time.Time{}
	x.digest, x.executables, x.files, x.bytes, x.interpreter = evidence.Digest{}, nil, 0, 0, ""
}

// ErrUnknownApp is returned for a name without a declaration.
var ErrUnknownApp = errors.New("no such app is declared")

// A RateError says that an app changes too often for the log to follow, or to be hashed each
// time. The agent measures it again by itself when Retry has passed.
type RateError struct {
	App     string
	Retry   time.Duration
	Hashing bool // [Config.UnaskedBytes] were hashed, and [Apps.Measure] is not held back
}

func (e *RateError) Error() string {
	if e.Hashing {
		return fmt.Sprintf("app %s changes too often to be hashed again at once: measured in %s", e.App, e.Retry.Round(time.Second))
	}
	return fmt.Sprintf("app %s changed too often, its next measurement is recorded in %s", e.App, e.Retry.Round(time.Second))
}

// A RecordError says that a measurement could not be recorded. Nothing is claimed
// of an app whose measurement is not in the log.
type RecordError struct {
	App string
	Err error // from the Recorder
}

func (e *RecordError) Error() string { return fmt.Sprintf("record app %s: %v", e.App, e.Err) }
func (e *RecordError) Unwrap() error { return e.Err }
