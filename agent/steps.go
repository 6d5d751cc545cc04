// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/attest"
	"github.com/cvm-agentd/agentd/agent/internal/containers"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/gate"
	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/agent/internal/peer"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/boottime"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
)

// steps returns what brings the parts up, each on the one before.
func (d *daemon) steps() []startup.Step {
	return []startup.Step{
		{What: "state folder", Do: d.state.Once(d.openState)},
		{What: "TPM", Do: d.openTPM},
		{What: "attestation key", Do: d.enroller.Provision},
		{What: "measurement log", Do: d.ledger.Once(d.openLedger)},
		{What: "applications", Do: d.apps.Once(d.startApps)},
		{What: "attester", Do: d.attester.Once(d.startAttester)},
	}
}

func (d *daemon) openState(context.Context) (*durable.Dir, error) {
	folder := d.o.Config.State.Folder
	dir, err := durable.Make(folder)
	if err != nil {
		return nil, fmt.Errorf("open state folder %s: %w", folder, err)
	}
	if err := dir.Lock(); err != nil {
		dir.Close()
		err = fmt.Errorf("lock state folder %s: %w", folder, err)
		if _, locked := errors.AsType[*durable.LockedError](err); locked {
			return nil, &startup.Refusal{Err: err}
		}
		return nil, err
	}
	return dir, nil
}

// openTPM opens the TPM, and looks at it at each attempt, since it may have stopped working.
func (d *daemon) openTPM(ctx context.Context) error {
	device, up := d.device.Now()
	if !up {
		var err error
		if device, err = d.o.Machine.OpenTPM(ctx); err != nil {
			return fmt.Errorf("%w: %w", enrol.ErrNoTPM, err)
		}
		d.device.Set(device)
	}
	err := device.Do(ctx, func(t transport.TPM) error {
		m := d.o.Config.Measurement
		if err := registers.CheckIndex(t, m.PCR); err != nil {
			return err
		}
		if m.EventsPCR != 0 {
			if err := registers.CheckIndex(t, m.EventsPCR); err != nil {
				return err
			}
		}
		_, err := registers.ActiveBanks(t)
		return err
	})
	_, index := errors.AsType[*registers.IndexError](err)
	_, bank := errors.AsType[*registers.UnknownBankError](err)
	if index || bank {
		return &startup.Refusal{Err: err}
	}
	if err != nil {
		return fmt.Errorf("%w: %w", enrol.ErrNoTPM, err)
	}
	return nil
}

// quotes returns the TPM for quotes by the attestation key. Both are up. Ledger and attester get
// the same, which remembers what a quote showed: see [vtpm.TPM.Read].
func (d *daemon) quotes() (*vtpm.TPM, error) {
	selection, err := pcr.ParseSelection(d.o.Config.TPM.PCRs)
	if err != nil {
		return nil, &startup.Refusal{Err: err}
	}
	device, _ := d.device.Now()
	ak, _ := d.enroller.Key()
	if d.quoting == nil || d.quoting.Device != device || d.quoting.AK != ak {
		d.quoting = &vtpm.TPM{Device: device, AK: ak, Selection: selection}
	}
	return d.quoting, nil
}

func (d *daemon) openLedger(ctx context.Context) (*ledger.Ledger, error) {
	m := d.o.Config.Measurement
	logs, up := d.logs.Now()
	if !up {
		var err error
		if logs, err = durable.Make(m.LogFolder); err != nil {
			return nil, fmt.Errorf("open log folder %s: %w", m.LogFolder, err)
		}
		d.logs.Set(logs)
	}
	ends, err := d.o.Machine.LogEndsWithBoot(logs)
	if err != nil {
		return nil, fmt.Errorf("open log folder %s: %w", m.LogFolder, err)
	}
	if !ends {
		d.log.Warn("a boot does not empty the log folder: an attacker who writes the disk and resets the TPM can have the log of this boot replaced; use a folder below /run", "folder", m.LogFolder)
	}
	t, err := d.quotes()
	if err != nil {
		return nil, err
	}
	state, _ := d.state.Now()
	l, err := ledger.Open(ctx, ledger.Config{
		Log: logs, State: state, TPM: t, PCR: m.PCR, Events: m.EventsPCR, Limit: d.o.Config.Limits.LogBytes, Kernel: d.o.Machine.BootID,
		Volatile: ends, Now: boottime.Now,
	})
	if errors.Is(err, ledger.ErrLocked) {
		return nil, &startup.Refusal{Err: err}
	}
	if err != nil {
		return nil, err
	}
	if aside := l.State().Aside; aside != "" {
		d.log.Warn("the state of the measurement log begins anew: what was known of earlier boots, and of this log, is lost", "file", aside)
	}
	if pending := l.State().Pending; pending != "" {
		d.log.Warn("the configuration of this boot's measurement log was changed", "pending", pending)
	}
	if s := l.State(); !s.Synchronised {
		d.log.Error("measurement log and PCR are desynchronised: evidence is refused until the next boot", "reason", s.Reason)
	}
	return l, nil
}

// The start waits for measurements, but not for a file system that hangs. An app that the agent
// before handed over was covered until now, and evidence in between would not say so. Other apps
// have nothing to lose: small ones are over by then, and units wait for their own.
var startPatience = patience{all: 50 * time.Millisecond, inherited: 2 * time.Second}

// patience is how long the start waits for the first measurements.
type patience struct {
	all       time.Duration
	inherited time.Duration // for those of apps that were handed over
}

// startApps reads the declarations, records this start of the agent, and has apps measured.
func (d *daemon) startApps(ctx context.Context) (_ *apps.Apps, err error) {
	l, _ := d.ledger.Now()
	m := d.o.Config.Measurement
	c := apps.Config{
		AnswerTimeout: time.Duration(m.AnswerTimeout), Timeout: time.Duration(m.Timeout), UnaskedBytes: uint64(m.UnaskedBytes),
		Workers:  d.o.Config.Limits.HashingWorkers,
		Recorder: l, Directories: slices.Clone(m.ApplicationFolders), Logger: d.log,
		DynamicUser: peer.DynamicUsers{}.Name,
		Head:        func() evidence.LogHead { return l.View().Head },
	}
	if d.store.Exists() {
		c.Keep = d.store.Keep
	}
	a, err := apps.New(c)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	if err := restore(a, d.containers, d.gate, l); err != nil {
		return nil, err
	}
	if err := a.Inherit(d.kept, l.View().HeadAfter); err != nil {
		d.log.Warn("what the agent before handed over cannot be used", "error", err)
	}
	change, err := a.Reload(ctx, d.identity.Announce(l, pcr.EventAgent))
	if errors.Is(err, ledger.ErrDesynchronised) || errors.Is(err, ledger.ErrFull) {
		// Nothing can be recorded until the next boot. The attester gives no evidence without the
		// record of this start; status still lists what is declared.
		change, err = a.Reload(ctx, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", startup.ErrNotUp, err)
	}
	if late := first(ctx, change, startPatience); len(late) > 0 {
		d.log.Info("apps are still being measured", "apps", late)
	}
	return a, nil
}

// first waits for the first measurements, longer for those of apps that were handed over. It
// returns the names of apps whose measurement goes on.
func first(ctx context.Context, c apps.Change, p patience) []string {
	long, cancel := context.WithTimeout(ctx, p.inherited)
	defer cancel()
	short, cancel := context.WithTimeout(ctx, p.all)
	defer cancel()
	c.WaitFor(long, c.Inherited)
	return c.Wait(short)
}

// restore tells a, c and gate what this boot's log says already.
func restore(a *apps.Apps, c *containers.Containers, gate *gate.Server, l *ledger.Ledger) error {
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
		if e.Container != nil {
			c.Restore(r.Number, e.Container, len(r.Content))
		}
		gate.Restore(e)
	}
	gate.Restored()
	return nil
}

// imaList opens the kernel's list of IMA.
func (m *Machine) imaList() (io.ReadCloser, error) {
	if m.IMAList != nil {
		return m.IMAList()
	}
	return attest.OpenIMAList(attest.IMAListPath)
}

// quotesIMA reports whether the PCR of IMA is quoted.
func quotesIMA(s pcr.Selection) bool {
	return slices.ContainsFunc(s, func(b pcr.BankSelection) bool { return slices.Contains(b.PCRs, ima.PCR) })
}

// quoting returns a selection that has every PCR of the log, in a bank that verifiers accept. The
// configuration may have been changed since the log began.
func quoting(s pcr.Selection, log []pcr.Register) pcr.Selection {
	for _, r := range log {
		strong := func(b pcr.BankSelection) bool { return b.Algorithm != pcr.SHA1 }
		i := slices.IndexFunc(s, strong)
		if i < 0 || slices.ContainsFunc(s, func(b pcr.BankSelection) bool { return strong(b) && slices.Contains(b.PCRs, r.PCR) }) {
			continue
		}
		s = slices.Clone(s)
		s[i].PCRs = slices.Sorted(slices.Values(append(slices.Clone(s[i].PCRs), r.PCR)))
	}
	return s
}

func (d *daemon) startAttester(context.Context) (*attest.Attester, error) {
	t, err := d.quotes()
	if err != nil {
		return nil, err
	}
	l, _ := d.ledger.Now()
	t.Selection = quoting(t.Selection, l.View().Registers)
	device, _ := d.device.Now()
	a, err := attest.New(attest.Config{
		TPM: t, Ledger: l, Platform: d.platform, AgentKey: d.identity.Key, Down: device.Down, Before: d.gate.Confirm,
		QuoteTimeout:  time.Duration(d.o.Config.TPM.Timeout),
		ReportTimeout: time.Duration(d.o.Config.Report.Timeout),
		FirmwareLog:   func() ([]byte, error) { return attest.ReadFirmwareLog(d.o.Config.Measurement.FirmwareLog) },
		IMA:           attest.NewIMAList(d.o.Machine.imaList),
		IMAQuoted:     quotesIMA(t.Selection),
		Log:           d.log,
	})
	if err != nil {
		return nil, &startup.Refusal{Err: err}
	}
	return a, nil
}
