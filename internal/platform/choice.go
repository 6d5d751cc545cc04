// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"slices"

	"github.com/cvm-agentd/agentd/internal/tpm"
)

// A Name is what an administrator calls a platform in the configuration.
type Name string

// The platforms. Auto finds out which of the others it is, from devices.
const (
	Auto     Name = "auto"
	SEVGuest Name = "sev-guest" // reports and keys of the SNP firmware, by /dev/sev-guest
	ConfigFS Name = "configfs"  // the same reports, by configfs-tsm
	Azure    Name = "azure"     // a paravisor between firmware and guest, which also runs the vTPM
	SVSM     Name = "svsm"      // an SVSM below the guest, which also runs the vTPM
	GCP      Name = "gcp"       // reports of the SNP firmware, and Google's vTPM
	AWS      Name = "aws"       // reports of the SNP firmware under a VLEK, and NitroTPM
)

// Names returns all names, in the order of the documentation.
func Names() []Name { return []Name{Auto, SEVGuest, ConfigFS, Azure, SVSM, GCP, AWS} }

// Known reports whether n is one of [Names].
func (n Name) Known() bool { return slices.Contains(Names(), n) }

// A Machine is what a machine was found to be, or what the configuration says that it is.
type Machine string

// The machines that differ for the agent.
const (
	MachineSNP   Machine = "sev-snp" // a guest of SEV-SNP without anything that makes it one of the others
	MachineAzure Machine = "azure"
	MachineSVSM  Machine = "svsm"
	MachineGCP   Machine = "gcp"
	MachineAWS   Machine = "aws"
)

// A Source is the way by which reports come.
type Source string

// The sources of reports.
const (
	SourceSEVGuest  Source = "sev-guest" // the ioctl of /dev/sev-guest
	SourceConfigFS  Source = "configfs"  // an entry of configfs-tsm
	SourceParavisor Source = "paravisor" // NV memory of the paravisor's TPM
	SourceSVSM      Source = "svsm"      // an entry of configfs-tsm, with the SVSM as service provider
)

// A Choice says what the machine is and how reports come. It says nothing to a verifier: only
// evidence does.
type Choice struct {
	Machine Machine
	Source  Source
	Keys    bool   // the firmware derives keys for this guest
	EK      []byte // TPMT_PUBLIC of the endorsement key that reports of this platform name; nil if they name none
	AK      []byte // the same of the attestation key
	Why     string // what was found that decided it, for people
}

// A TPM returns the TPM of the machine, and false while the agent has not opened it.
type TPM func() (*tpm.Device, bool)

// An Open finds out what the machine is, and opens the platform of it. With an error of
// [ErrNotYet] it has asked no device, and may be called again at once. With any
// error the Choice says what was found: nothing, or the machine alone. It may be called again
// after an error.
type Open func(ctx context.Context, t TPM) (Platform, Choice, error)

// ErrNotYet is returned while it cannot be decided what a machine is, since another part of the
// agent is not up.
var ErrNotYet = errors.New("the platform is not chosen yet")

// Always returns an Open that always chooses p, without looking.
func Always(p Platform, c Choice) Open {
	return func(context.Context, TPM) (Platform, Choice, error) { return p, c, nil }
}
