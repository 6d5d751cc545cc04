// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/containers"
	"github.com/cvm-agentd/agentd/agent/internal/credentials"
	"github.com/cvm-agentd/agentd/agent/internal/disks"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/events"
	"github.com/cvm-agentd/agentd/agent/internal/figures"
	"github.com/cvm-agentd/agentd/agent/internal/gate"
	"github.com/cvm-agentd/agentd/agent/internal/identity"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/agent/internal/receiver"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/agent/internal/status"
	"github.com/cvm-agentd/agentd/agent/internal/systemd"
	"github.com/cvm-agentd/agentd/agent/internal/upgrade"
	"github.com/cvm-agentd/agentd/agent/internal/vault"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/crypttab"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// sealedFolder is the folder of the sealed blobs, in the state folder.
const sealedFolder = "sealed"

// daemon is a running agent. No field changes after newDaemon.
type daemon struct {
	o          Options
	log        *slog.Logger
	systemd    systemd.Notifier
	passed     systemd.Passed
	store      *systemd.Store // for the hand-over to the next agent
	kept       [][]byte       // hand-overs of the agent before
	identity   *identity.Agent
	platform   *reports.Watched
	supervisor *startup.Supervisor

	// Brought up by the steps, in this order.
	state    *startup.Part[*durable.Dir]
	device   *startup.Part[*tpm.Device]
	enroller *enrol.Enroller
	logs     *startup.Part[*durable.Dir]
	ledger   *startup.Part[*ledger.Ledger]
	apps     *startup.Part[*apps.Apps]
	attester *startup.Part[*attest.Attester]

	service    *apps.Service
	events     *events.Service
	vault      *vault.Vault
	receiver   *receiver.Receiver
	disks      *disks.Disks
	containers *containers.Containers
	read       *rootfs.Counts // files of containers
	status     *status.Source
	gate       *gate.Server
	quoting    *vtpm.TPM // see quotes; the steps of the start write it
}

func newDaemon(o Options) (*daemon, error) {
	d := &daemon{o: o, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler))}
	d.systemd = systemd.Notifier{Log: d.log}
	var err error
	if d.passed, err = systemd.Take(); err != nil {
		return nil, err
	}
	if d.store, d.kept, err = d.passed.Kept(); err != nil {
		d.log.Warn("what the agent before handed over cannot be used", "error", err)
	}
	if d.identity, err = identity.New(o.Version, o.ConfigText); err != nil {
		return nil, err
	}
	c := o.Config
	d.platform = &reports.Watched{
		Open: o.Machine.OpenPlatform, TPM: func() (*tpm.Device, bool) { return d.device.Now() }, Spacing: time.Duration(c.Report.Spacing), Timeout: time.Duration(c.Report.Timeout),
		Folder: c.Report.CertificateFolder, Log: d.log,
	}
	s := startup.New(d.log)
	d.supervisor = s
	d.state, d.logs = startup.NewPart[*durable.Dir](s), startup.NewPart[*durable.Dir](s)
	d.device = startup.NewPart[*tpm.Device](s)
	d.ledger = startup.NewPart[*ledger.Ledger](s)
	d.apps = startup.NewPart[*apps.Apps](s)
	d.attester = startup.NewPart[*attest.Attester](s)
	d.enroller = enrol.New(enrol.Config{Supervisor: s, State: d.state, Device: d.device, TPM: c.TPM, Folder: c.State.Folder, Log: d.log, Choice: d.platform.Choice})
	d.service = &apps.Service{
		Apps: d.apps, Ledger: d.ledger, Agent: d.identity, Staple: d.platform.Staple, Reread: o.Reread, Log: d.log,
		Guarded: func(ctx context.Context, app string) { d.gate.Await(ctx, app) },
	}
	d.events = events.New(events.Config{Apps: d.apps, Ledger: d.ledger, Limits: c.Events, Log: d.log})
	d.containers = d.newContainers()
	d.vault = vault.New(vault.Config{
		Supervisor: s, Device: d.device, Apps: d.apps, Platform: d.platform, AK: d.enroller.Key, Folder: filepath.Join(c.State.Folder, sealedFolder),
		TPM: c.TPM, Keys: c.Keys, Log: d.log,
	})
	d.receiver = receiver.New(receiver.Config{
		Store: d.vault, Attester: d.evidence(), Measure: d.service.Measure, Key: d.identity.Key, Now: boottime.Now, Log: d.log,
	})
	d.disks = &disks.Disks{
		Records: vault.Volumes{Vault: d.vault}, Folder: crypttab.HeaderFolder(c.Sockets.Admin),
		Owners: slices.Concat([]uint32{0}, o.AdminUIDs), Memory: o.Machine.InMemory, Log: d.log,
	}
	d.status = &status.Source{
		Agent: d.identity, Supervisor: s, Device: d.device, Ledger: d.ledger, Attester: d.attester,
		Platform: d.platform, Enroller: d.enroller, Apps: d.service, Events: d.events, Vault: d.vault, PCR: c.Measurement.PCR,
		Evidence: d.evidence(), Explain: func(err error) *api.Problem { return server.Explain(err, errorCodes) },
		Gate: d.gateStatus,
	}
	return d, nil
}

// evidence returns what makes evidence.
func (d *daemon) evidence() evidencer { return evidencer{d.supervisor, d.attester, d.enroller} }

// servers returns the server of the client and admin sockets, which asks the parts, and that of the
// socket for credentials.
func (d *daemon) servers() (*server.Server, *credentials.Server, error) {
	kernel, err := peer.New(peer.Options{})
	if err != nil {
		return nil, nil, err
	}
	processes := caller.Kernel(kernel)
	if d.o.Callers != nil {
		processes = d.o.Callers(kernel)
	}
	d.gate = d.gates(processes)
	systems := credentials.System{}.Own
	if own := d.o.Systemd; own != nil {
		systems = func(pid int, _ credentials.Kind) error { return own(pid) }
	}
	units := credentials.New(credentials.Config{
		Identifier: processes, Own: systems,
		Source:  vault.Credentials{Vault: d.vault, Measure: d.service.Measure, Disks: d.disks},
		Explain: func(err error) *api.Problem { return server.Explain(err, errorCodes) },
		Hold:    systemd.Hold, Open: min(credentials.Openable(), systemd.MostHeld), Log: d.log,
	})
	return d.server(processes, d.figures(units, kernel.Turns)), units, nil
}

// server returns the server of the client and admin sockets.
func (d *daemon) server(processes caller.Kernel, all *figures.Source) *server.Server {
	limits := d.o.Config.Limits
	return server.New(server.Config{
		Identifier: processes,
		Processes:  processes,
		Askers:     d.o.Config.Processes.Askers,
		Attester:   d.evidence(),
		Log:        logReader{d.ledger},
		Apps:       applications{d.service, d.containers},
		Containers: measuring{d},
		Status:     d.status,
		Enroller:   d.enroller,
		Keys:       vault.Secrets{Vault: d.vault},
		Events:     d.events,
		Store:      vault.Admin{Vault: d.vault},
		Disks:      d.disks,
		Upgrades:   d.upgrades(),
		Deliveries: d.receiver,
		Shared:     figures.Shared{Started: time.Now(), Status: d.status.Status, Attester: d.attester, Platform: d.platform},
		Metrics:    all,
		AgentKey:   d.identity.Key.Public().(ed25519.PublicKey),
		AdminUIDs:  slices.Concat([]uint32{0}, d.o.AdminUIDs),
		Errors:     errorCodes,
		Limits: server.Limits{
			Connections:     limits.Connections,
			ConnectionsEach: limits.ConnectionsPerUser,
			Requests:        limits.Requests,
			RequestsEach:    limits.RequestsPerUser,
			WaitingEach:     limits.WaitingPerUser,
			Bytes:           int64(limits.AnswerBytes),
			BytesEach:       int64(limits.AnswerBytesPerUser),
			BodyBytes:       int64(limits.BodyBytes),
			RateEach:        float64(limits.RequestsPerSecondPerUser),
			OpenEach:        float64(limits.ConnectionsPerSecondPerUser),
			Processors:      useProcessors(),
		},
		Logger: d.log,
	})
}

// upgrades returns what moves the store to another image.
func (d *daemon) upgrades() upgrade.Service {
	return upgrade.Service{Config: upgrade.Config{
		Store: d.vault.Opened, Changed: d.vault.Changed, Attester: d.evidence(),
		Roots: d.o.TestRootsThatVouchForNoHardware, Now: time.Now, Log: d.log,
	}}
}

// figures returns what collects the figures of the parts.
func (d *daemon) figures(units *credentials.Server, callers func() turn.Stats) *figures.Source {
	return &figures.Source{
		Service: d.service, Apps: d.apps, Events: d.events, Device: d.device, Ledger: d.ledger,
		Platform: d.platform, Vault: d.vault, Deliveries: d.receiver, Units: units, Gate: d.gate, Callers: callers, Containers: d.read, Log: d.log,
	}
}

// gates returns the server of the gate.
func (d *daemon) gates(identifier caller.Identifier) *gate.Server {
	return gate.New(gate.Config{
		Identifier: identifier, Log: d.log,
		Parts: func(ctx context.Context) (gate.Parts, error) {
			a, err := d.apps.Wait(ctx)
			if err != nil {
				return gate.Parts{}, err
			}
			l, err := d.ledger.Wait(ctx)
			return gate.Parts{Apps: a, Recorder: l}, err
		},
	})
}

// gateStatus returns how the gate does.
func (d *daemon) gateStatus() *api.GateStatus {
	a, up := d.apps.Now()
	if !up || d.gate == nil {
		return nil
	}
	return d.gate.Status(len(a.AskGate()))
}

// serveGate serves the socket of the gate, if there is one.
func (d *daemon) serveGate(l listeners) error {
	if l.gate == nil {
		return nil
	}
	return errors.Join(d.gate.Serve(l.gate.UnixListener), l.gate.Close())
}

func (d *daemon) run(ctx context.Context, reload <-chan os.Signal) error {
	l, err := listen(d.o.Config.Sockets, d.passed)
	if err != nil {
		return err
	}
	s, units, err := d.servers()
	if err != nil {
		l.close()
		return err
	}
	// The parts outlive ctx: requests that came before its end are still answered.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 5)
	var all sync.WaitGroup
	all.Go(d.platform.Staple)
	serve := func(what string, f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				failed <- fmt.Errorf("serve the %s: %w", what, err)
			}
		})
	}
	serve("client socket", func() error { return s.Serve(l.client, server.Client) })
	serve("admin socket", func() error { return s.Serve(l.admin, server.Admin) })
	serve("socket for credentials", func() error { return d.serveUnits(l, units) })
	serve("socket for the gate", func() error { return d.serveGate(l) })
	all.Go(func() {
		if err := d.work(work); err != nil {
			failed <- err
		}
	})
	all.Go(func() { thrift(work) })
	all.Go(func() { d.service.Report(work) })
	all.Go(func() { d.systemd.Watch(work, func() { d.status.Status() }) })
	all.Go(func() { d.systemd.Show(work, func() string { return status.Line(d.status.Status()) }) })

	err = d.wait(ctx, reload, failed)
	d.systemd.Stopping()
	patience, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	refusing := make(chan error, 1)
	go func() { refusing <- units.Shutdown(patience) }()
	err = errors.Join(err, s.Shutdown(patience), <-refusing)
	d.gate.Shutdown()
	stop()
	if !endsWithin(all.Wait, workPatience) {
		d.log.Warn("some work of the agent does not end: it is left behind")
	}
	d.leave()
	return errors.Join(err, d.close())
}

// serveUnits serves the socket for credentials. First it answers those who waited when the agent
// before was killed.
func (d *daemon) serveUnits(l listeners, units *credentials.Server) error {
	open, release, err := d.passed.Interrupted()
	if err != nil {
		d.log.Warn("connections of the agent before cannot be taken over", "error", err)
	}
	units.Interrupted(open)
	release()
	if l.credentials == nil {
		d.log.Warn("systemd passed no socket for credentials: units get none until agentd-credentials.socket is started, and the agent again")
		return nil
	}
	return errors.Join(units.Serve(l.credentials.UnixListener), l.credentials.Close())
}

// workPatience is how long the parts may take to end. One that waits for a file system that
// hangs cannot be ended, and must not keep the locks of the folders.
const workPatience = 5 * time.Second

// endsWithin runs wait, for a time at most, and reports whether it ended.
func endsWithin(wait func(), most time.Duration) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	select {
	case <-done:
		return true
	case <-time.After(most):
		return false
	}
}

// leavePatience is how long the record of the stop may take. A TPM that hangs must not keep the
// agent from ending: without the record its end counts as a crash.
const leavePatience = 5 * time.Second

// leave records that the agent stops, if its start is recorded. Nothing asks it for evidence any
// more, and no other record follows. It waits for a record of an application that is under way,
// but not for a disk or a TPM that hangs under it.
func (d *daemon) leave() {
	l, up := d.ledger.Now()
	a, started := d.apps.Now()
	if !up || !started {
		return
	}
	if !endsWithin(a.Close, workPatience) {
		d.log.Warn("the stop of the agent is not recorded: an earlier record does not end")
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), leavePatience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- d.identity.Leave(ctx, l) }()
	select {
	case err := <-done:
		if err != nil {
			d.log.Warn("the stop of the agent is not recorded", "error", err)
		}
	case <-ctx.Done():
		d.log.Warn("the stop of the agent is not recorded: the TPM does not answer")
	}
}

// work brings the parts up and lets them work until ctx ends.
func (d *daemon) work(ctx context.Context) error {
	up, err := d.supervisor.Run(ctx, d.steps())
	if !up {
		return err
	}
	attester, _ := d.attester.Now()
	followed, _ := d.apps.Now()
	var working sync.WaitGroup
	working.Go(func() { attester.Run(ctx) })
	working.Go(func() { attester.Watch(ctx) })
	working.Go(func() { d.vault.Run(ctx) })
	working.Go(func() {
		if err := followed.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("watching applications ended", "error", err)
		}
	})
	working.Wait()
	return nil
}

// wait waits for the end, and reloads when that is asked for.
func (d *daemon) wait(ctx context.Context, reload <-chan os.Signal, failed <-chan error) error {
	tried := d.supervisor.Tried()
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stopping")
			return nil
		case err := <-failed:
			return err
		case <-tried:
			tried = nil
			d.systemd.Ready()
			if d.o.Ready != nil {
				d.o.Ready()
			}
			d.log.Info("ready", "client", d.o.Config.Sockets.Client, "admin", d.o.Config.Sockets.Admin)
		case <-reload:
			d.systemd.Reloading()
			if _, err := d.service.Reload(ctx); err != nil {
				d.log.Error("reload failed: everything stays as it was", "error", err)
			}
			d.systemd.Ready()
		}
	}
}

// stopPatience is how long requests that are being answered may take after the agent was
// told to stop: a report that the host delays, and a little more. TimeoutStopSec= of the
// unit is above the sum of all that a stop waits for.
const stopPatience = 75 * time.Second

// closePatience is how long the TPM may take to give back what the agent holds in it.
const closePatience = time.Second

// close closes the devices and folders. The operation of the store that is under way can wait for
// the host for minutes.
func (d *daemon) close() error {
	var errs []error
	d.receiver.Close()
	closed := make(chan error, 1)
	if endsWithin(func() { closed <- d.vault.Close() }, workPatience) {
		errs = append(errs, <-closed)
	} else {
		d.log.Warn("an operation on sealed blobs does not end: it is left behind")
	}
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	d.enroller.Close(ctx)
	if device, up := d.device.Now(); up {
		errs = append(errs, device.Close())
	}
	d.containers.Close()
	errs = append(errs, d.platform.Close())
	for _, dir := range []*startup.Part[*durable.Dir]{d.logs, d.state} {
		if x, up := dir.Now(); up {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}
