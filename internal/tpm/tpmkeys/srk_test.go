// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

func TestOtherTPM(t *testing.T) {
	blob := stored(t, provision(t, swtpm.Start(t), nil))
	t.Run("another", func(t *testing.T) {
		for _, used := range []bool{false, true} {
			s := swtpm.Start(t)
			if used {
				provision(t, s, nil).Flush(s)
			}
			if _, err := tpmkeys.Provision(s, blob, none); !errors.Is(err, tpmkeys.ErrOtherTPM) {
				t.Errorf("got %v, want ErrOtherTPM", err)
			}
			if n := transients(t, s); n != 0 {
				t.Errorf("%d transient objects are left", n)
			}
		}
	})
	t.Run("cleared", func(t *testing.T) {
		s := swtpm.Start(t)
		ak := provision(t, s, nil)
		clear(t, s)
		if _, err := tpmkeys.Provision(s, stored(t, ak), none); !errors.Is(err, tpmkeys.ErrOtherTPM) {
			t.Errorf("got %v, want ErrOtherTPM", err)
		}
		if _, _, err := ak.Quote(s, nil, selection(t, "sha256:14")); !errors.Is(err, tpmkeys.ErrOtherTPM) {
			t.Errorf("quote: got %v, want ErrOtherTPM", err)
		}
	})
	t.Run("storage root key evicted", func(t *testing.T) { // it is derived again
		s := swtpm.Start(t)
		ak := provision(t, s, nil)
		evict(t, s, 0x81000001)
		provision(t, s, stored(t, ak))
	})
}

func clear(t *testing.T, s transport.TPM) {
	t.Helper()
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

func evict(t *testing.T, s transport.TPM, h tpm2.TPMHandle) {
	t.Helper()
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:     tpm2.NamedHandle{Handle: h, Name: rsp.Name},
		PersistentHandle: h,
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// persist keeps a primary key of the owner hierarchy at 0x81000001.
func persist(t *testing.T, s transport.TPM, template tpm2.TPMTPublic, auth []byte) {
	t.Helper()
	rsp, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		InSensitive:   tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: auth}}},
		InPublic:      tpm2.New2B(template),
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth:             tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
		ObjectHandle:     tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name},
		PersistentHandle: 0x81000001,
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.FlushContext{FlushHandle: rsp.ObjectHandle}).Execute(s); err != nil {
		t.Fatal(err)
	}
}

// Whatever is at 0x81000001 already, there is a key afterwards, it survives a
// reboot, and what stood there still does.
func TestStorageRootKeyOfOthers(t *testing.T) {
	sha384 := tpm2.ECCSRKTemplate
	sha384.NameAlg = tpm2.TPMAlgSHA384
	signing := tpm2.ECCSRKTemplate
	signing.ObjectAttributes.Restricted, signing.ObjectAttributes.Decrypt, signing.ObjectAttributes.SignEncrypt = false, false, true
	signing.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}, CurveID: tpm2.TPMECCNistP256,
	})
	for name, c := range map[string]struct {
		template tpm2.TPMTPublic
		auth     []byte
	}{
		"ECC, as ours":          {tpm2.ECCSRKTemplate, nil},
		"RSA":                   {tpm2.RSASRKTemplate, nil},
		"with an authorization": {tpm2.ECCSRKTemplate, []byte("theirs")},
		"no storage key":        {signing, nil},
		"names under SHA-384":   {sha384, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := swtpm.Start(t)
			persist(t, s, c.template, c.auth)
			before, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81000001)}.Execute(s)
			if err != nil {
				t.Fatal(err)
			}
			ak := provision(t, s, nil)
			if n := transients(t, s); n != 1 {
				t.Errorf("%d transient objects, want the attestation key alone", n)
			}
			s.Reboot()
			provision(t, s, stored(t, ak))
			after, err := tpm2.ReadPublic{ObjectHandle: tpm2.TPMHandle(0x81000001)}.Execute(s)
			if err != nil || !bytes.Equal(before.Name.Buffer, after.Name.Buffer) {
				t.Errorf("what stood at 0x81000001 has changed: %v", err)
			}
		})
	}
}

func setAuth(t *testing.T, s transport.TPM, hierarchy tpm2.TPMHandle, auth []byte) {
	t.Helper()
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)},
		NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

// An owner authorization that is set is a value of the configuration, and the error
// says which.
func TestOwnerAuth(t *testing.T) {
	for _, secret := range [][]byte{[]byte("owner"), {1, 0, 2, 0, 3}} { // zero bytes inside are fine here
		s := swtpm.Start(t)
		setAuth(t, s, tpm2.TPMRHOwner, secret)
		for _, wrong := range [][]byte{nil, []byte("wrong")} {
			_, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{Owner: wrong})
			var auth *tpmkeys.AuthError
			if !errors.As(err, &auth) || auth.Hierarchy != "owner" || auth.Given != (wrong != nil) || !strings.Contains(err.Error(), "tpm.owner_auth_file") {
				t.Errorf("with %q: got %v, want an AuthError that names tpm.owner_auth_file", wrong, err)
			}
			if bytes.Contains([]byte(err.Error()), []byte("wrong\"")) {
				t.Errorf("the error shows the value: %v", err)
			}
		}
		ak, err := tpmkeys.Provision(s, nil, tpmkeys.Auths{Owner: secret})
		if err != nil {
			t.Fatal(err)
		}
		// The storage root key is kept now: nothing needs the owner from now on.
		provision(t, s, stored(t, ak))
	}
}
