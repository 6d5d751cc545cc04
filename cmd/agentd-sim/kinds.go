// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// A kind is a kind of machine that --machine simulates.
type kind struct {
	// boot switches on what that machine has besides swtpm and the software platform of m: NV
	// indices, keys, a configfs. It returns the connection to the TPM, which may be something
	// between the agent and swtpm, and what opens the platform.
	boot func(m *machine) (io.ReadWriteCloser, platform.Open, error)

	launch  string // kind of the launch measurement, for the example of a policy
	binding string // that evidence of this machine earns
	plain   bool   // the guest asks the firmware itself
	ownTPM  bool   // --tpm cannot be given: the double is a part of the TPM

	change func(*simulation) // what the software platform is to be there; nil: the usual
	ak     tpmkeys.AKChoice  // default of tpm.ak; empty: as everywhere
}

// kinds are the machines by name.
var kinds = map[string]kind{
	"aws":   {boot: bootAWS, plain: true, launch: "plain", binding: "guest-asserted", change: onAWS},
	"azure": {boot: bootAzure, launch: "paravisor", binding: "paravisor", ownTPM: true},
	"gcp":   {boot: bootGCP, plain: true, launch: "plain", binding: "guest-asserted", ownTPM: true, ak: googlesKey},
	"qemu":  {boot: bootPlain, plain: true, launch: "plain", binding: "guest-asserted"},
	"svsm":  {boot: bootSVSM, launch: "svsm", binding: "svsm", ownTPM: true},
}

// kindNames lists the names.
func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// setKind is the flag --machine.
func (o *options) setKind(name string) error {
	if _, known := kinds[name]; !known {
		return fmt.Errorf("want one of %q", kindNames())
	}
	o.kind = name
	return nil
}

// bootPlain is a guest of SEV-SNP with /dev/sev-guest, under QEMU for instance.
func bootPlain(m *machine) (io.ReadWriteCloser, platform.Open, error) {
	return m.simple(platform.MachineSNP)
}
