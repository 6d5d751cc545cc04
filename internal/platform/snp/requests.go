// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// Room for the host's certificate table in bytes. Linux takes at most firstTable
// today; a host that wants more than maxTable gets no room for it.
const (
	pageSize   = 4096
	firstTable = 4 * pageSize
	maxTable   = 16 * pageSize
)

// Report asks for a report over data, with the host's certificates. A host that
// sends garbage for a table, or wants too much room, loses only its table.
func (d *Device) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	r := &reportRequest{data: data, vmpl: d.options.VMPL}
	m, tableErr, err := d.askForReport(ctx, r)
	if err != nil {
		return platform.Report{}, fmt.Errorf("ask for a report: %w", err)
	}
	b, err := reportAnswer(m.Response, r.over, d.options.VMPL)
	if err != nil {
		return platform.Report{}, fmt.Errorf("ask for a report: %w", err)
	}
	return d.report(b, m, tableErr), nil
}

// ServiceData returns the report data of an SVSM's report, over a nonce and the manifest of a
// service.
func ServiceData(nonce [64]byte, manifest []byte) [64]byte {
	return sha512.Sum512(slices.Concat(nonce[:], manifest))
}

// ServiceReport asks an SVSM for a report over data and the manifest of one of its services. The
// SVSM makes it at VMPL 0, over SHA-512(data, then manifest) (Secure VM Service Module for
// SEV-SNP Guests, publication 58019, "Attestation protocol"). The transport must know services.
func (d *Device) ServiceReport(ctx context.Context, data platform.Data, s Service) (r platform.Report, manifest []byte, err error) {
	q := &reportRequest{data: data, vmpl: 0, service: &s}
	m, tableErr, err := d.askForReport(ctx, q)
	if err != nil {
		return platform.Report{}, nil, fmt.Errorf("ask the SVSM for a report: %w", err)
	}
	b, err := reportAnswer(m.Response, ServiceData(q.over, m.Manifest), 0)
	if err != nil {
		return platform.Report{}, nil, fmt.Errorf("ask the SVSM for a report: %w", err)
	}
	return d.report(b, m, tableErr), m.Manifest, nil
}

// report returns a report with the certificates of the host's table, unless that is left out.
func (d *Device) report(b []byte, m *Message, tableErr error) platform.Report {
	var certificates [][]byte
	if tableErr = cmp.Or(tableErr, m.TableError); tableErr == nil {
		certificates, tableErr = d.table.read(m.Table)
	}
	return platform.Report{Bytes: b, Certificates: d.withStapled(certificates), TableError: tableErr}
}

// lastTable is the host's certificate table of the last report, and what is in it. The host sends
// the same one with every report, and parsing it takes as long as a quote's signature.
type lastTable struct {
	mu           sync.Mutex // guards both
	bytes        []byte
	certificates [][]byte
}

// read returns the certificates in b, which must not be changed later.
func (l *lastTable) read(b []byte) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes != nil && bytes.Equal(b, l.bytes) {
		return l.certificates, nil
	}
	certificates, err := report.TableCertificates(b)
	if err == nil {
		l.bytes, l.certificates = b, certificates
	}
	return certificates, err
}

// races is how often a request is sent if others interfere with it.
const races = 3

// askForReport asks until no other program interferes. Each time waits for its turn and for the
// spacing again.
func (d *Device) askForReport(ctx context.Context, r *reportRequest) (m *Message, tableErr, err error) {
	for range races {
		if m, tableErr, err = d.askOnce(ctx, r); !errors.Is(err, ErrRaced) {
			break
		}
	}
	return m, tableErr, err
}

// askOnce sends an extended request, once more if the host wants more room for its table, and a
// plain one if it wants more than is reasonable.
func (d *Device) askOnce(ctx context.Context, r *reportRequest) (m *Message, tableErr, err error) {
	for range 2 {
		m = &Message{Command: GetExtendedReport, Response: make([]byte, reportResponseSize), Table: make([]byte, d.room.Load()), Service: r.service}
		if err := d.exchange(ctx, m, r.fill(m)); !errors.Is(err, errTableTooSmall) {
			return m, nil, err
		}
		if m.TableSize <= uint32(len(m.Table)) || m.TableSize > maxTable {
			break
		}
		d.room.Store((m.TableSize + pageSize - 1) / pageSize * pageSize)
	}
	tableErr = fmt.Errorf("certificate table: the host wants %d bytes and was given %d, at most %d are given", m.TableSize, len(m.Table), maxTable)
	m = &Message{Command: GetReport, Response: make([]byte, reportResponseSize), Service: r.service}
	return m, tableErr, d.exchange(ctx, m, r.fill(m))
}

// A reportRequest is one request for a report, which may be sent more than once.
type reportRequest struct {
	data    platform.Data
	vmpl    uint32
	service *Service // of an SVSM; nil for a report of the firmware itself

	known bool
	over  [64]byte // what data returned, if known
}

// fill returns what completes m when its turn has come. The data is asked for once: what is
// sent again is the same request.
func (r *reportRequest) fill(m *Message) func(context.Context) error {
	return func(ctx context.Context) (err error) {
		if !r.known {
			if r.over, err = r.data(ctx); err != nil {
				return err
			}
			r.known = true
		}
		m.Request = reportMessage(r.over, r.vmpl)
		return nil
	}
}

// Keys returns the device, which derives keys too unless the options say that it cannot.
func (d *Device) Keys() platform.Keys {
	if d.options.WithoutKeys {
		return nil
	}
	return d
}

// Reading asks for a report and returns the parts that go into a derived key. The TCB is the
// committed one: it is the highest that firmware derives for, and only goes up. The signature
// is not checked: a forged report can explain wrongly why a key is missing, or keep this
// machine from asking for one. It cannot change which key the firmware gives to which guest.
func (d *Device) Reading(ctx context.Context) (sealing.Reading, error) {
	got, err := d.Report(ctx, platform.Fixed([64]byte{}))
	if err != nil {
		return sealing.Reading{}, err
	}
	r, err := report.ParseReport(got.Bytes)
	if err != nil {
		return sealing.Reading{}, fmt.Errorf("read the report for sealing: %w", err)
	}
	return sealing.Reading{
		ChipID: r.ChipID, Measurement: r.Measurement, GuestPolicy: uint64(r.Policy), VMPL: r.VMPL, TCB: sealing.TCBOf(uint64(r.CommittedTCB)),
	}, nil
}

// DeriveKey asks for the key of this guest on this chip under tcb, the only one that can be
// asked for: see [platform.Keys].
func (d *Device) DeriveKey(ctx context.Context, tcb sealing.TCB) (*secret.Secret, error) {
	if tcb == (sealing.TCB{}) {
		return nil, platform.ErrTCBZero
	}
	k, err := d.askForKey(ctx, d.options.VMPL, keyProbe{Root: keyRoot, Fields: keyFields, TCB: tcb.Uint64()})
	if err != nil {
		return nil, fmt.Errorf("ask for a derived key: %w", err)
	}
	return k, nil
}

// askForKey asks for the key of p, of this guest at vmpl.
func (d *Device) askForKey(ctx context.Context, vmpl uint32, p keyProbe) (*secret.Secret, error) {
	m := &Message{Command: GetDerivedKey, Request: keyRequest(vmpl, p), Response: make([]byte, keyResponseSize)}
	if err := d.exchange(ctx, m, nil); err != nil {
		return nil, err
	}
	defer clear(m.Response)
	if err := status(m.Response); err != nil {
		return nil, err
	}
	return platform.TakeKey(m.Response[answerHeader:])
}

// Staple replaces the certificates that are added to the host's.
func (d *Device) Staple(ders [][]byte) error {
	if len(ders) > evidence.MaxCertificates {
		return fmt.Errorf("staple %d certificates: at most %d fit", len(ders), evidence.MaxCertificates)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stapled = ders
	return nil
}

// withStapled returns the host's certificates and the stapled ones, each once. Stapled ones
// come first: if there are too many, those of the host are left out.
func (d *Device) withStapled(table [][]byte) [][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out [][]byte
	for _, der := range slices.Concat(d.stapled, table) {
		known := slices.ContainsFunc(out, func(have []byte) bool { return bytes.Equal(have, der) })
		if !known && len(out) < evidence.MaxCertificates {
			out = append(out, bytes.Clone(der)) // a table shares one large buffer
		}
	}
	return out
}
