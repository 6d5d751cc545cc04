// SPDX-License-Identifier: Apache-2.0

package registers_test

import (
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// lying is a TPM that answers what a test tells it to.
type lying struct {
	props []tpm2.TPMSTaggedPCRSelect
	banks []tpm2.TPMSPCRSelection
	read  *tpm2.PCRReadResponse
}

func (l *lying) Send(command []byte) ([]byte, error) {
	switch cc := tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])); cc {
	case tpm2.TPMCCGetCapability:
		switch c := tpm2.TPMCap(binary.BigEndian.Uint32(command[10:])); c {
		case tpm2.TPMCapPCRs:
			return answer([]byte{0}, tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: c,
				Data: tpm2.NewTPMUCapabilities(c, &tpm2.TPMLPCRSelection{PCRSelections: l.banks})})), nil
		case tpm2.TPMCapPCRProperties:
			return answer([]byte{0}, tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: c,
				Data: tpm2.NewTPMUCapabilities(c, &tpm2.TPMLTaggedPCRProperty{PCRProperty: l.props})})), nil
		}
	case tpm2.TPMCCPCRRead:
		return answer(binary.BigEndian.AppendUint32(nil, l.read.PCRUpdateCounter),
			tpm2.Marshal(l.read.PCRSelectionOut), tpm2.Marshal(l.read.PCRValues)), nil
	}
	return nil, fmt.Errorf("the test did not expect %x", command)
}

// answer is a response of success without sessions.
func answer(parts ...[]byte) []byte {
	b := []byte{0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0}
	for _, p := range parts {
		b = append(b, p...)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b
}

// hook is between a caller and a TPM.
type hook func(send func() ([]byte, error)) ([]byte, error)

func (h hook) over(t transport.TPM) transport.TPM { return hooked{h, t} }

type hooked struct {
	hook hook
	tpm  transport.TPM
}

func (h hooked) Send(command []byte) ([]byte, error) {
	return h.hook(func() ([]byte, error) { return h.tpm.Send(command) })
}
