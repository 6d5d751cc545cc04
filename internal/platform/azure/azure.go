// SPDX-License-Identifier: Apache-2.0

// Package azure asks the paravisor of an Azure machine for reports. The paravisor (HCL) is
// firmware below the guest, runs its vTPM, and alone asks the SNP firmware. A guest talks to it
// through two NV indices of the vTPM:
//
//   - 0x01400002: 64 bytes of the guest. It is the guest that defines the index.
//   - 0x01400001: a report over runtime data that contain these 64 bytes and the key at
//     0x81000003 (see [tpmwire.HCL]). Reading makes a new report if the last one is more than two
//     seconds old. Otherwise the old one comes back, silently.
//
// So a report is accepted only if its user data are those that were asked for. What comes back
// otherwise is of before, or another program wrote 64 bytes of its own between our write and our
// read: then the room waits and asks again. It never puts parts of two reports together: the
// index is read in pieces, and the whole must be what the report in it is over.
//
// Root in the guest, and each program that may open the TPM with owner authorization, can write
// 0x01400002 again and again, so that no report of ours comes: [platform.ErrStale]. It cannot
// get a report of ours for bytes of its own. Nothing is stored; a crash leaves the 64 bytes of
// before in the index, which the next request overwrites.
package azure

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/internal/turn"
)

// Renewal is how old the last report must be for a read to make a new one: a little more than
// the paravisor's two seconds, by a clock that is not its own.
const Renewal = 2200 * time.Millisecond

// tries is how many times the paravisor is asked for one report. With the pauses that is about
// 20 s: a program that writes the index again and again is to be told of, not outlasted.
const tries = 10

// DefaultTimeout bounds a request if its caller does not.
const DefaultTimeout = 75 * time.Second

// Options of a [Device].
type Options struct {
	Spacing time.Duration                 // least time between two requests; at least Renewal
	Timeout time.Duration                 // of a request, with its time in the queue; 0 is DefaultTimeout
	Auths   func() (tpmkeys.Auths, error) // authorization of the owner; nil: none is set
	Renewal time.Duration                 // 0 is the constant Renewal; for tests
}

func (o Options) withDefaults() Options {
	o.Timeout, o.Renewal = cmp.Or(max(o.Timeout, 0), DefaultTimeout), cmp.Or(max(o.Renewal, 0), Renewal)
	if o.Auths == nil {
		o.Auths = func() (tpmkeys.Auths, error) { return tpmkeys.Auths{}, nil }
	}
	return o
}

// Device is the one way of the agent to the paravisor. Its requests wait in one queue. It is a
// [platform.Platform] without keys: the guest has no access to the SNP firmware.
type Device struct {
	tpm     platform.TPM
	options Options
	turn    *turn.Queue // of one; guards last
	last    time.Time   // when the index was last read

	open  context.Context // ended by Close
	close context.CancelFunc

	mu      sync.Mutex // guards stapled
	stapled [][]byte
}

var _ platform.Platform = (*Device)(nil)

var errClosed = errors.New("report device is closed")

// Open opens the paravisor's report, and looks whether the indices can be used. The error is
// [platform.ErrAbsent] if the vTPM has no such report.
func Open(ctx context.Context, t platform.TPM, o Options) (*Device, error) {
	o = o.withDefaults()
	d := &Device{tpm: t, options: o, turn: turn.New(turn.Options{Floor: 1})}
	d.open, d.close = context.WithCancel(context.Background())
	err := d.do(ctx, func(x transport.TPM, _ tpmkeys.Auths) error {
		_, err := findReport(x)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open the report of the paravisor: %w", err)
	}
	return d, nil
}

// Kind returns [evidence.ReportParavisor].
func (*Device) Kind() evidence.ReportKind { return evidence.ReportParavisor }

// Keys returns nil: no guest of a paravisor derives keys.
func (*Device) Keys() platform.Keys { return nil }

// Turns returns what the queue of requests counts.
func (d *Device) Turns() turn.Stats { return d.turn.Stats() }

// Staple replaces the certificates that reports carry. The vTPM has none.
func (d *Device) Staple(ders [][]byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stapled = ders
	return nil
}

// Close ends the device, and the wait of each request.
func (d *Device) Close() error {
	d.close()
	return nil
}

// do runs f on the TPM, in one sequence of commands.
func (d *Device) do(ctx context.Context, f func(transport.TPM, tpmkeys.Auths) error) error {
	device, up := d.tpm()
	if !up {
		return fmt.Errorf("the TPM is not up: %w", platform.ErrNotYet)
	}
	auths, err := d.options.Auths()
	if err != nil {
		return err
	}
	return device.Do(ctx, func(t transport.TPM) error { return f(t, auths) })
}

// Report asks for a report over data, see [platform.Reporter].
func (d *Device) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, d.options.Timeout)
	defer cancel()
	defer context.AfterFunc(d.open, cancel)()
	leave, err := d.turn.Enter(ctx, 1)
	if err != nil {
		return platform.Report{}, d.waited(ctx, "for its turn: an earlier request has no answer yet")
	}
	defer leave()
	if err := d.pause(ctx, d.options.Spacing); err != nil {
		return platform.Report{}, err
	}
	over, err := data(ctx)
	if err != nil {
		return platform.Report{}, err
	}
	blob, err := d.ask(ctx, over)
	if err != nil {
		return platform.Report{}, fmt.Errorf("ask the paravisor for a report: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return platform.Report{Bytes: blob, Certificates: d.stapled}, nil
}

// ask asks until the report is over data, and not of before.
func (d *Device) ask(ctx context.Context, data [64]byte) ([]byte, error) {
	var err error
	for range tries {
		if pause := d.pause(ctx, 0); pause != nil {
			return nil, errors.Join(pause, err)
		}
		torn := errors.Is(err, platform.ErrMalformed) // once: it may have been renewed between two pieces
		var blob []byte
		blob, err = d.exchange(ctx, data)
		if again := errors.Is(err, platform.ErrStale) || !torn && errors.Is(err, platform.ErrMalformed); !again {
			return blob, d.ended(ctx, err)
		}
	}
	return nil, fmt.Errorf("after %d tries: %w", tries, err)
}

// pause waits until the index may be read again.
func (d *Device) pause(ctx context.Context, spacing time.Duration) error {
	wait := time.Until(d.last.Add(max(spacing, d.options.Renewal)))
	if d.last.IsZero() || wait <= 0 {
		return nil
	}
	select {
	case <-time.After(wait):
		return nil
	case <-ctx.Done():
		return d.waited(ctx, "until the paravisor makes a new report")
	}
}

// ended returns why a request ended: because its time or the device did, or err.
func (d *Device) ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.Join(d.waited(ctx, "for the vTPM"), err)
	}
	return err
}

// waited returns the error of a wait that ended with ctx.
func (d *Device) waited(ctx context.Context, what string) error {
	switch {
	case d.open.Err() != nil:
		return errClosed
	case errors.Is(ctx.Err(), context.Canceled):
		return fmt.Errorf("paravisor: waited %s: %w", what, ctx.Err())
	}
	return fmt.Errorf("paravisor: waited %s: %w (%w)", what, platform.ErrTimedOut, ctx.Err())
}

// exchange writes data, reads the report, and checks that it is over data.
func (d *Device) exchange(ctx context.Context, data [64]byte) ([]byte, error) {
	var blob []byte
	var names *tpmwire.Key
	err := d.do(ctx, func(t transport.TPM, a tpmkeys.Auths) (err error) {
		if err = writeUserData(t, a, data); err != nil {
			return err
		}
		if blob, err = readReport(t, a); err != nil {
			return err
		}
		names, err = keptKey(t)
		return err
	})
	d.last = time.Now()
	if err != nil {
		return nil, err
	}
	return check(blob, data, names)
}

// check returns the blob as it is in evidence if it has the report that was asked for.
func check(index []byte, data [64]byte, ak *tpmwire.Key) ([]byte, error) {
	h, err := tpmwire.ParseHCL(index)
	if err == nil {
		h, err = tpmwire.ParseHCLOfSNP(index[:h.Size])
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", platform.ErrMalformed, err)
	}
	key, err := h.AttestationKey()
	over := h.ReportData()
	switch {
	case h.Size > evidence.MaxReport:
		return nil, fmt.Errorf("%w: it has %d bytes, and evidence has room for %d", platform.ErrMalformed, h.Size, evidence.MaxReport)
	case !bytes.Equal(h.Report[atReportData:][:len(over)], over[:]):
		return nil, fmt.Errorf("%w: the report is over other runtime data: it was made anew while it was read", platform.ErrStale)
	case !bytes.Equal(h.UserData, data[:]):
		return nil, fmt.Errorf("%w: its user data are not those that were asked for: it is of before, or another program wrote NV index 0x%08x", platform.ErrStale, uint32(nvUserData))
	case binary.LittleEndian.Uint32(h.Report[atVMPL:]) != 0:
		return nil, fmt.Errorf("%w: the report was asked for at VMPL %d, and a paravisor asks at 0", platform.ErrVMPL, binary.LittleEndian.Uint32(h.Report[atVMPL:]))
	case err != nil:
		return nil, fmt.Errorf("%w: %w", platform.ErrMalformed, err)
	case ak.RSA == nil || !ak.RSA.Equal(key.RSA):
		return nil, fmt.Errorf("%w: the runtime data name another key than the one at 0x%08x", platform.ErrOtherKey, uint32(tpmkeys.AzureAK))
	}
	return index[:h.Size], nil
}

// Offsets in a report (SEV-SNP Firmware ABI Specification, table "ATTESTATION_REPORT Structure").
const (
	atVMPL       = 0x30
	atReportData = 0x50
)
