// SPDX-License-Identifier: Apache-2.0

// Package containers measures containers before their first program runs, and knows afterwards
// which process is in which of them.
//
// A hook of the engine names a container that is being created: its namespaces and mounts exist,
// and none of its programs has run. The hook waits for the answer, and the engine for the hook. The
// agent reads what the container is by itself:
//
//	config.json    through a descriptor of the bundle, which belongs to root
//	the process    by pidfd and /proc/PID; its start time is read twice
//	root           through the mount namespace of the hook, in which nothing is mounted over it; it
//	               must be the same file system as in that of the container
//	mounts         /proc/PID/mountinfo: each must be one that config.json names
//	control group  path and inode; no other process may be in it
//	image          from the engine's own files: what the engine says, and labelled so
//
// It records one event, and answers when that is durable and in the PCR. Whatever fails before
// that is a refusal, and the container does not start.
//
// # Which containers
//
// Those of a declared app, or all ([Config.All]). A container of no declared app is let through
// otherwise: it has no app, no keys, and no evidence names it.
//
// # What is known of a process
//
// A process is in a container if it is in its control group or below, in its mount namespace, and
// the container's first process still runs. All that is needed for this is in the event, so the
// next agent knows the containers that run from the log ([Containers.Restore]).
//
// Any process can leave a mount namespace: many engines let each user make a namespace of users,
// and one of mounts in that. No process leaves a control group without rights on the groups of the
// machine. So one in the control group that is not in the container came out of it, or was moved in.
// It is nothing of the machine either ([Containers.Beside]).
//
// # Limits
//
// Few containers are measured at once, and few wait. Apps have their turns by what they had before, so
// that one that starts again and again delays itself. Records of one app, of all others together,
// and bytes of all records of containers are limited, so that a container that starts again and
// again does not fill the log.
package containers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// Limits of what is done at once.
const (
	atOnce     = 2    // containers that are measured
	waiting    = 30   // that wait for that, besides
	ofOneApp   = 20   // of them that are of one app, or of none: it leaves places to the others
	maxRunning = 1024 // measured containers that run; each keeps two descriptors
)

// Groups are the control groups of this machine: [peer.Groups].
type Groups interface {
	Of(*peer.Held) (path string, err error)
	Inode(path string) (uint64, error)
	Processes(path string) (pids []int, err error)
}

// A Declared is a declared app that is an image.
type Declared struct {
	Name   string
	Digest evidence.Digest // of the declaration
}

// Config is what containers are measured with.
type Config struct {
	Proc     string // folder of processes: "/proc"
	Machine  int    // process with the namespaces of the machine; default 1
	Groups   Groups
	Recorder func(context.Context) (identity.Recorder, error) // waits until the log is there
	Wait     func(context.Context) error                      // until the declarations are read; may be nil
	// Apps returns the apps that a container of an engine in a unit is by the declarations of now; fits
	// says whether an image as declared is the container's.
	Apps func(engine, unit string, fits func(image string) bool) []Declared
	// Root measures a root file system, which may have layers. Mounted reports whether something is
	// mounted at a path of it in the container.
	Root func(ctx context.Context, root *os.File, layers *rootfs.Layers, mounted func(path string) bool) (pcr.ContainerRoot, error)
	// Layers opens those of an overlay, by the options of its mount and its path, and refuses one
	// that cannot be measured. Open opens a path in the mount namespace of the hook. It may be nil.
	Layers func(options, root string, open rootfs.Opener) (*rootfs.Layers, error)

	All  bool  // measure containers of no declared app too
	Most int64 // bytes of all records of containers in one log
	Log  *slog.Logger
}

// Containers is the containers of this machine. Its methods may be called by many goroutines.
type Containers struct {
	c       Config
	measure *turn.Queue   // of atOnce; a party is an app
	places  chan struct{} // of atOnce and waiting
	limits  limits

	mu      sync.Mutex // guards all below
	running map[key]*running
}

// key names a container.
type key struct{ engine, id string }

// running is a container whose first process has not ended, or whose control group still is there.
type running struct {
	event  *pcr.ContainerEvent
	record uint64
	held   *peer.Held // nil if it was not found after a restart of the agent
	inode  uint64     // of the control group
	mounts uint64     // mount namespace
	uid    uint32     // of its first process, as the machine sees it
	unit   string     // that its control group is in; empty if none
	known  bool       // its record is in the log
}

// New returns no containers.
func New(c Config) *Containers {
	c.Machine = cmp.Or(c.Machine, 1)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	return &Containers{
		c: c, measure: turn.New(turn.Options{Capacity: atOnce, Waiting: ofOneApp}), places: make(chan struct{}, atOnce+waiting),
		limits: newLimits(c.Most), running: make(map[key]*running),
	}
}

// A Hook is the process that asks, in whose mount namespace the engine mounted the container's
// root file system.
type Hook struct {
	PID     int
	Running func() error
}

// Record measures a container that is being created, and returns once the log has it.
func (c *Containers) Record(ctx context.Context, h Hook, r api.ContainerRequest) (api.Container, error) {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	default:
		return api.Container{}, problem.New(api.CodeBusy, fmt.Sprintf("%d containers are being measured or wait for that already", cap(c.places)))
	}
	if c.c.Wait != nil { // in a place: those that wait take connections that administrators need
		if err := c.c.Wait(ctx); err != nil {
			return api.Container{}, err
		}
	}
	x, err := c.look(h, r)
	if err != nil {
		return api.Container{}, err
	}
	defer x.close()
	app, err := c.app(x)
	if err != nil {
		return api.Container{}, err
	}
	out := api.Container{Engine: r.Engine, ID: r.ID, Image: digestText(x.image.Config), Started: x.held.Started, Running: true}
	if app == nil && !c.c.All {
		out.Reason = "no app is declared for this image, and measurement.containers is not \"all\""
		return out, nil
	}
	leave, err := c.enter(ctx, app)
	if err != nil {
		return api.Container{}, err
	}
	defer leave()
	if app, err = c.app(x); err != nil { // a declaration may have come into force meanwhile
		return api.Container{}, err
	}
	if err := c.limits.enter(app); err != nil {
		return api.Container{}, err
	}
	if err := c.record(ctx, x, app); err != nil {
		return api.Container{}, err
	}
	n := x.number
	out.Recorded, out.Record, out.Root = true, &n, &x.event.Root.Digest
	out.App, out.Files, out.Bytes = x.event.App, x.event.Root.Files, x.event.Root.Bytes
	return out, nil
}

// enter waits for the turn of an app, nil for none.
func (c *Containers) enter(ctx context.Context, app *Declared) (leave func(), err error) {
	who, what := turn.Who{Class: turn.Start}, "of no app"
	if app != nil {
		who.Party, what = app.Name, "of app "+app.Name
	}
	leave, err = c.measure.Enter(turn.With(ctx, who), 1)
	if errors.Is(err, turn.ErrBusy) {
		return nil, problem.New(api.CodeBusy, fmt.Sprintf("containers %s: %d wait to be measured already", what, ofOneApp))
	}
	if err != nil {
		return nil, fmt.Errorf("wait until a container can be measured: %w", err)
	}
	return leave, nil
}

// record measures what x is, has it recorded, and knows it from then on.
func (c *Containers) record(ctx context.Context, x *examined, app *Declared) error {
	if err := x.describe(c.c.Proc, c.c.Machine, app); err != nil {
		return err
	}
	var err error
	if x.event.Root, err = c.c.Root(ctx, x.root, x.layers, x.mounted); err != nil {
		return refuse(api.CodeContainerRoot, "measure the root file system: %v", err)
	}
	x.event.Root.ReadOnly = x.spec.Root.ReadOnly
	to, err := c.c.Recorder(ctx)
	if err != nil {
		return err
	}
	if err := x.unchanged(c.c.Groups); err != nil {
		return err
	}
	e := pcr.Event{Type: pcr.EventContainer, Container: x.event}
	b, err := e.Encode()
	if err != nil {
		return refuse(api.CodeContainerConfig, "%v", err)
	}
	if err := c.limits.bytes(len(b)); err != nil {
		return err
	}
	added, err := c.add(x)
	if err != nil {
		c.limits.unused(len(b))
		return err
	}
	r, err := to.Append(ctx, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.forget(keyOf(x.event))
		c.limits.unused(len(b))
		return err
	}
	x.number, added.record, added.known = r.Number, r.Number, true
	c.c.Log.Info("container measured", "engine", x.event.Engine, "id", x.event.ID, "app", x.event.App, "root", x.event.Root.Digest.String(), "files", x.event.Root.Files)
	return nil
}

func keyOf(e *pcr.ContainerEvent) key { return key{e.Engine, e.ID} }

// add makes room for x among the running containers. It is not found before its record is.
func (c *Containers) add(x *examined) (*running, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune()
	if len(c.running) >= maxRunning {
		return nil, problem.New(api.CodeQuotaExceeded, fmt.Sprintf("%d measured containers run, and no more are followed", maxRunning))
	}
	for k, other := range c.running {
		if other.ended() {
			if k == keyOf(x.event) || other.event.Cgroup == x.event.Cgroup { // x is alone in the group
				c.forget(k)
			}
			continue
		}
		if k == keyOf(x.event) {
			return nil, refuse(api.CodeContainerState, "container %s of %s runs already, as process %d", k.id, k.engine, other.held.PID)
		}
		if within(x.event.Cgroup, other.event.Cgroup) || within(other.event.Cgroup, x.event.Cgroup) {
			return nil, refuse(api.CodeContainerState, "its control group %q is that of container %s, or in it, or around it", x.event.Cgroup, k.id)
		}
	}
	r := &running{event: x.event, held: x.held, inode: x.inode, mounts: x.mounts, uid: x.uid, unit: x.unit}
	x.held = nil // it stays open
	c.running[keyOf(x.event)] = r
	return r, nil
}

// prune forgets containers whose first process ended and whose control group is gone, with all
// that the first process left. The caller holds mu.
func (c *Containers) prune() {
	for k, r := range c.running {
		if r.ended() && !c.there(r) {
			c.forget(k)
		}
	}
}

// forget gives a container up. The caller holds mu.
func (c *Containers) forget(k key) {
	c.running[k].close()
	delete(c.running, k)
}

// ended reports whether the first process of a recorded container ended, or was not found.
func (r *running) ended() bool { return r.known && (r.held == nil || r.held.Running() != nil) }

func (r *running) close() {
	if r.held != nil {
		r.held.Close()
	}
}

// there reports whether the control group of a container is there still. One that was removed, and
// made again under its name, is another one. One that cannot be looked at is there.
func (c *Containers) there(r *running) bool {
	inode, err := c.c.Groups.Inode(r.event.Cgroup)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return inode == r.inode
}

// within reports whether a path is another or below it.
func within(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/")
}

// In returns the container that a caller is in, with what its first process is to the machine, nil
// if it is in none that was measured and runs.
func (c *Containers) In(p *caller.Peer) *Found {
	if p.Group == "" || p.MountNamespace == 0 {
		return nil
	}
	r := c.find(p.Group)
	if r == nil || r.mounts != p.MountNamespace || p.Started < r.event.Started {
		return nil
	}
	if inode, err := c.c.Groups.Inode(r.event.Cgroup); err != nil || inode != r.inode {
		return nil
	}
	e := r.event
	return &Found{
		Container: evidence.Container{Engine: e.Engine, ID: e.ID, Started: e.Started, Root: e.Root.Digest, Image: e.Image.Config},
		App:       e.App, UID: r.uid, unit: r.unit, image: e.Image,
	}
}

// Beside reports whether a caller is in the control group of a measured container, or below it,
// whether it is in the container or not. What was started in the container is there for as long as
// the group is, also when it made a mount namespace for itself, and when the first process ended.
func (c *Containers) Beside(p *caller.Peer) bool {
	if p.Group == "" {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.known && within(p.Group, r.event.Cgroup) && c.there(r) {
			return true
		}
	}
	return false
}

// find returns the container that runs whose control group is path or around it.
func (c *Containers) find(path string) *running {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.known && within(path, r.event.Cgroup) && !r.ended() {
			return r
		}
	}
	return nil
}

// Found is a measured container that a caller is in.
type Found struct {
	evidence.Container
	App   string // that it was recorded as; empty if none
	UID   uint32 // of its first process, as the machine sees it
	unit  string
	image pcr.ContainerImage
}

// Is reports whether the container is of a declaration: [declaration.Declaration.Is].
func (f *Found) Is(declared func(engine, unit string, image func(declared string) bool) bool) bool {
	return declared(f.Engine, f.unit, func(image string) bool { return fits(image, f.image) })
}

// List returns the measured containers that run.
func (c *Containers) List() []api.Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.prune()
	out := []api.Container{}
	for _, r := range c.running {
		if !r.known || r.ended() {
			continue
		}
		e, n := r.event, r.record
		out = append(out, api.Container{
			Engine: e.Engine, ID: e.ID, Recorded: true, App: e.App, Image: digestText(e.Image.Config), Root: &e.Root.Digest,
			Files: e.Root.Files, Bytes: e.Root.Bytes, Record: &n, Started: e.Started, Running: true,
		})
	}
	slices.SortFunc(out, func(a, b api.Container) int {
		return cmp.Or(strings.Compare(a.Engine, b.Engine), strings.Compare(a.ID, b.ID))
	})
	return out
}

// Restore tells c of a container that the log of this boot has. If its first process still runs,
// it is known from now on. If only its control group is there, that is. A start of the agent that
// begins again tells all of it again.
func (c *Containers) Restore(number uint64, e *pcr.ContainerEvent, bytes int) {
	c.limits.restore(number, bytes)
	r := c.alive(e)
	if r == nil {
		inode, err := c.c.Groups.Inode(e.Cgroup)
		if err != nil {
			return
		}
		r = &running{event: e, inode: inode}
	}
	r.record, r.known = number, true
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.running[keyOf(e)]; before != nil {
		before.close()
	}
	c.running[keyOf(e)] = r
}

// alive finds the first process of a recorded container, nil if it ended: the process in its
// control group that started when the record says.
func (c *Containers) alive(e *pcr.ContainerEvent) *running {
	inode, err := c.c.Groups.Inode(e.Cgroup)
	if err != nil {
		return nil
	}
	pids, err := c.c.Groups.Processes(e.Cgroup)
	if err != nil {
		return nil
	}
	slices.Sort(pids)
	for _, pid := range pids {
		held, err := peer.Hold(c.c.Proc, pid)
		if err != nil {
			continue
		}
		if r, err := known(c.c.Groups, held, e); err == nil {
			r.inode = inode
			return r
		}
		held.Close()
	}
	return nil
}

// known returns the running container of a record, if held is its first process.
func known(g Groups, held *peer.Held, e *pcr.ContainerEvent) (*running, error) {
	if held.Started != e.Started {
		return nil, errors.New("it started at another time")
	}
	path, err := g.Of(held)
	if err != nil {
		return nil, err
	}
	if !within(path, e.Cgroup) {
		return nil, errors.New("it is in another control group")
	}
	mounts, err := held.Namespace("mnt")
	if err != nil {
		return nil, err
	}
	uid, err := hostUID(held, e.Process.UID)
	if err != nil {
		return nil, err
	}
	unit, _ := caller.UnitOf(e.Cgroup)
	return &running{event: e, held: held, mounts: mounts, uid: uid, unit: unit}, held.Same()
}

// Close gives up all processes.
func (c *Containers) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.running {
		c.forget(k)
	}
}

// refuse returns why a container does not start.
func refuse(code api.Code, format string, args ...any) error {
	return problem.New(code, fmt.Sprintf(format, args...))
}

func digestText(d *evidence.Digest) string {
	if d == nil {
		return ""
	}
	return "sha256:" + d.String()
}

// openRoot opens the root of the file system of a process in /proc.
func openRoot(h *peer.Held) (*os.File, error) { return h.Open("root", unix.O_PATH|unix.O_DIRECTORY) }

// app returns the declared app that a container is, nil if it is none.
func (c *Containers) app(x *examined) (*Declared, error) {
	found := c.c.Apps(x.request.Engine, x.unit, func(image string) bool { return fits(image, x.image) })
	switch len(found) {
	case 0:
		return nil, nil
	case 1:
		return &found[0], nil
	}
	names := make([]string, len(found))
	for i := range found {
		names[i] = found[i].Name
	}
	slices.Sort(names)
	return nil, refuse(api.CodeContainerImage, "its image is that of the apps %s", strings.Join(names, ", "))
}
