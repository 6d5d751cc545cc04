// SPDX-License-Identifier: Apache-2.0

package trial_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpm/trial"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

func setAuth(t *testing.T, s transport.TPM, hierarchy tpm2.TPMHandle, value string) {
	t.Helper()
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: hierarchy, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte(value)},
	}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
}

func primary(s transport.TPM) error {
	_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(s)
	return err
}

// withoutECC makes the TPM behind p one that has no elliptic curves.
func withoutECC(p *swtpm.Proxy) {
	p.Inject(func(command []byte) swtpm.Fault {
		switch {
		case swtpm.CommandCode(command) == tpm2.TPMCCCreatePrimary:
			return swtpm.Fault{Code: tpm2.TPMRCType}
		case swtpm.CommandCode(command) == tpm2.TPMCCGetCapability && command[13] == byte(tpm2.TPMCapECCCurves):
			return swtpm.Fault{Rewrite: func(rsp []byte) []byte {
				return append(swtpm.Response(0)[:2], 0, 0, 0, 19, 0, 0, 0, 0, 0, 0, 0, 0, byte(tpm2.TPMCapECCCurves), 0, 0, 0, 0)
			}}
		}
		return swtpm.Fault{}
	})
}

// case 111: each state of a TPM is found, and only that, with a command that helps. The TPM
// is left as it was.
func TestStates(t *testing.T) {
	for name, c := range map[string]struct {
		make  func(*testing.T, *swtpm.TPM, *swtpm.Proxy)
		auths tpmkeys.Auths
		bad   []string // names of the findings, in their order
		todo  string
	}{
		"nothing is wrong": {func(*testing.T, *swtpm.TPM, *swtpm.Proxy) {}, tpmkeys.Auths{}, nil, ""},
		"no ECC":           {func(_ *testing.T, _ *swtpm.TPM, p *swtpm.Proxy) { withoutECC(p) }, tpmkeys.Auths{}, []string{"ecc", "storage-key"}, "tpm2_getcap ecc-curves"},
		"owner authorization": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHOwner, "o") },
			tpmkeys.Auths{}, []string{"owner", "storage-key"}, "tpm.owner_auth_file"},
		"owner authorization, given": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHOwner, "o") },
			tpmkeys.Auths{Owner: []byte("o")}, nil, ""},
		"owner authorization with a line break": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHOwner, "o") },
			tpmkeys.Auths{Owner: []byte("o\n")}, []string{"owner", "storage-key"}, "truncate -s -1"},
		"owner authorization, wrong": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHOwner, "o") },
			tpmkeys.Auths{Owner: []byte("p")}, []string{"owner", "storage-key"}, "correct the file"},
		"a value that the TPM does not have": {func(*testing.T, *swtpm.TPM, *swtpm.Proxy) {}, tpmkeys.Auths{Owner: []byte("o")}, []string{"owner", "storage-key"}, "tpm2_changeauth -c owner"},
		"endorsement authorization": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHEndorsement, "e") },
			tpmkeys.Auths{}, []string{"endorsement"}, "tpm.endorsement_auth_file"},
		"endorsement authorization, given": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { setAuth(t, s, tpm2.TPMRHEndorsement, "e") },
			tpmkeys.Auths{Endorsement: []byte("e")}, nil, ""},
		"NV memory is full": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) { swtpm.FillNV(t, s, 0x01800000) }, tpmkeys.Auths{}, []string{"nv"}, "tpm2_nvundefine"},
		"three slots": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) {
			for range 3 {
				if err := primary(s); err != nil {
					t.Fatal(err)
				}
			}
		}, tpmkeys.Auths{}, []string{"storage-key", "slots"}, "tpm2_flushcontext --transient-object"},
		"64 sessions": {func(t *testing.T, s *swtpm.TPM, _ *swtpm.Proxy) {
			for {
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
		}, tpmkeys.Auths{}, []string{"owner", "endorsement", "storage-key", "session"}, "tpm2_flushcontext --saved-session"},
	} {
		t.Run(name, func(t *testing.T) {
			s := swtpm.Start(t)
			p := s.Listen()
			d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			c.make(t, s, p)
			before := inventory(t, s)
			var bad []string
			todo := false
			for _, f := range trial.Run(t.Context(), d, c.auths) {
				if f.Text == "" || f.OK != (f.Todo == "") {
					t.Errorf("%+v: a finding says what was found, and what to do if that is bad", f)
				}
				if !f.OK {
					bad = append(bad, f.Name)
					todo = todo || strings.Contains(f.Todo, c.todo)
				}
				for _, secret := range []string{string(c.auths.Owner), string(c.auths.Endorsement)} {
					if len(secret) > 3 && strings.Contains(f.Text+f.Todo, secret) {
						t.Errorf("%+v shows a secret", f)
					}
				}
			}
			if !slices.Equal(bad, c.bad) || todo != (c.bad != nil) {
				t.Errorf("found %v, want %v with %q", bad, c.bad, c.todo)
			}
			p.Inject(nil)
			if after := inventory(t, s); !slices.Equal(before, after) {
				t.Errorf("the TPM had the handles %x, and has %x", before, after)
			}
		})
	}
}

// TestKeysWithoutECC: case 111, a key that cannot be made for want of ECC says so, and not what the
// TPM said of the command.
func TestKeysWithoutECC(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	withoutECC(p)
	err = d.Do(t.Context(), func(tr transport.TPM) error {
		_, err := tpmkeys.Provision(tr, nil, tpmkeys.Auths{})
		return err
	})
	state, ok := errors.AsType[*tpm.StateError](err)
	if !ok || !errors.Is(err, tpm.ErrRefuses) || !errors.Is(err, tpm2.TPMRCType) || !strings.Contains(state.Todo, "tpm2_getcap ecc-curves") {
		t.Errorf("%v", err)
	}
}

// inventory lists what is in the TPM: indices, sessions, transient and persistent objects.
func inventory(t *testing.T, s transport.TPM) []tpm2.TPMHandle {
	t.Helper()
	return swtpm.Handles(t, s, tpm2.TPMHTNVIndex, tpm2.TPMHTHMACSession, tpm2.TPMHTPolicySession, tpm2.TPMHTTransient, tpm2.TPMHTPersistent)
}
