// SPDX-License-Identifier: Apache-2.0

package tpmroot_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// occupy puts a storage key of the owner hierarchy at 0x81000001, in the place of what is there.
func occupy(t *testing.T, s *swtpm.TPM, template tpm2.TPMTPublic, auth string) {
	t.Helper()
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	const place = tpm2.TPMHandle(0x81000001)
	evict := func(h tpm2.TPMHandle, name tpm2.TPM2BName) {
		_, err := tpm2.EvictControl{Auth: owner, ObjectHandle: tpm2.NamedHandle{Handle: h, Name: name}, PersistentHandle: place}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
	}
	if old, err := (tpm2.ReadPublic{ObjectHandle: place}).Execute(s); err == nil {
		evict(place, old.Name)
	}
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: owner, InPublic: tpm2.New2B(template),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte(auth)}}},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	evict(made.ObjectHandle, made.Name)
	if _, err := (tpm2.FlushContext{FlushHandle: made.ObjectHandle}).Execute(s); err != nil {
		t.Fatal(err)
	}
}

// failedTries returns how many attempts the TPM counts as attacks (TPM_PT_LOCKOUT_COUNTER).
func failedTries(t *testing.T, s *swtpm.TPM) uint32 {
	t.Helper()
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(tpm2.TPMPTLockoutCounter), PropertyCount: 1}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	p, err := rsp.CapabilityData.Data.TPMProperties()
	if err != nil {
		t.Fatal(err)
	}
	return p.TPMProperty[0].Value
}

// storageKeys are the storage keys that other programs put at 0x81000001. The last is what
// tpm2_createprimary makes without further options: attempts at it count as attacks.
func storageKeys() map[string]tpm2.TPMTPublic {
	guarded := tpm2.RSASRKTemplate
	guarded.ObjectAttributes.NoDA = false
	return map[string]tpm2.TPMTPublic{"ECC of the TCG": tpm2.ECCSRKTemplate, "RSA of the TCG": tpm2.RSASRKTemplate, "RSA that counts attacks": guarded}
}

// case 111: whatever storage key is at 0x81000001, with an authorization value or without,
// evidence and sealing find a parent in the same way. Nothing counts as an attack, and all
// opens again after a reboot.
func TestOneWayToAParent(t *testing.T) {
	for name, template := range storageKeys() {
		for _, auth := range []string{"", "theirs"} {
			t.Run(name+"/"+auth, func(t *testing.T) {
				s, root := start(t)
				occupy(t, s, template, auth)
				ak, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{})
				if err != nil {
					t.Fatalf("evidence: %v", err)
				}
				if err := ak.Flush(s); err != nil {
					t.Fatal(err)
				}
				record, want := seal(t, root)
				plan, err := root.PlanCounter(t.Context())
				if err == nil {
					_, err = root.DefineCounter(t.Context(), plan)
				}
				if err != nil {
					t.Fatalf("counter: %v", err)
				}
				s.Reboot()
				if _, err := tpmkeys.Provision(s, ak.Blob(), tpmkeys.Auths{}); err != nil {
					t.Errorf("evidence after a reboot: %v", err)
				}
				if got, err := root.Unseal(t.Context(), record); err != nil || !got.Equal(want) {
					t.Errorf("sealing after a reboot: %v", err)
				}
				if n := failedTries(t, s); n != 0 {
					t.Errorf("the TPM counted %d attacks", n)
				}
			})
		}
	}
}

// case 111: a value that the storage key gets later hurts only if the key cannot be derived
// without it. That is a refusal, which nothing tries again: see package vault.
func TestParentGetsAValue(t *testing.T) {
	for name, template := range storageKeys() {
		t.Run(name, func(t *testing.T) {
			s, root := start(t)
			occupy(t, s, template, "")
			ak, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{})
			if err != nil {
				t.Fatal(err)
			}
			if err := ak.Flush(s); err != nil {
				t.Fatal(err)
			}
			record, want := seal(t, root)
			occupy(t, s, template, "later")
			got, sealed := root.Unseal(t.Context(), record)
			_, evidence := tpmkeys.Provision(s, ak.Blob(), tpmkeys.Auths{})
			if name != "RSA of the TCG" { // was derived, or is what is derived
				if sealed != nil || !got.Equal(want) || evidence != nil {
					t.Errorf("got %v and %v", sealed, evidence)
				}
				return
			}
			if sealing.CodeOf(sealed) != api.CodeTPMRefuses || !errors.Is(sealed, tpmkeys.ErrParent) || !errors.Is(evidence, tpmkeys.ErrParent) {
				t.Errorf("got %v and %v, want ErrParent", sealed, evidence)
			}
		})
	}
}

// case 111: NV memory that is full is a refusal with the command that helps, and passes when
// there is room again.
func TestFullNV(t *testing.T) {
	s := swtpm.Start(t)
	root := &tpmroot.TPM{Device: s.Device(tpm.Options{})}
	swtpm.FillNV(t, s, 0x01000000) // not among the owner's, which PlanCounter draws from
	plan, err := root.PlanCounter(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.DefineCounter(t.Context(), plan); sealing.CodeOf(err) != api.CodeTPMRefuses || !strings.Contains(err.Error(), "tpm2_nvundefine") {
		t.Fatalf("got %v, want tpm-refuses", err)
	}
	rsp, err := tpm2.NVReadPublic{NVIndex: tpm2.TPMHandle(0x01000000)}.Execute(s)
	if err == nil {
		_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.TPMRHOwner, NVIndex: tpm2.NamedHandle{Handle: tpm2.TPMHandle(0x01000000), Name: rsp.NVName}}.Execute(s)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.DefineCounter(t.Context(), plan); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// case 111: what only a person changes about the TPM does not pass by itself.
func TestRefusalsOfSealing(t *testing.T) {
	s := swtpm.Start(t)
	root := &tpmroot.TPM{Device: s.Device(tpm.Options{})}
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("owner")},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := root.Seal(t.Context()); sealing.CodeOf(err) != api.CodeTPMRefuses {
		t.Errorf("owner authorization: %v", err)
	}
}
