// SPDX-License-Identifier: Apache-2.0

package swtpm

import (
	"fmt"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpmutil"

	"github.com/cvm-agentd/agentd/pcr"
)

// known are the banks that swtpm implements, each of which an allocation must name.
var known = []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}

// Allocate starts the TPM of o, makes exactly these banks active and ends it: an
// allocation takes effect at the next start. It needs the platform hierarchy, whose
// authorization is empty after a start. Package tpm2 of go-tpm does not have the command,
// TPM2_PCR_Allocate (TPM 2.0 Part 3, section 22.5).
func Allocate(o Options, banks ...pcr.Algorithm) error {
	t, err := Start(o)
	if err != nil {
		return err
	}
	defer t.Close()
	var l tpm2.TPMLPCRSelection
	for _, k := range known {
		bits := make([]byte, pcr.Count/8)
		if slices.Contains(banks, k) {
			bits = []byte{0xff, 0xff, 0xff}
		}
		l.PCRSelections = append(l.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMIAlgHash(k), PCRSelect: bits})
	}
	// TPM_RS_PW, an empty nonce, no attributes, an empty password.
	password := tpmutil.U32Bytes{0x40, 0, 0, 9, 0, 0, 0, 0, 0}
	if err := t.SetDeadline(time.Now().Add(stopWait)); err != nil {
		return fmt.Errorf("allocate PCR banks: %w", err)
	}
	answer, code, err := tpmutil.RunCommand(t, tpmutil.Tag(tpm2.TPMSTSessions), tpmutil.Command(tpm2.TPMCCPCRAllocate),
		tpmutil.Handle(tpm2.TPMRHPlatform), &password, tpmutil.RawBytes(tpm2.Marshal(l)))
	switch {
	case err != nil:
		return fmt.Errorf("allocate PCR banks: %w", err)
	case code != 0:
		return fmt.Errorf("allocate PCR banks: %w", tpm2.TPMRC(code))
	case len(answer) < 5 || answer[4] != 1: // after the size of the parameters, allocationSuccess
		return fmt.Errorf("allocate PCR banks: swtpm refused %v", banks)
	}
	return nil
}
