// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
)

// maxIMAList is how long a list may be that the TPM is extended by, in bytes.
const maxIMAList = 1 << 20

// openIMAList opens what the agent takes for the kernel's list. That of this machine says nothing of
// the simulated TPM.
func (m *machine) openIMAList() (io.ReadCloser, error) {
	if m.imaList == "" {
		return nil, errors.New("the simulated kernel has no IMA: --ima-list names a file in its place")
	}
	return os.Open(m.imaList)
}

// measure does what the simulated kernel did before the agent: it extends the TPM by the entries of
// the list. Another program extends a TPM that is not ours.
func (m *machine) measure() error {
	if m.imaList == "" || m.child == nil {
		return nil
	}
	list, err := durable.ReadRegular(m.imaList, maxIMAList)
	if err != nil {
		return fmt.Errorf("--ima-list: %w", err)
	}
	t := transport.FromReadWriter(m.wire)
	banks, err := registers.ActiveBanks(t)
	if err != nil {
		return err
	}
	for e, err := range ima.Entries(ima.Whole(list)) {
		if err != nil {
			return fmt.Errorf("--ima-list %s: %w", m.imaList, err)
		}
		if err := registers.Extend(t, e.PCR, extended(e, banks)); err != nil {
			return err
		}
	}
	return nil
}

// extended returns what a kernel of today extends each bank with for an entry.
func extended(e *ima.Entry, banks []pcr.Algorithm) (out []pcr.Digest) {
	for _, b := range banks {
		value := b.Sum(e.Data)
		if e.Violation() {
			value = bytes.Repeat([]byte{0xff}, b.Size())
		}
		out = append(out, pcr.Digest{Algorithm: b, Value: value})
	}
	return out
}
