// SPDX-License-Identifier: Apache-2.0

package registers_test

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// TestTPMFails: a command that fails makes what it was for fail, whichever it is.
func TestTPMFails(t *testing.T) {
	s := swtpm.Start(t)
	for name, do := range map[string]func(transport.TPM) error{
		"ActiveBanks": func(t transport.TPM) error { _, err := registers.ActiveBanks(t); return err },
		"Extend":      func(t transport.TPM) error { return registers.Extend(t, 14, pcr.Digests(allBanks, nil)) },
		"CheckIndex":  func(t transport.TPM) error { return registers.CheckIndex(t, 14) },
		"Read": func(t transport.TPM) error {
			_, err := registers.Read(t, pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8}}})
			return err
		},
	} {
		n := 0
		for at := 1; ; at++ {
			n = 0
			failing := hook(func(send func() ([]byte, error)) ([]byte, error) {
				if n++; n == at {
					return nil, syscall.EIO
				}
				return send()
			})
			err := do(failing.over(s))
			if n < at {
				if err != nil {
					t.Errorf("%s: %v, and nothing failed", name, err)
				}
				break
			}
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("%s says %v, and command %d failed", name, err, at)
			}
		}
		if n == 0 {
			t.Errorf("%s sends no command", name)
		}
	}
}

// TestAnotherCapability: an answer to another question is not an answer, and a list that says
// that more is to come, and never does, ends.
func TestAnotherCapability(t *testing.T) {
	answers := func(more byte, c tpm2.TPMCap, data any) transport.TPM {
		return hook(func(func() ([]byte, error)) ([]byte, error) {
			switch d := data.(type) {
			case *tpm2.TPMLTaggedTPMProperty:
				return answer([]byte{more}, tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: c, Data: tpm2.NewTPMUCapabilities(c, d)})), nil
			case *tpm2.TPMLTaggedPCRProperty:
				return answer([]byte{more}, tpm2.Marshal(tpm2.TPMSCapabilityData{Capability: c, Data: tpm2.NewTPMUCapabilities(c, d)})), nil
			}
			return nil, syscall.EIO
		}).over(nil)
	}
	other := answers(0, tpm2.TPMCapTPMProperties, &tpm2.TPMLTaggedTPMProperty{})
	if b, err := registers.ActiveBanks(other); err == nil {
		t.Errorf("active banks are %v", b)
	}
	if err := registers.CheckIndex(other, 14); err == nil || !strings.Contains(err.Error(), "read PCR properties") {
		t.Errorf("got %v", err)
	}
	endless := answers(1, tpm2.TPMCapPCRProperties, &tpm2.TPMLTaggedPCRProperty{})
	if err := registers.CheckIndex(endless, 14); err == nil || !strings.Contains(err.Error(), "does not say which PCRs locality 0 can extend") {
		t.Errorf("got %v", err)
	}
	many := &tpm2.TPMLTaggedPCRProperty{}
	for i := range 65 {
		many.PCRProperty = append(many.PCRProperty, tpm2.TPMSTaggedPCRSelect{Tag: tpm2.TPMPTPCR(i), PCRSelect: []byte{0xff, 0xff, 0xff}})
	}
	if err := registers.CheckIndex(answers(0, tpm2.TPMCapPCRProperties, many), 14); err == nil || !strings.Contains(err.Error(), "property 0x40 out of order") {
		t.Errorf("got %v", err)
	}
}

func TestReadNothing(t *testing.T) {
	if v, err := registers.Read(&lying{}, nil); err == nil {
		t.Errorf("nothing was asked for, and %v was read", v)
	}
}
