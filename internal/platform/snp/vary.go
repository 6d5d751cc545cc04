// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/sealing"
)

// Choices of a key request that sealing does not make.
const (
	fieldImageID  = 1 << 1
	fieldFamilyID = 1 << 2
	fieldGuestSVN = 1 << 4

	rootHosts = 0 // the VLEK if one is installed, else the VCEK
	rootVMRK  = 1 // of this launch alone
)

// variation is one change of the key request, and the meaning of its outcome.
type variation struct {
	name   string
	change func(*keyProbe)
	what   string // completes "with … the key differs"
	fixed  string // added for a value that a guest cannot vary
}

const atLaunch = "; its value was fixed at launch, and the guest cannot change it"

// variations are all choices of a guest but the TCB, which [platform.Probe] tests. Requests
// are scarce: one for each.
var variations = []variation{
	{"depends-on-measurement", func(p *keyProbe) { p.Fields &^= keyMixMeasurement }, "the launch measurement left out", atLaunch},
	{"depends-on-guest-policy", func(p *keyProbe) { p.Fields &^= keyMixPolicy }, "the guest policy left out", atLaunch},
	{"depends-on-tcb-field", func(p *keyProbe) { p.Fields &^= keyMixTCB }, "the TCB left out", ""},
	{"depends-on-image-id", func(p *keyProbe) { p.Fields |= fieldImageID }, "the image id mixed in", atLaunch + "; sealing does not use it"},
	{"depends-on-family-id", func(p *keyProbe) { p.Fields |= fieldFamilyID }, "the family id mixed in", atLaunch + "; sealing does not use it"},
	{"depends-on-guest-svn-field", func(p *keyProbe) { p.Fields |= fieldGuestSVN }, "the guest's security version mixed in", "; sealing does not use it"},
	{"depends-on-root", func(p *keyProbe) { p.Root = rootVMRK }, "the root of this launch instead of the chip's", ""},
}

// Vary tries every choice of the key request against the one that sealing makes.
func (d *Device) Vary(ctx context.Context, now sealing.Reading) ([]platform.Finding, error) {
	vmpl := now.VMPL
	base := keyProbe{Root: keyRoot, Fields: keyFields, TCB: now.TCB.Uint64()}
	if _, err := rand.Read(base.Salt[:]); err != nil {
		return nil, err
	}
	first, err := d.fingerprint(ctx, base)
	if err != nil {
		return []platform.Finding{{Name: "depends-on", Text: err.Error()}}, nil
	}
	var out []platform.Finding
	all := variations
	if vmpl < 3 {
		all = append(all[:len(all):len(all)], variation{"depends-on-vmpl", func(p *keyProbe) { p.Above = 1 }, fmt.Sprintf("VMPL %d instead of %d", vmpl+1, vmpl), ""})
	} else {
		out = append(out, platform.Finding{Name: "depends-on-vmpl", OK: true, Text: "not tested: the agent runs at VMPL 3, the lowest"})
	}
	for _, v := range all {
		other := base
		v.change(&other)
		out = append(out, v.finding(ctx, d, first, other))
	}
	return append(out, svn(ctx, d, base), hostsRoot(ctx, d, first, base)), ctx.Err()
}

func (v variation) finding(ctx context.Context, d *Device, first [32]byte, other keyProbe) platform.Finding {
	f, err := d.fingerprint(ctx, other)
	switch {
	case err != nil:
		return platform.Finding{Name: v.name, OK: false, Text: fmt.Sprintf("with %s: %v", v.what, err)}
	case f == first:
		return platform.Finding{Name: v.name, OK: false, Text: fmt.Sprintf("with %s the key is the same: the firmware ignores it", v.what)}
	}
	return platform.Finding{Name: v.name, OK: true, Text: fmt.Sprintf("with %s the key differs%s", v.what, v.fixed)}
}

// svn varies the guest's security version, which a guest may ask to be lower than it
// was launched with and never higher.
func svn(ctx context.Context, d *Device, base keyProbe) platform.Finding {
	const name = "depends-on-guest-svn"
	base.Fields |= fieldGuestSVN
	zero, err := d.fingerprint(ctx, base)
	if err != nil {
		return platform.Finding{Name: name, OK: false, Text: fmt.Sprintf("under guest security version 0: %v", err)}
	}
	base.GuestSVN = 1
	one, err := d.fingerprint(ctx, base)
	switch {
	case err != nil:
		return platform.Finding{Name: name, OK: true, Text: "version 1 is refused: the guest was launched with 0, and cannot change it; sealing does not use it"}
	case one == zero:
		return platform.Finding{Name: name, OK: false, Text: "under guest security versions 0 and 1 the key is the same"}
	}
	return platform.Finding{Name: name, OK: true, Text: "under guest security versions 0 and 1 the keys differ; sealing does not use it"}
}

// hostsRoot tests whether the host's choice of a root is the chip's. Both outcomes are
// good: sealing names its root.
func hostsRoot(ctx context.Context, d *Device, first [32]byte, base keyProbe) platform.Finding {
	const name = "root-is-the-chips"
	base.Root = rootHosts
	f, err := d.fingerprint(ctx, base)
	switch {
	case err != nil:
		return platform.Finding{Name: name, OK: true, Text: fmt.Sprintf("the host's choice of a root is refused (%v); sealing names the chip's", err)}
	case f == first:
		return platform.Finding{Name: name, OK: true, Text: "no VLEK is installed: the host's choice of a root is the chip's too"}
	}
	return platform.Finding{Name: name, OK: true, Text: "a VLEK is installed, and the host's choice of a root is that cloud's; sealing names the chip's and gets another key"}
}

// labelProbe separates fingerprints of keys from every other hash.
const labelProbe = "agentd/probe/1"

// keyProbe is a MSG_KEY_REQ (SNP firmware ABI) in all that a guest may choose. Sealing uses the
// key of one alone, see [Device.DeriveKey].
type keyProbe struct {
	Root     uint32   // bit 0 ROOT_KEY_SELECT: 1 the VMRK; bits 2:1 KEY_SEL
	Fields   uint64   // GUEST_FIELD_SELECT
	Above    uint32   // VM privilege levels above the guest's own; at most 3 is asked for
	GuestSVN uint32   // at most the launched one
	TCB      uint64   // at most the committed one
	Salt     [32]byte // the same for fingerprints that are to be compared
}

// fingerprint asks for the key of a probe and returns SHA-256 H("agentd/probe/1", salt, key):
// enough to tell two keys apart, and nothing that an attacker could seal to.
func (d *Device) fingerprint(ctx context.Context, p keyProbe) (f [32]byte, err error) {
	vmpl := d.options.VMPL + p.Above
	if vmpl > 3 {
		return f, fmt.Errorf("probe a derived key at VMPL %d, want at most 3: %w", vmpl, platform.ErrVMPL)
	}
	k, err := d.askForKey(ctx, vmpl, p)
	if err != nil {
		return f, fmt.Errorf("probe a derived key: %w", err)
	}
	defer k.Wipe()
	err = k.Use(func(b []byte) error {
		material := evidence.Preimage(labelProbe, p.Salt[:], b)
		defer clear(material)
		f = sha256.Sum256(material)
		return nil
	})
	return f, err
}
