// SPDX-License-Identifier: Apache-2.0

// Package snproot is the SNP side of sealing: it reads from an attestation report what
// goes into a derived key.
package snproot

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Platform implements store.Platform over a report device.
type Platform struct {
	// Report asks for a report over data and returns its 1184 bytes.
	Report func(ctx context.Context, data [64]byte) ([]byte, error)
	// Derive asks for the 32-byte key of this guest on this chip under a TCB; see
	// store.Deriver for what it always mixes in.
	Derive func(ctx context.Context, tcb uint64) ([]byte, error)
	// Probe asks for the fingerprint of another key; see store.Prober.
	Probe func(ctx context.Context, p store.KeyProbe) ([32]byte, error)
}

var (
	_ store.Platform = Platform{}
	_ store.Prober   = Platform{}
)

// Fingerprint passes the request on.
func (p Platform) Fingerprint(ctx context.Context, k store.KeyProbe) ([32]byte, error) {
	return p.Probe(ctx, k)
}

// DeriveKey passes the request on.
func (p Platform) DeriveKey(ctx context.Context, tcb uint64) ([]byte, error) {
	return p.Derive(ctx, tcb)
}

// Reading asks for a report. Its signature is not looked at: a forged one can explain
// wrongly why a key is missing, or keep this machine from asking for one; it cannot
// change which key the firmware gives to whom.
func (p Platform) Reading(ctx context.Context) (sealing.Reading, error) {
	b, err := p.Report(ctx, [64]byte{})
	if err != nil {
		return sealing.Reading{}, err
	}
	r, err := snp.ParseReport(b)
	if err != nil {
		return sealing.Reading{}, fmt.Errorf("read the report for sealing: %w", err)
	}
	return Of(r), nil
}

// Of is what r says that goes into a derived key. The TCB is the committed one: it is
// the highest that firmware derives for, and only goes up.
func Of(r *snp.Report) sealing.Reading {
	out := sealing.Reading{
		ChipID:      r.ChipID,
		Measurement: r.Measurement,
		GuestPolicy: uint64(r.Policy),
		VMPL:        r.VMPL,
	}
	binary.LittleEndian.PutUint64(out.TCB[:], uint64(r.CommittedTCB))
	return out
}
