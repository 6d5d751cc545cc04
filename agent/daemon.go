// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/agent/internal/server"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// LogFile is the name of the measurement log, in the log folder of the configuration.
const LogFile = ledger.LogFile

// Machine is the hardware that the agent runs on, or what stands in for it.
type Machine struct {
	OpenTPM      func(ctx context.Context) (*tpm.Device, error)
	OpenPlatform func() (Platform, error)
	BootID       string // names the boot of the kernel; empty where that is not known
}

// A Platform is a report device that carries stapled certificates besides those of
// the host.
type Platform interface {
	platform.Platform
	Staple(ders [][]byte) error
	Close() error
}

// Options is what a daemon is made of.
type Options struct {
	Config     config.Config
	ConfigText []byte                                // as it was read; nil where there is no file
	Reread     func() (config.Config, []byte, error) // the same, again, on a reload
	Machine    Machine
	Version    string   // of the daemon, for log and status
	AdminUIDs  []uint32 // who may administrate besides root
	Log        *slog.Logger
	Callers    func(caller.Identifier) caller.Identifier // wraps what the kernel says of callers; nil leaves it alone
	Ready      func()                                    // called once, when the first attempt to bring everything up is over; may be nil
}

// Daemon is a running agent.
type Daemon struct {
	o        Options
	log      *slog.Logger
	self     *executable        // the program that runs
	config   evidence.Digest    // SHA-256 of the configuration in force
	key      ed25519.PrivateKey // made now, in memory, and never stored
	platform *watched
	reload   sync.Mutex // held while configuration and declarations are read

	vault vault

	tried    chan struct{} // closed when the parts were brought up for the first time, or that failed
	again    chan struct{} // a value: what kept the parts from coming up is gone, do not wait
	attempts sync.Mutex    // held while the parts are brought up, or what they stand on is replaced

	mu    sync.Mutex
	parts parts
	trial error         // why the parts are not all up
	lost  error         // why the attestation key in use does not load any more
	round chan struct{} // closed when the next attempt to bring them up is over
}

// Run runs the daemon until ctx ends, then answers what has reached it and returns.
// Reload, on which a value means that declarations and certificates are to be read
// again, may be nil. An error means that the daemon could not be started or served.
func Run(ctx context.Context, o Options, reload <-chan os.Signal) error {
	d, err := newDaemon(o)
	if err != nil {
		return err
	}
	// No key was asked for yet. The executable is open already, /proc/self is root's now.
	if err := secret.HideProcess(); err != nil {
		return err
	}
	return d.run(ctx, reload)
}

func newDaemon(o Options) (*Daemon, error) {
	d := &Daemon{o: o, log: o.Log, config: sha256.Sum256(o.ConfigText), tried: make(chan struct{}), again: make(chan struct{}, 1), round: make(chan struct{}), vault: vault{tried: make(chan struct{})}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if d.self, err = hashExecutable(); err != nil {
		return nil, err
	}
	if _, d.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make the agent key: %w", err)
	}
	d.platform = &watched{open: o.Machine.OpenPlatform, spacing: time.Duration(o.Config.Report.Spacing)}
	return d, nil
}

func (d *Daemon) run(ctx context.Context, reload <-chan os.Signal) error {
	l, err := listen(d.o.Config.Sockets)
	if err != nil {
		return err
	}
	kernel, err := peer.New(peer.Options{})
	if err != nil {
		l.close()
		return err
	}
	identifier := caller.Identifier(kernel)
	if d.o.Callers != nil {
		identifier = d.o.Callers(kernel)
	}
	s := server.New(server.Config{
		Identifier: identifier,
		Attester:   d, Log: d, Apps: d, Status: d, Enroller: d, Keys: d, Store: storeAdmin{d},
		AdminUIDs: slices.Concat([]uint32{0}, d.o.AdminUIDs),
		Errors:    errorCodes,
		Limits: server.Limits{
			Connections:     d.o.Config.Limits.Connections,
			ConnectionsEach: d.o.Config.Limits.ConnectionsPerUser,
			Requests:        d.o.Config.Limits.Requests,
			RequestsEach:    d.o.Config.Limits.RequestsPerUser,
			WaitingEach:     d.o.Config.Limits.WaitingPerUser,
		},
		Logger: d.log,
	})

	// The parts outlive ctx: requests that came before its end are still answered.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	failed := make(chan error, 4)
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := d.self.wait(work); err != nil && work.Err() == nil {
			failed <- err // nothing can ever be recorded
		}
	})
	all.Go(func() { d.staple() })
	all.Go(func() {
		if err := s.Serve(l.client, server.Client); err != nil {
			failed <- fmt.Errorf("serve the client socket: %w", err)
		}
	})
	all.Go(func() {
		if err := s.Serve(l.admin, server.Admin); err != nil {
			failed <- fmt.Errorf("serve the admin socket: %w", err)
		}
	})
	all.Go(func() {
		if err := d.bringUp(work); err != nil {
			failed <- err
		}
	})
	all.Go(func() { d.watchdog(work) })
	all.Go(func() { d.statusLine(work) })

	err = d.wait(ctx, reload, failed)
	d.notify(systemd.SdNotifyStopping)
	err = errors.Join(err, d.shutdown(s))
	stop()
	all.Wait()
	return errors.Join(err, d.close())
}

// wait waits for the end, and does what is asked for meanwhile.
func (d *Daemon) wait(ctx context.Context, reload <-chan os.Signal, failed <-chan error) error {
	tried := d.tried
	for {
		select {
		case <-ctx.Done():
			d.log.Info("stopping")
			return nil
		case err := <-failed:
			return err
		case <-tried:
			tried = nil
			d.notify(systemd.SdNotifyReady)
			if d.o.Ready != nil {
				d.o.Ready()
			}
			d.log.Info("ready", "client", d.o.Config.Sockets.Client, "admin", d.o.Config.Sockets.Admin)
		case <-reload:
			d.notifyReloading()
			if _, err := d.Reload(ctx); err != nil {
				d.log.Error("reload failed: everything stays as it was", "error", err)
			}
			d.notify(systemd.SdNotifyReady)
		}
	}
}

// stopPatience is how long requests that are being answered may take after the
// daemon was told to stop: a report that the host holds back, and a little more.
// systemd's own patience is 90 s.
const stopPatience = 75 * time.Second

func (d *Daemon) shutdown(s *server.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	return s.Shutdown(ctx)
}

// errorCodes are the codes of errors that the server does not know itself.
var errorCodes = []server.ErrorCode{
	{Err: errAK, Code: api.CodeAKUnusable},
	{Err: tpmkeys.ErrOtherTPM, Code: api.CodeAKUnusable},
	{Err: tpmkeys.ErrDamaged, Code: api.CodeAKUnusable},
	{Err: errNotUp, Code: api.CodeUnavailable, Retry: 5 * time.Second},
	{Err: errNoTPM, Code: api.CodeTPM, Retry: 5 * time.Second},
	{Err: errNoStore, Code: api.CodeUnavailable},
	{Err: errNoDerivation, Code: api.CodeNoUsableSlot},
	{Err: errConfig, Code: api.CodeBadDeclaration},
	{Err: tpm.ErrTimedOut, Code: api.CodeTPMTimeout, Retry: 5 * time.Second},
	{Err: tpm.ErrDegraded, Code: api.CodeTPM, Retry: 5 * time.Second},
	{Err: tpm.ErrLockout, Code: api.CodeTPM},
}
