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
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var kinds = []keys.EKKind{keys.EKRSA2048, keys.EKECC256}

func readEK(t *testing.T, s transport.TPM, kind keys.EKKind) *tpmkeys.EK {
	t.Helper()
	ek, err := tpmkeys.ReadEK(s, kind, none)
	if err != nil {
		t.Fatal(err)
	}
	return ek
}

// challenge goes through both sides.
func challenge(t *testing.T, s transport.TPM, ak *tpmkeys.AK, kind keys.EKKind) (*keys.Challenge, *keys.Expected, []byte) {
	t.Helper()
	c, expected, err := keys.NewChallenge(readEK(t, s, kind).Public.Bytes(), ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ak.Activate(s, kind, c, none)
	if err != nil {
		t.Fatal(err)
	}
	return c, expected, answer
}

func TestActivate(t *testing.T) {
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			s := swtpm.Start(t)
			ak := provision(t, s, nil)
			for range 10 { // coordinates and secrets that begin with zero come by in time
				_, expected, answer := challenge(t, s, ak, kind)
				if err := expected.Check(answer); err != nil {
					t.Fatal(err)
				}
				if !expected.AK.Equal(ak.Name()) {
					t.Errorf("expected names %s, want %s", expected.AK, ak.Name())
				}
				for _, wrong := range [][]byte{nil, answer[:31], append(answer[:31:31], answer[31]^1), append(answer[:32:32], 0)} {
					if err := expected.Check(wrong); !errors.Is(err, keys.ErrCredential) {
						t.Errorf("answer %x: got %v, want ErrCredential", wrong, err)
					}
				}
			}
			if n := transients(t, s); n != 1 {
				t.Errorf("%d transient objects, want the attestation key alone", n)
			}
			if err := new(keys.Expected).Check(nil); err == nil {
				t.Error("nothing was expected, and nothing is taken for it")
			}
		})
	}
}

// A challenge that was made for another key or another TPM is not answered.
func TestActivateRefused(t *testing.T) {
	s, other := swtpm.Start(t), swtpm.Start(t)
	ak := provision(t, s, nil)
	second := provision(t, s, nil)
	foreign := provision(t, other, nil)
	for _, kind := range kinds {
		ek := readEK(t, s, kind).Public.Bytes()
		make := func(ek []byte, ak *tpmkeys.AK) *keys.Challenge {
			c, _, err := keys.NewChallenge(ek, ak.Public())
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		good := make(ek, ak)
		flip := func(b []byte, i int) []byte {
			b = bytes.Clone(b)
			b[i] ^= 1
			return b
		}
		for name, c := range map[string]*keys.Challenge{
			"another key's name":    make(ek, second),
			"another TPM's AK":      make(ek, foreign),
			"another TPM's EK":      make(readEK(t, other, kind).Public.Bytes(), ak),
			"HMAC flipped":          {Credential: flip(good.Credential, 10), Secret: good.Secret},
			"HMAC size flipped":     {Credential: flip(good.Credential, 1), Secret: good.Secret},
			"last byte flipped":     {Credential: flip(good.Credential, len(good.Credential)-1), Secret: good.Secret},
			"encrypted secret flip": {Credential: good.Credential, Secret: flip(good.Secret, 20)},
			"encrypted secret cut":  {Credential: good.Credential, Secret: good.Secret[:len(good.Secret)-1]},
			"credential cut":        {Credential: good.Credential[:40], Secret: good.Secret},
		} {
			if answer, err := ak.Activate(s, kind, c, none); !errors.Is(err, keys.ErrCredential) {
				t.Errorf("%s, %s: got %x, %v, want ErrCredential", kind, name, answer, err)
			}
		}
		for name, c := range map[string]*keys.Challenge{
			"nothing": {},
			"large":   {Credential: good.Credential, Secret: bytes.Repeat([]byte{1}, 2000)},
		} {
			if _, err := ak.Activate(s, kind, c, none); err == nil {
				t.Errorf("%s, %s: no error", kind, name)
			}
		}
		if _, err := ak.Activate(s, kind, good, none); err != nil {
			t.Errorf("%s: the good one: %v", kind, err)
		}
	}
	if _, err := ak.Activate(s, "rsa3072", &keys.Challenge{}, none); err == nil {
		t.Error("an unknown kind is not an error")
	}
}

// An endorsement authorization that is set is a value of the configuration.
func TestEndorsementAuth(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	c, expected, err := keys.NewChallenge(readEK(t, s, keys.EKECC256).Public.Bytes(), ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	secret := []byte("endorsement")
	setAuth(t, s, tpm2.TPMRHEndorsement, secret)
	for _, wrong := range [][]byte{nil, []byte("wrong")} {
		_, err := tpmkeys.ReadEK(s, keys.EKECC256, tpmkeys.Auths{Endorsement: wrong})
		var auth *tpmkeys.AuthError
		if !errors.As(err, &auth) || auth.Hierarchy != "endorsement" || !strings.Contains(err.Error(), "tpm.endorsement_auth_file") {
			t.Errorf("read with %q: got %v", wrong, err)
		}
		if _, err := ak.Activate(s, keys.EKECC256, c, tpmkeys.Auths{Endorsement: wrong}); !errors.As(err, &auth) {
			t.Errorf("activate with %q: got %v", wrong, err)
		}
	}
	answer, err := ak.Activate(s, keys.EKECC256, c, tpmkeys.Auths{Endorsement: secret})
	if err != nil {
		t.Fatal(err)
	}
	if err := expected.Check(answer); err != nil {
		t.Error(err)
	}
}
