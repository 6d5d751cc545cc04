// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/internal/apps"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// parts are what is brought up one after the other, each on the one before. One that
// is up stays; a later attempt goes on from there.
type parts struct {
	state    *durable.Dir
	device   *tpm.Device
	ak       *tpmkeys.AK
	tpm      *vtpm.TPM
	logs     *durable.Dir
	ledger   *ledger.Ledger
	apps     *apps.Apps
	attester *attest.Attester
	sealed   *durable.Dir // of sealed blobs
}

// Errors of a daemon whose parts are not all up.
var (
	errNotUp = errors.New("the agent is not ready")
	errNoTPM = errors.New("the agent has no TPM that works")
)

// A refusal is a reason that no waiting mends: the daemon ends with it.
type refusal struct{ err error }

// Refused reports whether err, returned by [Run] or [LoadConfig], is one that starting
// again will not mend: somebody has to change something first.
func Refused(err error) bool {
	var r *refusal
	var c *config.Error
	return errors.As(err, &r) || errors.As(err, &c)
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// Pauses between attempts to bring the parts up.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// bringUp brings the parts up and lets them work until ctx ends. It returns an error
// only where trying again is no use.
func (d *Daemon) bringUp(ctx context.Context) error {
	first := sync.OnceFunc(func() { close(d.tried) })
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := d.attemptAlone(ctx)
		var never *refusal
		if errors.As(err, &never) {
			return err
		}
		first()
		if err == nil {
			break
		}
		d.log.Error("not ready, trying again", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		case <-d.again:
			pause = firstPause
		}
	}
	p := d.up()
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { p.attester.Run(ctx) })
	working.Go(func() { d.keepStore(ctx, p) })
	working.Go(func() {
		if err := p.apps.Run(ctx); err != nil && ctx.Err() == nil {
			d.log.Error("watching applications ended", "error", err)
		}
	})
	return nil
}

// attemptAlone brings up what is not up yet, while nobody replaces what it stands on,
// and tells what came of it.
func (d *Daemon) attemptAlone(ctx context.Context) error {
	d.attempts.Lock()
	defer d.attempts.Unlock()
	err := d.attempt(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.trial = err
	close(d.round)
	d.round = make(chan struct{})
	return err
}

// up is the parts that are up.
func (d *Daemon) up() parts {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.parts
}

// set keeps a part that came up.
func (d *Daemon) set(f func(*parts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.parts)
}

// attempt brings up what is not up yet.
func (d *Daemon) attempt(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context, parts) error
	}{
		{"state folder", d.openState},
		{"TPM", d.openTPM},
		{"attestation key", d.provision},
		{"measurement log", d.openLedger},
		{"applications", d.startApps},
		{"attester", d.startAttester},
	} {
		begin := time.Now()
		if err := step.do(ctx, d.up()); err != nil {
			return err
		}
		d.log.Debug("brought up", "part", step.what, "took", time.Since(begin))
	}
	return nil
}

// close lets go of the devices and folders.
func (d *Daemon) close() error {
	d.closeStore()
	p := d.up()
	var errs []error
	if p.ak != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		// Behind a resource manager the key goes with the connection; swtpm alone keeps it.
		_ = p.device.Do(ctx, p.ak.Flush)
	}
	if p.device != nil {
		errs = append(errs, p.device.Close())
	}
	errs = append(errs, d.platform.close())
	for _, dir := range []*durable.Dir{p.logs, p.sealed, p.state} {
		if dir != nil {
			errs = append(errs, dir.Close())
		}
	}
	return errors.Join(errs...)
}
