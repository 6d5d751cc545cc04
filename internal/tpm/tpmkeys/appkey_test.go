// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform/soft/google"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// material is what a key of an application is made from. Seed tells one from another.
func material(seed byte) []byte {
	out := bytes.Repeat([]byte{seed}, tpmkeys.AppKeySize)
	copy(out[64:], []byte{0, 0xff, 0xfe, 0}) // an authorization value has no zero byte, whatever it is made from
	return out
}

// appPublic returns the public area of the key that a makes of m, after it signed once.
func appPublic(t *testing.T, s transport.TPM, a *tpmkeys.AppKeys, m []byte) (p *keys.Public) {
	t.Helper()
	digest := sha256.Sum256(m)
	if err := a.Use(s, m, none, func(k *tpmkeys.AppKey) error {
		p = k.Public()
		signature, err := k.Sign(s, digest[:])
		if err != nil {
			return err
		}
		key, err := p.Key()
		if err != nil {
			return err
		}
		if !ecdsa.VerifyASN1(key.(*ecdsa.PublicKey), digest[:], signature) {
			return errors.New("the signature is wrong")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// certify has ak certify the key that a makes of m.
func certifyApp(s transport.TPM, a *tpmkeys.AppKeys, ak *tpmkeys.AK, m, data []byte) (c *keys.Certification, err error) {
	err = a.Use(s, m, none, func(k *tpmkeys.AppKey) (err error) {
		c, err = k.Certify(s, ak, data)
		return err
	})
	return c, err
}

// case 151: a key is the same after restarts of program and TPM, whether it comes from a saved context or is
// made again; every byte of what it is made from matters, and so does the TPM. No slot of the TPM
// stays in use.
func TestAppKey(t *testing.T) {
	s := swtpm.Start(t)
	if tpmkeys.AppKeySize != sealing.TPMKeySize {
		t.Fatalf("made from %d bytes, a store gives %d", tpmkeys.AppKeySize, sealing.TPMKeySize)
	}
	var a tpmkeys.AppKeys
	first := appPublic(t, s, &a, material(1))
	area := first.Area()
	if area.ObjectAttributes != (tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true}) {
		t.Errorf("attributes %+v", area.ObjectAttributes)
	}
	for what, restart := range map[string]func() *tpmkeys.AppKeys{
		"saved":       func() *tpmkeys.AppKeys { return &a },
		"new program": func() *tpmkeys.AppKeys { return new(tpmkeys.AppKeys) },
		"reset TPM":   func() *tpmkeys.AppKeys { s.Reboot(); return &a },
		"power cut":   func() *tpmkeys.AppKeys { s.PowerCut(); return &a },
		"both":        func() *tpmkeys.AppKeys { s.Reboot(); return new(tpmkeys.AppKeys) },
	} {
		if again := appPublic(t, s, restart(), material(1)); !again.Name().Equal(first.Name()) {
			t.Errorf("%s: another key", what)
		}
		if n := transients(t, s); n != 0 {
			t.Errorf("%s: %d transient objects are left", what, n)
		}
	}
	for _, at := range []int{0, 31, 32, 63} {
		m := material(1)
		m[at] ^= 1
		if other := appPublic(t, s, &a, m); other.Name().Equal(first.Name()) {
			t.Errorf("byte %d of what it is made from does not matter", at)
		}
	}
	if other := appPublic(t, swtpm.Start(t), &a, material(1)); other.Name().Equal(first.Name()) {
		t.Error("another TPM makes the same key")
	}
	clear(t, s)
	if other := appPublic(t, s, &a, material(1)); other.Name().Equal(first.Name()) {
		t.Error("the key survives a clear of the TPM")
	}
	if err := a.Use(s, material(1)[1:], none, nil); err == nil {
		t.Error("made from 95 bytes")
	}
}

// The saved context of a key is used, and is bounded: what was used least recently goes first.
func TestAppKeyIsSaved(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var a tpmkeys.AppKeys
	made := func(seed byte) bool {
		t.Helper()
		before := len(p.Commands())
		if err := d.Do(t.Context(), func(s transport.TPM) error { appPublic(t, s, &a, material(seed)); return nil }); err != nil {
			t.Fatal(err)
		}
		now := p.Commands()[before:]
		if slices.Contains(now, tpm2.TPMCCContextLoad) == slices.Contains(now, tpm2.TPMCCContextSave) {
			t.Fatalf("key %d: %v", seed, now)
		}
		return slices.Contains(now, tpm2.TPMCCContextSave)
	}
	const most = 64
	for seed := range byte(most) {
		if !made(seed) {
			t.Fatalf("key %d is there before it was made", seed)
		}
	}
	if made(0) {
		t.Error("a saved key is made again")
	}
	if !made(most) || made(0) || made(most) {
		t.Error("the key that was used last is forgotten")
	}
	if !made(1) {
		t.Error("more keys are saved than there is room for")
	}
}

// Certified is the key and nothing else, over the data that was asked for, by AKs that quote too.
func TestCertify(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	var a tpmkeys.AppKeys
	for _, n := range []int{1, 32, keys.MaxCertificationData} {
		data := bytes.Repeat([]byte{0xa5}, n)
		c, err := certifyApp(s, &a, ak, material(1), data)
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		p, err := c.Check(ak.Public(), data)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Name().Equal(appPublic(t, s, &a, material(1)).Name()) {
			t.Error("another key is certified")
		}
		if _, err := tpmkeys.ParseQuote(c.Attest, data); err == nil {
			t.Error("a certification is read as a quote")
		}
	}
	if c, err := certifyApp(s, &a, ak, material(1), make([]byte, keys.MaxCertificationData+1)); err == nil {
		t.Errorf("65 bytes of data are certified: %+v", c)
	}
	s.Reboot() // the loaded AK and the saved context are gone
	if _, err := certifyApp(s, &a, ak, material(1), []byte("nonce")); err != nil {
		t.Error(err)
	}
	if err := ak.Flush(s); err != nil {
		t.Fatal(err)
	}
	if n := transients(t, s); n != 0 {
		t.Errorf("%d transient objects are left", n)
	}
}

// case 152: a quote, and a certification of another kind of object, is not a certification of a key.
func TestCertificationOfOthers(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	data := []byte("nonce")
	quote, signature, err := ak.Quote(s, data, selection(t, "sha256:14"))
	if err != nil {
		t.Fatal(err)
	}
	var a tpmkeys.AppKeys
	c, err := certifyApp(s, &a, ak, material(1), data)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := (keys.Certification{Public: c.Public, Attest: quote, Signature: signature}).Check(ak.Public(), data); err == nil {
		t.Errorf("a quote certifies %s", p.Name())
	}
	if p, err := (keys.Certification{Public: ak.Public(), Attest: c.Attest, Signature: c.Signature}).Check(ak.Public(), data); err == nil {
		t.Errorf("a certification of an app's key certifies %s", p.Name())
	}
	if p, err := c.Check(provision(t, s, nil).Public(), data); err == nil {
		t.Errorf("another AK certifies %s", p.Name())
	}
}

// The authorization value does not cross the bus in the clear, and the key cannot be used without it.
func TestAppKeyAuthorization(t *testing.T) {
	s := swtpm.Start(t)
	tap := &tap{tpm: s}
	m := material(7)
	rand.Read(m[64:])
	auth := make([]byte, 32)
	for i, b := range m[64:] {
		auth[i] = b%255 + 1
	}
	var a tpmkeys.AppKeys
	var secrets [][]byte
	err := a.Use(tap, m, none, func(k *tpmkeys.AppKey) error {
		secrets = tpmkeys.AppSecret(k)
		digest := sha256.Sum256(nil)
		if _, err := k.Sign(tap, digest[:]); err != nil {
			return err
		}
		held := swtpm.Handles(t, s, tpm2.TPMHTTransient)
		if len(held) != 1 {
			return fmt.Errorf("%d objects are loaded", len(held))
		}
		try := func(password []byte) error {
			_, err := tpm2.Sign{
				KeyHandle:  tpm2.AuthHandle{Handle: held[0], Name: tpm2.TPM2BName{Buffer: k.Public().Name()}, Auth: tpm2.PasswordAuth(password)},
				Digest:     tpm2.TPM2BDigest{Buffer: digest[:]},
				Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
			}.Execute(s)
			return err
		}
		if err := try(nil); !tpmkeys.Refused(err) {
			return fmt.Errorf("used without authorization: %v", err)
		}
		return try(auth) // it is the value that docs/sealing.md says
	})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(tap.all.Bytes(), auth) {
		t.Error("the authorization value was sent in the clear")
	}
	for _, left := range secrets {
		if !bytes.Equal(left, make([]byte, 32)) {
			t.Errorf("after its use %x is left in memory", left)
		}
	}
}

// Many goroutines use many keys at once, with resets of the TPM in between.
func TestAppKeysAtOnce(t *testing.T) {
	s := swtpm.Start(t)
	d := s.Device(tpm.Options{})
	var a tpmkeys.AppKeys
	var names sync.Map
	for range 3 {
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				for j := range 4 {
					seed := byte(i+j) % 5
					if err := d.Do(t.Context(), func(s transport.TPM) error {
						return a.Use(s, material(seed), none, func(k *tpmkeys.AppKey) error {
							digest := sha256.Sum256([]byte{seed})
							if name, _ := names.LoadOrStore(seed, k.Public().Name().String()); name != k.Public().Name().String() {
								t.Errorf("key %d is another one", seed)
							}
							_, err := k.Sign(s, digest[:])
							return err
						})
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if err := d.Do(t.Context(), func(transport.TPM) error { s.Reboot(); return nil }); err != nil {
			t.Fatal(err)
		}
	}
}

// Attestation keys that a platform made certify keys of applications too, of ECC and of RSA.
func TestCertifyByPlatform(t *testing.T) {
	s := swtpm.Start(t)
	authority, err := google.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := authority.Provision(s, google.Instance); err != nil {
		t.Fatal(err)
	}
	var a tpmkeys.AppKeys
	for _, choice := range []tpmkeys.AKChoice{tpmkeys.AKGCPECC, tpmkeys.AKGCPRSA} {
		ak, err := tpmkeys.Google(s, choice, none)
		if err != nil {
			t.Fatal(err)
		}
		c, err := certifyApp(s, &a, ak, material(1), []byte("nonce"))
		if err == nil {
			_, err = c.Check(ak.Public(), []byte("nonce"))
		}
		if err != nil {
			t.Errorf("%s: %v", choice, err)
		}
		if err := ak.Flush(s); err != nil {
			t.Fatal(err)
		}
	}
}

// A TPM without room to keep the storage root key, and with an owner, has slots enough: for that key,
// the attestation key, and the key of the application.
func TestAppKeyWithoutRoom(t *testing.T) {
	s := swtpm.Start(t)
	secret := []byte("owner")
	setAuth(t, s, tpm2.TPMRHOwner, secret)
	owned := tpmkeys.Auths{Owner: secret}
	fillPersistent(t, s, secret)
	ak, err := tpmkeys.Provision(s, nil, owned)
	if err != nil {
		t.Fatal(err)
	}
	var a tpmkeys.AppKeys
	for range 2 {
		if err := a.Use(s, material(1), owned, func(k *tpmkeys.AppKey) error {
			_, err := k.Certify(s, ak, []byte("nonce"))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if n := transients(t, s); n != 1 {
			t.Errorf("%d transient objects are loaded, want that of the attestation key alone", n)
		}
	}
	var auth *tpmkeys.AuthError
	if err := new(tpmkeys.AppKeys).Use(s, material(1), none, nil); !errors.As(err, &auth) || auth.Hierarchy != "owner" {
		t.Errorf("without the owner's authorization: %v", err)
	}
	if n := transients(t, s); n != 1 {
		t.Errorf("%d transient objects are loaded after a refusal", n)
	}
}

// fillPersistent keeps keys until the TPM has no room for another.
func fillPersistent(t *testing.T, s transport.TPM, owner []byte) {
	t.Helper()
	auth := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(owner)}
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: auth, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	for place := tpm2.TPMHandle(0x81000100); place < 0x81000200; place++ {
		_, err := tpm2.EvictControl{Auth: auth, ObjectHandle: tpm2.NamedHandle{Handle: rsp.ObjectHandle, Name: rsp.Name}, PersistentHandle: place}.Execute(s)
		if errors.Is(err, tpm2.TPMRCNVSpace) {
			swtpm.Flush(t, s, tpm2.TPMHTTransient)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatal("the TPM has room for 256 keys")
}

// case 151: a caller leaves during each command in turn. The next one has its key, and no slot of the TPM stays
// in use.
func TestAppKeyCallerLeaves(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	var want string
	left := 0
	for n := 1; ; n++ {
		ctx, leave := context.WithCancel(t.Context())
		seen := 0
		p.Inject(func([]byte) (f swtpm.Fault) {
			if seen++; seen == n {
				leave()
			}
			return f
		})
		var a tpmkeys.AppKeys
		sign := func(ctx context.Context) error {
			return d.Do(ctx, func(s transport.TPM) error {
				return a.Use(s, material(1), none, func(k *tpmkeys.AppKey) error {
					digest := sha256.Sum256(nil)
					_, err := k.Sign(s, digest[:])
					return err
				})
			})
		}
		err := sign(ctx)
		p.Inject(nil)
		if err != nil {
			left++
		}
		leave()
		if err := d.Do(t.Context(), func(s transport.TPM) error {
			name := appPublic(t, s, &a, material(1)).Name().String()
			if want == "" {
				want = name
			}
			if name != want {
				t.Errorf("after a caller left at command %d: another key", n)
			}
			if held := transients(t, s); held != 0 {
				t.Errorf("after a caller left at command %d: %d objects are loaded", n, held)
			}
			return nil
		}); err != nil {
			t.Fatalf("after a caller left at command %d: %v", n, err)
		}
		if seen < n {
			break
		}
	}
	if left < 5 {
		t.Errorf("%d callers left in the middle", left)
	}
}
