// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// publicOf returns the public half of a signing key, after a signature with it was verified.
func publicOf(t *testing.T, s *store.Store, c store.Caller, label string, a api.SigningAlgorithm, version uint32) ([]byte, error) {
	t.Helper()
	message := []byte("message of " + c.App.Name)
	signed, err := s.Sign(t.Context(), c, api.SignRequest{Label: label, Algorithm: a, Version: version, Message: message})
	public, err2 := s.PublicKey(t.Context(), c, api.SigningKey{Label: label, Algorithm: a, Version: version})
	if sealing.CodeOf(err) != sealing.CodeOf(err2) {
		t.Errorf("to sign: %v; the public half: %v", err, err2)
	}
	if err != nil {
		return nil, err
	}
	if err := keys.CheckPossession(public.PublicKey, message, signed.Signature); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(public.PublicKey, signed.PublicKey) || public.Version != signed.Version || version != 0 && public.Version != version {
		t.Errorf("signed with version %d, %x; the public half is of version %d, %x", signed.Version, signed.PublicKey, public.Version, public.PublicKey)
	}
	return public.PublicKey, nil
}

// inSoftware are the algorithms of keys that the store makes itself.
func inSoftware() []api.SigningAlgorithm {
	return slices.DeleteFunc(api.SigningAlgorithms(), sealing.InTPM)
}

// TestKeyMaterial checks that what the TPM makes a key from stays, is the app's own, and goes with its
// version; and that no key is made of it here.
func TestKeyMaterial(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	seen := map[string]string{}
	material := func(c store.Caller, label string, version uint32) (string, error) {
		t.Helper()
		k, _, err := s.KeyMaterial(t.Context(), c, api.SigningKey{Label: label, Algorithm: api.SignTPMP256, Version: version})
		if err != nil {
			return "", err
		}
		defer k.Wipe()
		var out string
		err = k.Use(func(b []byte) error { out = string(b); return nil })
		return out, err
	}
	for _, c := range []store.Caller{billing, ledger} {
		for _, label := range []string{"host", "deploy"} {
			m, err := material(c, label, 0)
			if err != nil || len(m) != sealing.TPMKeySize {
				t.Fatalf("%d bytes, %v", len(m), err)
			}
			name := c.App.Name + label
			if other, ok := seen[m]; ok {
				t.Errorf("%s has what the key of %s is made from", name, other)
			}
			seen[m] = name
		}
	}
	s = w.ready(t)
	if _, err := s.Rotate(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	if m, err := material(billing, "host", 1); err != nil || seen[m] != "billinghost" {
		t.Errorf("version 1 is of another key, %v", err)
	}
	if m, err := material(billing, "host", 2); err != nil || seen[m] != "" {
		t.Errorf("version 2 is that of %q, %v", seen[m], err)
	}
	if err := s.Retire(t.Context(), "billing", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := material(billing, "host", 1); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("a version that is forgotten: %v", err)
	}
	if _, err := material(billing, "", 0); !errors.Is(err, api.CodeInvalidValue) {
		t.Errorf("no label: %v", err)
	}
	if signed, err := s.Sign(t.Context(), billing, api.SignRequest{Label: "host", Algorithm: api.SignTPMP256, Message: []byte("m")}); err == nil {
		t.Errorf("signed outside the TPM: %+v", signed)
	}
}

// TestSigningKeysStay checks that a key is the same after each restart and re-wrapping, that a new
// version of the root gives another, and that it goes with its version.
func TestSigningKeysStay(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	seen := map[string]string{}
	first := map[api.SigningAlgorithm][]byte{}
	for _, c := range []store.Caller{billing, ledger} {
		for _, a := range inSoftware() {
			for _, label := range []string{"host", "deploy"} {
				public, err := publicOf(t, s, c, label, a, 0)
				if err != nil {
					t.Fatal(err)
				}
				name := fmt.Sprint(c.App.Name, a, label)
				if other, ok := seen[string(public)]; ok {
					t.Errorf("%s has the key of %s", name, other)
				}
				seen[string(public)] = name
				if c.App == billing.App && label == "host" {
					first[a] = public
				}
			}
		}
	}
	same := func(when string, version uint32) {
		t.Helper()
		for a, want := range first {
			if got, err := publicOf(t, s, billing, "host", a, version); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %s gives %x, %v; want %x", when, a, got, err, want)
			}
		}
	}
	same("again", 0)
	s = w.ready(t)
	same("after a restart", 0)
	if _, err := s.Rewrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	same("after a re-wrap", 1)
	if _, err := s.Rotate(t.Context(), "billing"); err != nil {
		t.Fatal(err)
	}
	same("version 1, after a new one was made", 1)
	for a, old := range first {
		if got, err := publicOf(t, s, billing, "host", a, 0); err != nil || bytes.Equal(got, old) {
			t.Errorf("%s: version 2 gives the key of version 1, %v", a, err)
		}
	}
	if err := s.Retire(t.Context(), "billing", 1); err != nil {
		t.Fatal(err)
	}
	if _, err := publicOf(t, s, billing, "host", api.SignEd25519, 1); !errors.Is(err, api.CodeNotFound) {
		t.Errorf("a key of a version that is forgotten: %v", err)
	}
}

// TestSigningKeysAreForTheApp checks that a key is used only by a caller that has the app's keys.
func TestSigningKeysAreForTheApp(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	if _, err := publicOf(t, s, billing, "host", api.SignP256, 0); err != nil {
		t.Fatal(err)
	}
	if err := s.RequireDigest(t.Context(), billing.App, billing.Digest); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*store.Caller)) store.Caller {
		c := billing
		change(&c)
		return c
	}
	for range 2 { // and after a restart
		for _, x := range []struct {
			c    store.Caller
			want api.Code
		}{
			{billing, ""},
			{changed(func(c *store.Caller) { c.Digest = evidence.Digest{9} }), api.CodeDigestNotAuthorised},
			{changed(func(c *store.Caller) { c.Digest = evidence.Digest{} }), api.CodeDigestNotAuthorised},
			{changed(func(c *store.Caller) { c.App.Unit = "evil.service" }), api.CodeOtherApp},
			{changed(func(c *store.Caller) { c.App.User = "mallory" }), api.CodeOtherUser},
			{changed(func(c *store.Caller) { c.App.Unit = "" }), api.CodeInvalidValue},
		} {
			for _, a := range api.SigningAlgorithms() {
				if _, err := publicOf(t, s, x.c, "host", a, 0); sealing.CodeOf(err) != x.want {
					t.Errorf("%+v, %s: %v, want %q", x.c, a, err, x.want)
				}
			}
		}
		s = w.ready(t)
	}
}

// TestNoDerivedSecretIsAKey checks that no request for a derived secret gives a signing key, not
// even with a label that looks like the name of one.
func TestNoDerivedSecretIsAKey(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	want, err := publicOf(t, s, billing, "host", api.SignEd25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	info := string(sealing.SigningInfo(billing.App, 1, api.SignEd25519, "host"))
	for _, label := range []string{"host", "ed25519", "ed25519host", "hosted25519", sealing.LabelSign, info, info[8+len(sealing.LabelSign):], info[len(info)-35:]} {
		for _, length := range []int{32, 48, 64} {
			out, _, err := s.Derive(t.Context(), billing, []byte(label), length, 0)
			seed, err := text(out, err)
			if err != nil {
				t.Fatal(err)
			}
			public, err := x509.MarshalPKIXPublicKey(ed25519.NewKeyFromSeed([]byte(seed[:32])).Public())
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Equal(public, want) {
				t.Errorf("label %q, length %d derives the signing key", label, length)
			}
		}
	}
}

// TestSigningWaitsForNoWrite checks that a key is used while another app's write waits for the disk.
func TestSigningWaitsForNoWrite(t *testing.T) {
	s, sealed, end := stalled(t, t.Context())
	if _, err := publicOf(t, s, billing, "host", api.SignP384, 0); err != nil {
		t.Error(err)
	}
	select {
	case err := <-sealed:
		t.Fatalf("the write ended: %v", err)
	default:
	}
	end()
	if err := <-sealed; err != nil {
		t.Fatal(err)
	}
}

// TestSigningWritesNothing checks that keys are no state: after the app's root was made, no label
// and no algorithm changes a file or the counter.
func TestSigningWritesNothing(t *testing.T) {
	w := newWorld()
	s := w.ready(t)
	if _, err := publicOf(t, s, billing, "host", api.SignEd25519, 0); err != nil {
		t.Fatal(err)
	}
	generation := func() uint64 {
		t.Helper()
		state, err := s.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return state.Generation
	}
	before := generation()
	for i := range 50 {
		for _, a := range inSoftware() {
			if _, err := publicOf(t, s, billing, fmt.Sprint("label ", i), a, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after := generation(); after != before {
		t.Errorf("generation %d, and %d before", after, before)
	}
}
