// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/choose"
	device "github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft/svsm"
)

// bootSVSM is a guest above an SVSM, which runs the vTPM: swtpm. Reports come by configfs-tsm.
func bootSVSM(m *machine) (io.ReadWriteCloser, platform.Open, error) {
	if m.config.Report.VMPL != 0 {
		return nil, nil, fmt.Errorf("report.vmpl is %d: leave it out, the agent knows the level of a guest above an SVSM", m.config.Report.VMPL)
	}
	t := transport.FromReadWriter(m.child)
	ek, err := svsm.Endorsement(t)
	if err != nil {
		return nil, nil, err
	}
	s := &svsm.SVSM{Firmware: m.platform.Transport(), EK: func() ([]byte, error) { return ek, nil }}
	if m.firstManifest {
		m.kind.binding = "guest-asserted" // until the attestation key is enrolled
	} else {
		ak, err := svsm.Attestation(t)
		if err != nil {
			return nil, nil, err
		}
		s.AK = func() ([]byte, error) { return ak, nil }
	}
	d := &choose.Devices{
		SEVGuest: func() (device.Transport, error) { return s.Guest(), nil }, Entry: s.Entry(), OwnAK: m.config.TPM.AK.Own(),
	}
	return m.child, d.Open(m.config.Platform, m.deviceOptions()), nil
}
