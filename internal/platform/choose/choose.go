// SPDX-License-Identifier: Apache-2.0

// Package choose finds out what the machine is, from its devices and not from its names, and
// opens the platform of it.
//
// The table [ways] has the ways to reports, from the strongest binding to the weakest. The
// first whose device is there is taken. What cannot be told now (a TPM that is not up, a device
// that fails) ends the choice with an error, and never leads to a weaker way: otherwise an
// attacker who delays one device would choose the binding. Root in the guest and the host can
// make a device be there or not. That makes evidence weaker or fail, and verifiers notice: a
// policy lists what binding it takes.
//
// Nothing is kept: each start of the agent looks again.
package choose

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/azure"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/svsm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// Devices are the devices of a machine, or their doubles.
type Devices struct {
	SEVGuest func() (snp.Transport, error) // opens the SNP driver's device; [platform.ErrAbsent] if there is none
	Entry    configfs.Attributes           // the agent's entry of configfs-tsm, which need not exist

	Auths       func() (tpmkeys.Auths, error) // of the TPM's hierarchies; nil: none is set
	OwnAK       bool                          // the agent quotes with a key of its own, even if the platform vouches for another
	SVSMSpacing time.Duration                 // least time between two requests to an SVSM
}

// Linux returns the devices of this machine.
func Linux(sevGuest, entry string) *Devices {
	return &Devices{SEVGuest: func() (snp.Transport, error) { return snp.Open(sevGuest) }, Entry: configfs.Dir(entry), SVSMSpacing: svsm.MinSpacing}
}

// A device is a kind of device that is looked for.
type device string

const (
	anSVSM      device = "SVSM"
	aParavisor  device = "paravisor"
	theEntry    device = "configfs entry"
	theDriver   device = "SNP driver"
	googlesVTPM device = "Google's vTPM"
)

// looks look for the devices.
var looks = map[device]func(ctx context.Context, d *Devices, t platform.TPM) finding{
	anSVSM:      lookForSVSM,
	aParavisor:  lookForParavisor,
	theEntry:    lookForEntry,
	theDriver:   lookForDriver,
	googlesVTPM: lookForIndex("a template of Google's attestation key", nvGoogleRSA, nvGoogleECC),
}

// A way is one way to reports.
type way struct {
	source  platform.Source
	machine platform.Machine // that has this way; empty: any that is a plain guest of SEV-SNP
	names   []platform.Name  // in the configuration, besides auto
	device  device
	never   device // that a machine with this way does not have; auto passes over the way if it is there
	open    func(ctx context.Context, d *Devices, t platform.TPM, o snp.Options) (p platform.Platform, keys bool, err error)
}

// ways are all ways to reports. The order is that of the bindings that their evidence can have:
// svsm, paravisor, guest-asserted. Of two with the same binding, the first is preferred.
//
// The NV index of a paravisor can be made by a host that runs the TPM. A guest of a paravisor has no
// device of the SNP driver, and no derived keys. So the index does not count on a machine that has
// the device. Otherwise such a host could have new sealed blobs rest on the TPM alone, on a machine
// whose configuration accepts that since it is also for Azure's.
var ways = []way{
	{platform.SourceSVSM, platform.MachineSVSM, []platform.Name{platform.SVSM}, anSVSM, "", openSVSM},
	{platform.SourceParavisor, platform.MachineAzure, []platform.Name{platform.Azure}, aParavisor, theDriver, openParavisor},
	{platform.SourceConfigFS, "", []platform.Name{platform.ConfigFS, platform.GCP, platform.AWS}, theEntry, "", openEntry},
	{platform.SourceSEVGuest, "", []platform.Name{platform.SEVGuest, platform.GCP, platform.AWS}, theDriver, "", openDriver},
}

// named are the machines that a name says, if the way does not say it.
var named = map[platform.Name]platform.Machine{platform.GCP: platform.MachineGCP, platform.AWS: platform.MachineAWS}

// Open returns what opens the platform that an administrator called want.
func (d *Devices) Open(want platform.Name, o snp.Options) platform.Open {
	return func(ctx context.Context, t platform.TPM) (platform.Platform, platform.Choice, error) {
		w, c, err := choose(want, func(x device) finding { return looks[x](ctx, d, t) })
		if err != nil {
			return nil, c, err
		}
		p, keys, err := w.open(ctx, d, t, o)
		if err != nil {
			return nil, c, err
		}
		if n, ok := p.(*svsm.Device); ok {
			c.EK, c.AK = n.EK(), n.AK()
			c.Why += "; " + says(n)
		}
		if c.Keys = keys; !keys {
			c.Why += "; no derived keys"
		}
		return p, c, nil
	}
}

// choose returns the first way that want allows and whose device is found.
func choose(want platform.Name, find func(device) finding) (way, platform.Choice, error) {
	auto := want == platform.Auto
	var why []string
	for _, w := range ways {
		if !auto && !slices.Contains(w.names, want) {
			continue
		}
		f := find(w.device)
		if f.err != nil && w.machine == "" { // the others are not there: only how its reports come is not known
			return way{}, platform.Choice{Machine: platform.MachineSNP}, fmt.Errorf("choose the platform: %w", f.err)
		}
		if f.err != nil {
			return way{}, platform.Choice{}, fmt.Errorf("choose the platform: %w", f.err)
		}
		if why = append(why, f.says); !f.there {
			continue
		}
		if auto && w.never != "" {
			other := find(w.never)
			if other.err != nil {
				return way{}, platform.Choice{}, fmt.Errorf("choose the platform: %s, and such a machine does not have the %s: %w", f.says, w.never, other.err)
			}
			if other.there {
				why = append(why, fmt.Sprintf("that does not count, since %s", other.says))
				continue
			}
		}
		m, says, err := w.of(want, find)
		if err != nil {
			return way{}, platform.Choice{}, fmt.Errorf("choose the platform: %w", err)
		}
		if why = append(why, says...); !auto {
			why = slices.Insert(why, 0, fmt.Sprintf("the configuration says platform = %q", want))
		}
		return w, platform.Choice{Machine: m, Source: w.source, Why: strings.Join(why, "; ")}, nil
	}
	return way{}, platform.Choice{}, fmt.Errorf("%w: platform = %q: %s", platform.ErrAbsent, want, strings.Join(why, "; "))
}

// of returns the machine that has the way, and what was found that says so.
func (w way) of(want platform.Name, find func(device) finding) (platform.Machine, []string, error) {
	switch m := named[want]; {
	case w.machine != "":
		return w.machine, nil, nil
	case m != "":
		return m, nil, nil
	case want != platform.Auto:
		return platform.MachineSNP, nil, nil
	}
	google := find(googlesVTPM)
	if google.there {
		return platform.MachineGCP, []string{google.says}, google.err
	}
	return platform.MachineSNP, []string{google.says}, google.err
}

// openDriver opens the SNP driver's device for reports and keys.
func openDriver(_ context.Context, d *Devices, _ platform.TPM, o snp.Options) (platform.Platform, bool, error) {
	k, err := d.SEVGuest()
	if err != nil {
		return nil, false, err
	}
	p, err := snp.New(k, o)
	if err != nil {
		return nil, false, errors.Join(err, k.Close())
	}
	return p, true, nil
}

// openEntry opens the entry of configfs-tsm for reports, and the SNP driver's device for keys. A
// device that is there and does not open is an error: otherwise sealed blobs would rest on less.
func openEntry(_ context.Context, d *Devices, _ platform.TPM, o snp.Options) (platform.Platform, bool, error) {
	driver, err := d.SEVGuest()
	if err != nil && !errors.Is(err, platform.ErrAbsent) {
		return nil, false, fmt.Errorf("open the device that derives keys: %w", err)
	}
	if err != nil {
		driver, o.WithoutKeys = nil, true
	}
	t := configfs.New(d.Entry, driver)
	p, err := snp.New(t, o)
	if err != nil {
		return nil, false, errors.Join(err, t.Close())
	}
	return p, !o.WithoutKeys, nil
}

// openParavisor opens the paravisor's report.
func openParavisor(ctx context.Context, d *Devices, t platform.TPM, o snp.Options) (platform.Platform, bool, error) {
	p, err := azure.Open(ctx, t, azure.Options{Spacing: o.Spacing, Timeout: o.Timeout, Auths: d.Auths})
	if err != nil {
		return nil, false, err
	}
	return p, false, nil
}
