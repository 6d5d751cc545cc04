// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/cvm-agentd/agentd/sealing"
)

// A Prober is a platform that can say on what its derived keys depend. It answers with
// fingerprints, never with keys: see [KeyProbe].
type Prober interface {
	Fingerprint(ctx context.Context, p KeyProbe) ([32]byte, error)
}

// KeyProbe is the part of a key request that a guest may choose (SNP firmware ABI,
// MSG_KEY_REQ). Sealing uses no key of such a request.
type KeyProbe struct {
	Root     uint32   // bit 0 ROOT_KEY_SELECT: 1 the VMRK; bits 2:1 KEY_SEL
	Fields   uint64   // GUEST_FIELD_SELECT
	Above    uint32   // VM privilege levels above the guest's own
	GuestSVN uint32   // at most the launched one
	TCB      uint64   // at most the committed one
	Salt     [32]byte // the same for fingerprints that are to be compared
}

// Choices of a key request. Sealing always mixes in policy, measurement and TCB.
const (
	fieldPolicy      = 1 << 0
	fieldImageID     = 1 << 1
	fieldFamilyID    = 1 << 2
	fieldMeasurement = 1 << 3
	fieldGuestSVN    = 1 << 4
	fieldTCB         = 1 << 5

	rootHosts = 0      // the VLEK if one is installed, else the VCEK
	rootVMRK  = 1      // of this launch alone
	rootVCEK  = 1 << 1 // the chip's own: what sealing uses
)

// variation is one change of the key request, and the meaning of its outcome.
type variation struct {
	name   string
	change func(*KeyProbe)
	what   string // completes "with … the key differs"
	fixed  string // added for a value that a guest cannot vary
}

const atLaunch = "; its value was fixed at launch, and the guest cannot change it"

// variations are all choices of a guest but the TCB, which probe tests. Requests are
// scarce: one for each.
var variations = []variation{
	{"depends-on-measurement", func(p *KeyProbe) { p.Fields &^= fieldMeasurement }, "the launch measurement left out", atLaunch},
	{"depends-on-guest-policy", func(p *KeyProbe) { p.Fields &^= fieldPolicy }, "the guest policy left out", atLaunch},
	{"depends-on-tcb-field", func(p *KeyProbe) { p.Fields &^= fieldTCB }, "the TCB left out", ""},
	{"depends-on-image-id", func(p *KeyProbe) { p.Fields |= fieldImageID }, "the image id mixed in", atLaunch + "; sealing does not use it"},
	{"depends-on-family-id", func(p *KeyProbe) { p.Fields |= fieldFamilyID }, "the family id mixed in", atLaunch + "; sealing does not use it"},
	{"depends-on-guest-svn-field", func(p *KeyProbe) { p.Fields |= fieldGuestSVN }, "the guest's security version mixed in", "; sealing does not use it"},
	{"depends-on-root", func(p *KeyProbe) { p.Root = rootVMRK }, "the root of this launch instead of the chip's", ""},
}

// vary tries every choice of the key request against the one that sealing makes.
func vary(ctx context.Context, p Prober, vmpl uint32, tcb sealing.TCB) ([]Finding, error) {
	base := KeyProbe{Root: rootVCEK, Fields: fieldPolicy | fieldMeasurement | fieldTCB, TCB: tcb.Uint64()}
	if _, err := rand.Read(base.Salt[:]); err != nil {
		return nil, err
	}
	first, err := p.Fingerprint(ctx, base)
	if err != nil {
		return []Finding{{Name: "depends-on", Text: err.Error()}}, nil
	}
	var out []Finding
	all := variations
	if vmpl < 3 {
		all = append(all[:len(all):len(all)], variation{"depends-on-vmpl", func(p *KeyProbe) { p.Above = 1 }, fmt.Sprintf("VMPL %d instead of %d", vmpl+1, vmpl), ""})
	} else {
		out = append(out, Finding{"depends-on-vmpl", true, "not tested: the agent runs at VMPL 3, the lowest"})
	}
	for _, v := range all {
		other := base
		v.change(&other)
		out = append(out, v.finding(ctx, p, first, other))
	}
	return append(out, svn(ctx, p, base), hostsRoot(ctx, p, first, base)), ctx.Err()
}

func (v variation) finding(ctx context.Context, p Prober, first [32]byte, other KeyProbe) Finding {
	f, err := p.Fingerprint(ctx, other)
	switch {
	case err != nil:
		return Finding{v.name, false, fmt.Sprintf("with %s: %v", v.what, err)}
	case f == first:
		return Finding{v.name, false, fmt.Sprintf("with %s the key is the same: the firmware ignores it", v.what)}
	}
	return Finding{v.name, true, fmt.Sprintf("with %s the key differs%s", v.what, v.fixed)}
}

// svn varies the guest's security version, which a guest may ask to be lower than it
// was launched with and never higher.
func svn(ctx context.Context, p Prober, base KeyProbe) Finding {
	const name = "depends-on-guest-svn"
	base.Fields |= fieldGuestSVN
	zero, err := p.Fingerprint(ctx, base)
	if err != nil {
		return Finding{name, false, fmt.Sprintf("under guest security version 0: %v", err)}
	}
	base.GuestSVN = 1
	one, err := p.Fingerprint(ctx, base)
	switch {
	case err != nil:
		return Finding{name, true, "version 1 is refused: the guest was launched with 0, and cannot change it; sealing does not use it"}
	case one == zero:
		return Finding{name, false, "under guest security versions 0 and 1 the key is the same"}
	}
	return Finding{name, true, "under guest security versions 0 and 1 the keys differ; sealing does not use it"}
}

// hostsRoot tests whether the host's choice of a root is the chip's. Both outcomes are
// good: sealing names its root.
func hostsRoot(ctx context.Context, p Prober, first [32]byte, base KeyProbe) Finding {
	const name = "root-is-the-chips"
	base.Root = rootHosts
	f, err := p.Fingerprint(ctx, base)
	switch {
	case err != nil:
		return Finding{name, true, fmt.Sprintf("the host's choice of a root is refused (%v); sealing names the chip's", err)}
	case f == first:
		return Finding{name, true, "no VLEK is installed: the host's choice of a root is the chip's too"}
	}
	return Finding{name, true, "a VLEK is installed, and the host's choice of a root is that cloud's; sealing names the chip's and gets another key"}
}
