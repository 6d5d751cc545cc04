// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"cmp"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"time"

	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Options say what is launched on what. The zero value is a Milan machine with a
// report of version 3, of which nothing outlives the process.
type Options struct {
	// Directory keeps test root, chip and launch over restarts; "" keeps them nowhere.
	Directory string
	// SameLaunch goes on with the launch that Directory keeps, if there is one: the guest of
	// an earlier process, with its REPORT_ID. Otherwise a new guest is launched.
	SameLaunch bool
	// Authority is the test root; nil is the one in Directory, or else [SharedAuthority].
	Authority *Authority
	// ChipSecret makes the chip: 32 bytes. Nil is the one in Directory, or else random.
	ChipSecret []byte

	Version      uint32      // of the report, 2 to 5; 0 is 3
	Product      snp.Product // ProductUnknown is Milan
	CPU          *snp.CPU    // nil is a usual one of Product; not in version 2
	Signer       snp.Signer  // VCEK or VLEK
	CSPID        string      // of a VLEK
	LeafAlone    bool        // the host's table has the endorsement key's certificate alone, as that of AWS
	TCB          snp.TCB     // reported; 0 is a usual one of Product
	CurrentTCB   snp.TCB     // these three: 0 is TCB
	CommittedTCB snp.TCB
	LaunchTCB    snp.TCB
	Firmware     snp.Firmware
	PlatformInfo snp.PlatformInfo // 0 is SMT, ECC and alias check
	Mitigations  uint64           // version 5
	MaskChipID   bool

	VMPL            uint32
	GuestSVN        uint32
	Policy          snp.Policy // 0 is SMT allowed, ABI 0.0
	FamilyID        [16]byte
	ImageID         [16]byte
	Measurement     [48]byte // zero is [Measurement]
	HostData        [32]byte
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte

	// Alter, if set, changes the signed part of a report, 0x2A0 bytes, before
	// it is signed: for tests of what a verifier must refuse.
	Alter func(report []byte)

	// Now is the start of the endorsement key's certificate, less a day; nil is time.Now.
	Now func() time.Time
	// Device are the options of the device over this platform. VMPL is set from here.
	Device device.Options
}

// Measurement returns the launch measurement of a guest that names none.
func Measurement() [48]byte { return sha512.Sum384([]byte("agentd software platform")) }

func (o *Options) fill() error {
	o.Version, o.Product = cmp.Or(o.Version, 3), cmp.Or(o.Product, snp.Milan)
	if o.Version < snp.MinReportVersion || o.Version > snp.MaxReportVersion {
		return fmt.Errorf("software platform: report version %d, want %d to %d", o.Version, snp.MinReportVersion, snp.MaxReportVersion)
	}
	if o.Signer != snp.SignerVCEK && o.Signer != snp.SignerVLEK {
		return fmt.Errorf("software platform: signer %v, want VCEK or VLEK", o.Signer)
	}
	if o.CPU == nil {
		o.CPU = map[snp.Product]*snp.CPU{
			snp.Milan: {Family: 0x19, Model: 0x01, Stepping: 1},
			snp.Genoa: {Family: 0x19, Model: 0x11, Stepping: 1},
			snp.Turin: {Family: 0x1A, Model: 0x02, Stepping: 1},
		}[o.Product]
	}
	o.TCB = cmp.Or(o.TCB, UsualTCB(o.Product))
	o.CurrentTCB = cmp.Or(o.CurrentTCB, o.TCB)
	o.CommittedTCB = cmp.Or(o.CommittedTCB, o.TCB)
	o.LaunchTCB = cmp.Or(o.LaunchTCB, o.TCB)
	o.Firmware = cmp.Or(o.Firmware, snp.Firmware{Major: 1, Minor: 55, Build: 29})
	o.PlatformInfo = cmp.Or(o.PlatformInfo, snp.PlatformSMT|snp.PlatformECC|snp.PlatformAliasCheck)
	o.Policy = cmp.Or(o.Policy, snp.PolicyReservedOne|snp.PolicySMT)
	o.Measurement = cmp.Or(o.Measurement, Measurement())
	o.CSPID = cmp.Or(o.CSPID, "CN=test.invalid")
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Device.VMPL = o.VMPL
	return o.fillKept()
}

// fillKept fills what a directory keeps.
func (o *Options) fillKept() (err error) {
	if o.Directory != "" {
		if err := makeFolder(o.Directory); err != nil {
			return err
		}
	}
	if o.Authority == nil {
		if o.Authority = SharedAuthority(); o.Directory != "" {
			if o.Authority, err = OpenAuthority(o.Directory); err != nil {
				return err
			}
		}
	}
	switch {
	case o.ChipSecret != nil && len(o.ChipSecret) != secretSize:
		return fmt.Errorf("software platform: chip secret of %d bytes, want %d", len(o.ChipSecret), secretSize)
	case o.ChipSecret != nil:
	case o.Directory != "":
		o.ChipSecret, err = loadSecret(o.Directory, "chip")
	default:
		o.ChipSecret = make([]byte, secretSize)
		rand.Read(o.ChipSecret)
	}
	return err
}
