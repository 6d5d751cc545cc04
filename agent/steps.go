// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/apps"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
)

func (d *Daemon) openState(_ context.Context, p parts) error {
	if p.state != nil {
		return nil
	}
	dir, err := openFolder(d.o.Config.State.Folder)
	if err != nil {
		return fmt.Errorf("open state folder %s: %w", d.o.Config.State.Folder, err)
	}
	if err := dir.Lock(); err != nil {
		dir.Close()
		err = fmt.Errorf("lock state folder %s: %w", d.o.Config.State.Folder, err)
		var locked *durable.LockedError
		if errors.As(err, &locked) {
			return &refusal{err}
		}
		return err
	}
	d.set(func(p *parts) { p.state = dir })
	return nil
}

// openFolder opens a folder of the daemon, which is made where only the last name of
// its path is missing.
func openFolder(path string) (*durable.Dir, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return durable.Open(path)
}

func (d *Daemon) openTPM(ctx context.Context, p parts) error {
	if p.device == nil {
		device, err := d.o.Machine.OpenTPM(ctx)
		if err != nil {
			return fmt.Errorf("%w: %w", errNoTPM, err)
		}
		d.set(func(p *parts) { p.device = device })
		p.device = device
	}
	err := p.device.Do(ctx, func(t transport.TPM) error {
		if err := registers.CheckIndex(t, d.o.Config.Measurement.PCR); err != nil {
			return err
		}
		_, err := registers.ActiveBanks(t)
		return err
	})
	var index *registers.IndexError
	var banks *registers.UnknownBankError
	if errors.As(err, &index) || errors.As(err, &banks) {
		return &refusal{err}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNoTPM, err)
	}
	return nil
}

func (d *Daemon) openLedger(ctx context.Context, p parts) error {
	if p.ledger != nil {
		return nil
	}
	if p.logs == nil {
		dir, err := openFolder(d.o.Config.Measurement.LogFolder)
		if err != nil {
			return fmt.Errorf("open log folder %s: %w", d.o.Config.Measurement.LogFolder, err)
		}
		d.set(func(q *parts) { q.logs = dir })
		p.logs = dir
	}
	l, err := ledger.Open(ctx, ledger.Config{
		Log: p.logs, State: p.state, TPM: p.tpm,
		PCR: d.o.Config.Measurement.PCR, Limit: d.o.Config.Limits.LogBytes, Kernel: d.o.Machine.BootID,
	})
	if errors.Is(err, ledger.ErrLocked) {
		return &refusal{err}
	}
	if err != nil {
		return err
	}
	if s := l.State(); !s.Synchronised {
		d.log.Error("measurement log and PCR are desynchronised: evidence is refused until the next boot", "reason", s.Reason)
	}
	d.set(func(q *parts) { q.ledger = l })
	return nil
}

// startApps reads the declarations, records this start of the agent, and measures.
func (d *Daemon) startApps(ctx context.Context, p parts) error {
	if p.apps != nil {
		return nil
	}
	a, err := apps.New(apps.Config{Recorder: p.ledger, Directories: slices.Clone(d.o.Config.Measurement.ApplicationFolders), Logger: d.log})
	if err != nil {
		return err
	}
	if err := restore(a, p.ledger); err != nil {
		return err
	}
	_, err = a.Reload(ctx, d.announce(p.ledger, pcr.EventAgent))
	if errors.Is(err, ledger.ErrDesynchronised) || errors.Is(err, ledger.ErrFull) {
		// Nothing can be recorded any more; status still lists what is declared.
		_, err = a.Reload(ctx, nil)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotUp, err)
	}
	d.set(func(q *parts) { q.apps = a })
	return nil
}

// restore tells a what this boot's log says of applications already.
func restore(a *apps.Apps, l *ledger.Ledger) error {
	log, err := l.View().Log(0)
	if err != nil {
		return err
	}
	records, err := pcr.DecodeLog(log.Records, 0)
	if err != nil {
		return fmt.Errorf("read the measurement log: %w", err)
	}
	for _, r := range records {
		e, err := r.Event()
		if err != nil {
			return fmt.Errorf("read the measurement log: record %d: %w", r.Number, err)
		}
		a.Restore(r.Number, e)
	}
	return nil
}

func (d *Daemon) startAttester(_ context.Context, p parts) error {
	if p.attester != nil {
		return nil
	}
	a, err := attest.New(attest.Config{
		TPM: p.tpm, Ledger: p.ledger, Platform: d.platform, AgentKey: d.key,
		QuoteTimeout:  time.Duration(d.o.Config.TPM.Timeout),
		ReportTimeout: time.Duration(d.o.Config.Report.Timeout),
		FirmwareLog:   func() ([]byte, error) { return readFirmwareLog(d.o.Config.Measurement.FirmwareLog) },
		Log:           d.log,
	})
	if err != nil {
		return &refusal{err}
	}
	d.set(func(q *parts) { q.attester = a })
	return nil
}
