// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/choose"
	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft/google"
	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// bootGCP is a machine of Google Cloud: the host runs the vTPM, whose NV memory has templates and
// certificates of attestation keys. The agent uses one of them, unless its configuration says
// otherwise.
func bootGCP(m *machine) (io.ReadWriteCloser, platform.Open, error) {
	a, err := google.Open(filepath.Join(m.dir, "platform"))
	if err != nil {
		return nil, nil, err
	}
	if err := a.Provision(transport.FromReadWriter(m.child), google.Instance); err != nil {
		return nil, nil, err
	}
	// As an operator does whose verifiers do not know the issuer.
	if err := durable.WriteFile(filepath.Join(m.dir, "certs", "google-issuer.pem"), google.PEM(a.Issuer), 0o600); err != nil {
		return nil, nil, err
	}
	m.policyTables = fmt.Sprintf("[gcp]\nprojects = [%q]\nroots = \"\"\"\n%s\"\"\"\n", google.Instance.Project, google.PEM(a.Root))
	return m.simple(platform.MachineGCP)
}

// simulatedCSP is the cloud that the VLEK belongs to.
const simulatedCSP = "CN=cc-simulated.amazonaws.com"

// bootAWS is a machine of AWS: a VLEK signs its reports, and the host's table has its certificate
// alone.
func bootAWS(m *machine) (io.ReadWriteCloser, platform.Open, error) {
	issuer, err := m.platform.Intermediate()
	if err != nil {
		return nil, nil, err
	}
	// Verifiers know AMD's issuer, and not that of the test root.
	if err := durable.WriteFile(filepath.Join(m.dir, "certs", "asvk.pem"), google.PEM(issuer), 0o600); err != nil {
		return nil, nil, err
	}
	m.policyRoot = fmt.Sprintf("signers = [\"vlek\"]\nvlek_csps = [%q]\n", simulatedCSP)
	return m.simple(platform.MachineSNP) // what signs its reports tells
}

// onAWS changes the platform into one of AWS.
func onAWS(s *simulation) { s.signer, s.csp = snp.SignerVLEK, simulatedCSP }

// simple is a plain guest. Its reports come by the SNP driver's device, or with configfs by
// configfs-tsm: then the agent chooses as on a machine, and is tells nothing.
func (m *machine) simple(is platform.Machine) (io.ReadWriteCloser, platform.Open, error) {
	if m.configfs {
		d := &choose.Devices{
			SEVGuest: func() (device.Transport, error) { return m.platform.Transport(), nil },
			Entry:    tsm.New(tsm.Options{Firmware: m.platform.Transport(), Floor: m.config.Report.VMPL}),
		}
		return m.child, d.Open(m.config.Platform, m.deviceOptions()), nil
	}
	return m.child, platform.Always(m.platform, platform.Choice{Machine: is, Source: platform.SourceSEVGuest, Keys: true, Why: "the machine is simulated"}), nil
}

// deviceOptions are those of the queue before devices of SEV-SNP.
func (m *machine) deviceOptions() device.Options {
	return device.Options{Spacing: m.spacing, Timeout: time.Duration(m.config.Report.Timeout), VMPL: m.config.Report.VMPL}
}

// googlesKey is the default of tpm.ak on a machine of Google Cloud.
const googlesKey = tpmkeys.AKGCPECC
