// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// numbers is a byte string as virtee's tools print it: a list of numbers.
type numbers []uint16

// into copies n over b, if it has that size, and reports whether it has.
func (n numbers) into(b []byte) bool {
	if len(n) != len(b) {
		return false
	}
	for i, x := range n {
		if x > 0xff {
			return false
		}
		b[i] = byte(x)
	}
	return true
}

// A virteeTCB is a TCB_VERSION. Processors from Turin on have an fmc in it.
type virteeTCB struct {
	FMC        *uint8         `json:"fmc"`
	BootLoader *uint8         `json:"bootloader"`
	TEE        *uint8         `json:"tee"`
	SNP        *uint8         `json:"snp"`
	Microcode  *uint8         `json:"microcode"`
	Others     jsontext.Value `json:",embed"`
}

func (t *virteeTCB) into(b []byte) bool {
	if t == nil || t.BootLoader == nil || t.TEE == nil || t.SNP == nil || t.Microcode == nil || t.Others != nil {
		return false
	}
	clear(b)
	b[7] = *t.Microcode
	if t.FMC != nil {
		b[0], b[1], b[2], b[3] = *t.FMC, *t.BootLoader, *t.TEE, *t.SNP
	} else {
		b[0], b[1], b[6] = *t.BootLoader, *t.TEE, *t.SNP
	}
	return true
}

// A virteeVersion is a version of the firmware.
type virteeVersion struct {
	Major  *uint8         `json:"major"`
	Minor  *uint8         `json:"minor"`
	Build  *uint8         `json:"build"`
	Others jsontext.Value `json:",embed"`
}

func (v *virteeVersion) into(b []byte) bool {
	if v == nil || v.Major == nil || v.Minor == nil || v.Build == nil || v.Others != nil {
		return false
	}
	b[0], b[1], b[2] = *v.Build, *v.Minor, *v.Major
	return true
}

// A virteeReport is a report member by member, as virtee's library prints it and as Trustee's
// attester sends it. The reserved bytes are not in it.
type virteeReport struct {
	Version      *uint32        `json:"version"`
	GuestSVN     *uint32        `json:"guest_svn"`
	Policy       *uint64        `json:"policy"`
	FamilyID     numbers        `json:"family_id"`
	ImageID      numbers        `json:"image_id"`
	VMPL         *uint32        `json:"vmpl"`
	Algorithm    *uint32        `json:"sig_algo"`
	CurrentTCB   *virteeTCB     `json:"current_tcb"`
	PlatformInfo *uint64        `json:"plat_info"`
	KeyInfo      *uint32        `json:"key_info"`
	ReportData   numbers        `json:"report_data"`
	Measurement  numbers        `json:"measurement"`
	HostData     numbers        `json:"host_data"`
	IDKey        numbers        `json:"id_key_digest"`
	AuthorKey    numbers        `json:"author_key_digest"`
	ReportID     numbers        `json:"report_id"`
	ReportIDMA   numbers        `json:"report_id_ma"`
	ReportedTCB  *virteeTCB     `json:"reported_tcb"`
	Family       *uint8         `json:"cpuid_fam_id"`
	Model        *uint8         `json:"cpuid_mod_id"`
	Stepping     *uint8         `json:"cpuid_step"`
	ChipID       numbers        `json:"chip_id"`
	CommittedTCB *virteeTCB     `json:"committed_tcb"`
	Current      *virteeVersion `json:"current"`
	Committed    *virteeVersion `json:"committed"`
	LaunchTCB    *virteeTCB     `json:"launch_tcb"`
	LaunchMit    *uint64        `json:"launch_mit_vector"`
	CurrentMit   *uint64        `json:"current_mit_vector"`
	Signature    *struct {
		R      numbers        `json:"r"`
		S      numbers        `json:"s"`
		Others jsontext.Value `json:",embed"`
	} `json:"signature"`
	Others jsontext.Value `json:",embed"`
}

// reportOfMembers returns the bytes of a report that is spelled out in b, nil if b is not that, or
// could leave out something that the processor signed: a member is missing or not known, or the
// version of the report has members that are not there. What is read wrongly in spite of that has
// no valid signature.
func reportOfMembers(b []byte) []byte {
	var doc struct {
		Report *virteeReport `json:"attestation_report"`
	}
	r := new(virteeReport)
	if err := strictjson.DecodeForeign(b, maxInHand, &doc); err != nil {
		return nil
	}
	if doc.Report != nil { // Trustee's
		r = doc.Report
	} else if err := strictjson.DecodeForeign(b, maxInHand, r); err != nil {
		return nil
	}
	return r.bytes()
}

// bytes returns the report as the firmware writes it (SNP ABI, table ATTESTATION_REPORT).
func (r *virteeReport) bytes() []byte {
	if r.Others != nil || r.Version == nil || r.GuestSVN == nil || r.Policy == nil || r.VMPL == nil || r.Algorithm == nil || r.PlatformInfo == nil || r.KeyInfo == nil ||
		r.Signature == nil || r.Signature.Others != nil {
		return nil
	}
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b, *r.Version)
	le.PutUint32(b[0x004:], *r.GuestSVN)
	le.PutUint64(b[0x008:], *r.Policy)
	le.PutUint32(b[0x030:], *r.VMPL)
	le.PutUint32(b[0x034:], *r.Algorithm)
	le.PutUint64(b[0x040:], *r.PlatformInfo)
	le.PutUint32(b[0x048:], *r.KeyInfo)
	whole := r.FamilyID.into(b[0x010:0x020]) && r.ImageID.into(b[0x020:0x030]) && r.CurrentTCB.into(b[0x038:0x040]) &&
		r.ReportData.into(b[0x050:0x090]) && r.Measurement.into(b[0x090:0x0c0]) && r.HostData.into(b[0x0c0:0x0e0]) &&
		r.IDKey.into(b[0x0e0:0x110]) && r.AuthorKey.into(b[0x110:0x140]) && r.ReportID.into(b[0x140:0x160]) && r.ReportIDMA.into(b[0x160:0x180]) &&
		r.ReportedTCB.into(b[0x180:0x188]) && r.ChipID.into(b[0x1a0:0x1e0]) && r.CommittedTCB.into(b[0x1e0:0x1e8]) &&
		r.Current.into(b[0x1e8:0x1eb]) && r.Committed.into(b[0x1ec:0x1ef]) && r.LaunchTCB.into(b[0x1f0:0x1f8]) &&
		r.Signature.R.into(b[0x2a0:0x2e8]) && r.Signature.S.into(b[0x2e8:0x330])
	if !whole || !r.newer(b) {
		return nil
	}
	return b
}

// newer adds what versions after 2 have, and reports whether the version is known and all of it
// there. Some firmware fills the mitigation vectors in version 4 already.
func (r *virteeReport) newer(b []byte) bool {
	processor := r.Family != nil && r.Model != nil && r.Stepping != nil
	mitigations := r.LaunchMit != nil && r.CurrentMit != nil
	switch *r.Version {
	case 2:
		return !processor && !mitigations
	case 3, 4, 5:
		if !processor || *r.Version > 3 != mitigations {
			return false
		}
	default:
		return false
	}
	b[0x188], b[0x189], b[0x18a] = *r.Family, *r.Model, *r.Stepping
	if mitigations {
		binary.LittleEndian.PutUint64(b[0x1f8:], *r.LaunchMit)
		binary.LittleEndian.PutUint64(b[0x200:], *r.CurrentMit)
	}
	return true
}
