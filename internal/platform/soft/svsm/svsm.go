// SPDX-License-Identifier: Apache-2.0

// Package svsm is an SVSM in software, for development and tests: what it says about a vTPM is
// in the real format, and vouches for nothing.
package svsm

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	agent "github.com/cvm-agentd/agentd/internal/platform/svsm"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// GuestVMPL is the level of the guest above it.
const GuestVMPL = 2

// SVSM answers as COCONUT-SVSM does, and with manifests of version 1 if it has an attestation key.
type SVSM struct {
	Firmware snp.Transport          // of a guest launched at VMPL 0
	EK       func() ([]byte, error) // TPMT_PUBLIC of the vTPM's endorsement key
	AK       func() ([]byte, error) // TPMT_PUBLIC of its attestation key; nil if it knows version 0 alone

	// Manifest, unless nil, changes the manifest before the report is made over it, Hand after.
	Manifest, Hand func(manifest []byte) []byte
}

// Report makes the report of a service over a nonce, and the service's manifest. It knows the
// vTPM alone.
func (s *SVSM) Report(nonce [64]byte, guid string, version uint32) (signed, manifest []byte, err error) {
	if guid != agent.VTPM || version > 1 || version == 1 && s.AK == nil {
		return nil, nil, unix.EINVAL
	}
	m := tpmwire.Manifest{Version: version}
	if m.EK, err = s.EK(); err != nil {
		return nil, nil, err
	}
	if version == 1 {
		if m.AK, err = s.AK(); err != nil {
			return nil, nil, err
		}
	}
	if manifest = m.Bytes(); s.Manifest != nil {
		manifest = s.Manifest(manifest)
	}
	data := sha512.Sum512(slices.Concat(nonce[:], manifest))
	q := &snp.Message{Command: snp.GetReport, Request: append(data[:], make([]byte, 32)...), Response: make([]byte, 4000)} // VMPL 0
	if _, err := s.Firmware.Exchange(q); err != nil {
		return nil, nil, err
	}
	if status := binary.LittleEndian.Uint32(q.Response); status != 0 {
		return nil, nil, fmt.Errorf("status 0x%x of the software firmware: %w", status, unix.EIO)
	}
	if s.Hand != nil {
		manifest = s.Hand(manifest)
	}
	return q.Response[32 : 32+report.ReportSize], manifest, nil
}

// Entry returns the attributes of configfs-tsm in a guest above the SVSM.
func (s *SVSM) Entry() *tsm.Entry {
	return tsm.New(tsm.Options{Firmware: s.Guest(), Floor: GuestVMPL, SVSM: s.Report})
}

// Guest returns the SNP driver's device in that guest: the firmware refuses lower levels to it.
func (s *SVSM) Guest() snp.Transport { return guest{s.Firmware} }

type guest struct{ snp.Transport }

// Exchange follows [snp.Transport].
func (g guest) Exchange(m *snp.Message) (exitInfo uint64, err error) {
	at := 64 // of the VMPL in MSG_REPORT_REQ
	if m.Command == snp.GetDerivedKey {
		at = 16
	}
	if len(m.Request) < at+4 || binary.LittleEndian.Uint32(m.Request[at:]) < GuestVMPL {
		const invalid = 0x16 // INVALID_PARAM
		clear(m.Response)
		binary.LittleEndian.PutUint32(m.Response, invalid)
		return 0, nil
	}
	return g.Transport.Exchange(m)
}
