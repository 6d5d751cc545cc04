// SPDX-License-Identifier: Apache-2.0

package tpm_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// case 111: what others took of a TPM is named, counted, and comes with the command that
// frees it. Each is a real TPM in that state.
func TestTakenByOthers(t *testing.T) {
	primary := func(c transport.TPM) error {
		rsp, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
		if err == nil {
			_, err = tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}.Execute(c)
		}
		return err
	}
	session := func(c transport.TPM) error {
		_, end, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16)
		if err == nil {
			err = end()
		}
		return err
	}
	define := func(index tpm2.TPMHandle, size uint16) func(transport.TPM) error {
		return func(c transport.TPM) error {
			_, err := tpm2.NVDefineSpace{AuthHandle: tpm2.TPMRHOwner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: size,
				Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NT: tpm2.TPMNTOrdinary},
			})}.Execute(c)
			return err
		}
	}
	for name, c := range map[string]struct {
		take func(*testing.T, *swtpm.TPM)
		need func(transport.TPM) error
		kind error
		says []string
	}{
		"slots": {func(t *testing.T, s *swtpm.TPM) {
			for range 3 {
				if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(s); err != nil {
					t.Fatal(err)
				}
			}
		}, primary, tpm.ErrCrowded, []string{"3 objects", "TPM_RC_OBJECT_MEMORY", "tpm2_flushcontext --transient-object", "/dev/tpmrm0"}},
		"sessions": {func(t *testing.T, s *swtpm.TPM) {
			for { // until the TPM counts no more
				session, _, err := tpm2.HMACSession(s, tpm2.TPMAlgSHA256, 16)
				if errors.Is(err, tpm2.TPMRCSessionHandles) {
					return
				}
				if err == nil {
					_, err = tpm2.ContextSave{SaveHandle: session.Handle()}.Execute(s)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}, session, tpm.ErrCrowded, []string{"64 saved sessions", "TPM_RC_SESSION_HANDLES", "tpm2_flushcontext --saved-session"}},
		"NV memory": {func(t *testing.T, s *swtpm.TPM) {
			for index, size := tpm2.TPMHandle(0x01800000), uint16(2048); size > 0; {
				err := define(index, size)(s)
				switch {
				case err == nil:
					index++
				case errors.Is(err, tpm2.TPMRCNVSpace):
					size /= 2
				default:
					t.Fatal(err)
				}
			}
		}, define(0x01900000, 8), tpm.ErrRefuses, []string{"indices", "TPM_RC_NV_SPACE", "tpm2_nvundefine"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := swtpm.Start(t)
			d := open(t, s.Listen(), tpm.Options{})
			if err := d.Do(t.Context(), random); err != nil { // it has cleaned up
				t.Fatal(err)
			}
			c.take(t, s)
			err := d.Do(t.Context(), c.need)
			other := tpm.ErrCrowded
			if c.kind == other {
				other = tpm.ErrRefuses
			}
			if !errors.Is(err, c.kind) || errors.Is(err, other) {
				t.Fatalf("got %v, want %v", err, c.kind)
			}
			for _, part := range c.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}
