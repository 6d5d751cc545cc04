// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/pcr"
)

// known are the banks that swtpm implements, each of which an allocation must name.
var known = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}

// Allocate starts the TPM of o, makes exactly these banks active and ends it: an
// allocation takes effect at the next start. It needs the platform hierarchy, whose
// authorization is empty after a start.
func Allocate(o Options, banks ...pcr.Algorithm) error {
	t, err := Start(o)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := t.SetDeadline(time.Now().Add(stopWait)); err != nil {
		return fmt.Errorf("allocate PCR banks: %w", err)
	}
	if _, err := t.Write(allocateCommand(banks)); err != nil {
		return fmt.Errorf("allocate PCR banks: %w", err)
	}
	// Header (10), parameter size (4), allocationSuccess (1), three sizes (12), session (5).
	rsp := make([]byte, 32)
	n, err := io.ReadAtLeast(t, rsp, 10)
	if err != nil {
		return fmt.Errorf("allocate PCR banks: %w", err)
	}
	if rc := tpm2.TPMRC(binary.BigEndian.Uint32(rsp[6:])); rc != 0 {
		return fmt.Errorf("allocate PCR banks: %w", rc)
	}
	if n < 15 || rsp[14] != 1 {
		return fmt.Errorf("allocate PCR banks: swtpm refused %v", banks)
	}
	return nil
}

// allocateCommand is TPM2_PCR_Allocate (TPM 2.0 Part 3, section 22.5), which go-tpm
// does not have.
func allocateCommand(banks []pcr.Algorithm) []byte {
	var l tpm2.TPMLPCRSelection
	for _, k := range known {
		bits := make([]byte, pcr.Count/8)
		for _, b := range banks {
			if b == k {
				bits = []byte{0xff, 0xff, 0xff}
			}
		}
		l.PCRSelections = append(l.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(k), PCRSelect: bits})
	}
	b := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	b = binary.BigEndian.AppendUint32(b, 0) // size, set below
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMCCPCRAllocate))
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMRHPlatform))
	b = binary.BigEndian.AppendUint32(b, 9) // authorization area: handle, empty nonce, attributes, empty password
	b = binary.BigEndian.AppendUint32(b, uint32(tpm2.TPMRSPW))
	b = append(b, 0, 0, 0, 0, 0)
	b = append(b, tpm2.Marshal(l)...)
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}
