// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// DiskHeader is one copy of the LUKS2 header of a volume, as root read it from the device.
type DiskHeader struct {
	Sequence  uint64         `json:"sequence"`           // sequence number
	Size      uint32         `json:"size"`               // bytes of the metadata area: binary header and JSON
	Label     string         `json:"label,omitzero"`     // label, up to 48 bytes
	UUID      string         `json:"uuid"`               // UUID of the volume
	Subsystem string         `json:"subsystem,omitzero"` // subsystem, up to 48 bytes
	JSON      evidence.Bytes `json:"json"`               // the JSON of the header as it is, up to 12 KiB
	Areas     []DiskArea     `json:"areas"`              // areas of the key slots
}

// DiskArea is the area of one key slot.
type DiskArea struct {
	Slot   uint32          `json:"slot"`   // number of the key slot
	Digest evidence.Digest `json:"digest"` // SHA-256 of the area
}

// Disk is one volume that the agent has the key of.
type Disk struct {
	Name       string          `json:"name"`             // name of the volume in crypttab
	UUID       string          `json:"uuid,omitzero"`    // LUKS2 UUID of the volume
	Device     string          `json:"device,omitzero"`  // device that it was enrolled from
	Cipher     string          `json:"cipher,omitzero"`  // how data is encrypted
	KeyBits    int             `json:"keyBits,omitzero"` // bits of the key of the volume, for AES in XTS mode twice those of AES
	Slot       uint32          `json:"slot"`             // key slot of the agent
	Recovery   []uint32        `json:"recovery"`         // other key slots, which open the volume without the agent
	Former     []uint32        `json:"former"`           // key slots of former keys of the agent, which agentctl disk rotate removes
	LossAck    bool            `json:"lossAcknowledged"` // there is no other key slot, and root accepted that
	Digest     evidence.Digest `json:"digest,omitzero"`  // what is recorded of the header
	Pending    bool            `json:"pending"`          // a change of the header was begun and not ended: agentctl disk rotate ends it
	Unproven   bool            `json:"unproven"`         // recovered although nothing told who wrote it: the key is not handed out
	Generation uint64          `json:"generation"`       // number of the manifest that first listed the record
	Unit       string          `json:"unit"`             // unit that may ask for the key
	Code       Code            `json:"code,omitzero"`    // why the record does not open
	Reason     string          `json:"reason,omitzero"`  // the same in words
}

// Disks is the answer of GET /v1/disks.
type Disks struct {
	Disks []Disk `json:"disks"` // enrolled volumes, by name
}

// DiskRequest names a volume, with the copies of its header that have a right checksum.
type DiskRequest struct {
	Name    string       `json:"name"`    // name of the volume
	Headers []DiskHeader `json:"headers"` // one or two copies, as the device has them
}

// DiskChecked is the answer of POST /v1/disks/check.
type DiskChecked struct {
	Disk Disk   `json:"disk"` // the volume
	Copy uint32 `json:"copy"` // copy that is to be used, counted from 0 in the request
	Next bool   `json:"next"` // it is the header of a change that was begun
}

// DiskKey is the answer of POST /v1/disks/key: what root needs to add a key slot.
type DiskKey struct {
	DiskChecked
	Key evidence.Bytes `json:"key"` // opens the key slot of the agent
}

// DiskEnrollRequest is the body of POST /v1/disks/enroll.
type DiskEnrollRequest struct {
	Name                 string         `json:"name"`                          // name of the volume in crypttab
	Device               string         `json:"device"`                        // path of the device
	Header               DiskHeader     `json:"header"`                        // the header with the key slot of the agent
	Slot                 uint32         `json:"slot"`                          // that key slot
	Key                  evidence.Bytes `json:"key"`                           // opens it: 64 random bytes
	LoseOnHardwareChange bool           `json:"loseOnHardwareChange,omitzero"` // acknowledgement that is required if there is no other key slot
	Replace              bool           `json:"replace,omitzero"`              // replace what is recorded under that name
}

// DiskChangeRequest is the body of POST /v1/disks/change: the header that the device is to have next.
// Until POST /v1/disks/settle both are accepted.
type DiskChangeRequest struct {
	Name   string         `json:"name"`         // name of the volume
	Header DiskHeader     `json:"header"`       // the next header
	Slot   uint32         `json:"slot"`         // key slot of the agent in it
	Key    evidence.Bytes `json:"key,omitzero"` // opens it: 64 random bytes; absent: the same as now
}

// DiskName names a volume.
type DiskName struct {
	Name string `json:"name"` // name of the volume
}
