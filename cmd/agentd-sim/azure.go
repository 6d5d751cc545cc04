// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/choose"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft/paravisor"
)

// bootAzure is a machine of Azure: a paravisor between the agent and the vTPM, and no device for
// reports or keys. What the machine is, the agent finds out by itself.
func bootAzure(m *machine) (io.ReadWriteCloser, platform.Open, error) {
	p, err := paravisor.New(m.child, m.platform, paravisor.Options{})
	if err != nil {
		return nil, nil, err
	}
	p.SetFaults(m.paravisor)
	if err := m.staple(); err != nil {
		return nil, nil, err
	}
	return p, m.withoutDriver().Open(m.config.Platform, snp.Options{Timeout: time.Duration(m.config.Report.Timeout)}), nil
}

// staple puts the certificates of the simulated processor where "agentctl collateral fetch
// --azure" puts those of a real one: no host hands them out there.
func (m *machine) staple() error {
	i, err := m.platform.Intermediate()
	if err != nil {
		return err
	}
	var b []byte
	for _, der := range [][]byte{m.platform.Endorsement(), i.Raw} {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return durable.WriteFile(filepath.Join(m.config.Report.CertificateFolder, "azure.pem"), b, 0o644)
}

// withoutDriver returns the devices of a guest without access to the SNP firmware.
func (m *machine) withoutDriver() *choose.Devices {
	absent := func() (snp.Transport, error) {
		return nil, fmt.Errorf("%w: the simulated machine has no /dev/sev-guest", platform.ErrAbsent)
	}
	return &choose.Devices{SEVGuest: absent, Entry: configfs.Dir(filepath.Join(m.dir, "configfs"))}
}

// paravisorFaults are what can go wrong with a paravisor.
var paravisorFaults = map[string]paravisor.Faults{
	"stale":     {Stale: true},
	"other-key": {OtherKey: true},
	"race":      {Race: true},
	"vmpl":      {VMPL: 1},
	"garbage":   {Blob: func(b []byte) []byte { return bytes.Repeat([]byte{0xa5}, len(b)) }},
}

// maxFaultyReads bounds how many reads a fault is for.
const maxFaultyReads = 1000

// setParavisorFault is the flag --paravisor-fault: a name, and for how many reads of the report.
func (o *options) setParavisorFault(value string) error {
	name, reads, counted := strings.Cut(value, "=")
	f, known := paravisorFaults[name]
	if !known {
		return fmt.Errorf("want one of %q", slices.Sorted(maps.Keys(paravisorFaults)))
	}
	if counted {
		n, err := strconv.Atoi(reads)
		if err != nil || n < 1 || n > maxFaultyReads {
			return fmt.Errorf("%q reads: want a number from 1 to %d", reads, maxFaultyReads)
		}
		f.Reads = n
	}
	o.paravisor = f
	return nil
}
