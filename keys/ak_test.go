package keys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var none keys.Auths

func provision(t *testing.T, s transport.TPM, blob *keys.Blob) *keys.AK {
	t.Helper()
	ak, err := keys.Provision(s, blob, none)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

// stored is what comes back of a blob that was written to disk.
func stored(t *testing.T, ak *keys.AK) *keys.Blob {
	t.Helper()
	b, err := ak.Blob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := keys.ParseBlob(b)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func selection(t *testing.T, s string) pcr.Selection {
	t.Helper()
	sel, err := pcr.ParseSelection(s)
	if err != nil {
		t.Fatal(err)
	}
	return sel
}

// checkQuote verifies a quote with nothing but Go's ECDSA.
func checkQuote(t *testing.T, ak *keys.AK, attest, signature, data []byte) {
	t.Helper()
	public, err := keys.ParsePublic(ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	key, err := public.Key()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := sig.Signature.ECDSA()
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(attest)
	r, s := new(big.Int).SetBytes(rs.SignatureR.Buffer), new(big.Int).SetBytes(rs.SignatureS.Buffer)
	if !ecdsa.Verify(key.(*ecdsa.PublicKey), sum[:], r, s) {
		t.Error("the signature of the quote is wrong")
	}
	if !bytes.Contains(attest, data) {
		t.Errorf("the quote %x does not hold the data %x", attest, data)
	}
}

func TestQuote(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	public, err := keys.ParsePublic(ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := public.CheckAttestation(); err != nil { // case 50: ours is what we ask of others
		t.Error(err)
	}
	if !public.Name().Equal(ak.Name()) {
		t.Errorf("name %s, want %s", ak.Name(), public.Name())
	}
	for _, n := range []int{0, 1, 32, keys.MaxQualifyingData} {
		data := bytes.Repeat([]byte{0xa5}, n)
		attest, signature, err := ak.Quote(s, data, selection(t, "sha256:0-15+sha384:14"))
		if err != nil {
			t.Fatalf("%d bytes of data: %v", n, err)
		}
		checkQuote(t, ak, attest, signature, data)
	}
	if _, _, err := ak.Quote(s, make([]byte, keys.MaxQualifyingData+1), selection(t, "sha256:14")); err == nil {
		t.Error("65 bytes of data are quoted")
	}
	if _, _, err := ak.Quote(s, nil, nil); err == nil {
		t.Error("no selection is quoted")
	}
}

// A key that was stored is the same key after restarts of the program and of the TPM.
func TestProvisionKeepsKey(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	blob := stored(t, ak)
	for _, again := range []func(){func() {}, s.Reboot, s.PowerCut, s.Reboot} {
		if err := ak.Flush(s); err != nil {
			t.Fatal(err)
		}
		again()
		loaded := provision(t, s, blob)
		if !loaded.Name().Equal(ak.Name()) || !bytes.Equal(loaded.Public(), ak.Public()) {
			t.Fatalf("loaded %s, want %s", loaded.Name(), ak.Name())
		}
		attest, signature, err := loaded.Quote(s, []byte("nonce"), selection(t, "sha256:14"))
		if err != nil {
			t.Fatal(err)
		}
		checkQuote(t, ak, attest, signature, []byte("nonce"))
		ak = loaded
	}
	if other := provision(t, s, nil); other.Name().Equal(ak.Name()) {
		t.Error("a new key is the old one")
	}
}

// case 35: a reset of the TPM shows in the counters, nothing else does.
func TestBoot(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	boot := func(ak *keys.AK) keys.Boot {
		t.Helper()
		b, err := ak.Boot(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := boot(ak)
	if err := pcr.Extend(s, 14, pcr.Digests([]pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}, nil)); err != nil {
		t.Fatal(err)
	}
	if again := boot(provision(t, s, stored(t, ak))); !again.Same(first) || again.Clock < first.Clock {
		t.Errorf("without a reset: %+v after %+v", again, first)
	}
	s.Reboot() // the loaded key is gone, and comes back by itself
	second := boot(ak)
	if second.Same(first) || second.ResetCount != first.ResetCount+1 || second.RestartCount != first.RestartCount {
		t.Errorf("after a reset: %+v after %+v", second, first)
	}
	s.PowerCut()
	if third := boot(ak); third.ResetCount != first.ResetCount+2 {
		t.Errorf("after a power cut: %+v after %+v", third, first)
	}
	if other := boot(provision(t, s, nil)); other.Same(boot(ak)) || other.ResetCount == boot(ak).ResetCount {
		t.Errorf("another key shows the same counters: %+v", other)
	}
	if (keys.Boot{}).Same(keys.Boot{}) {
		t.Error("two unknown boots are the same")
	}
}

// case 65: a clone of the TPM is not told apart by its quotes.
func TestClone(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	blob := stored(t, ak)
	s.Reboot()
	clone := s.Clone()
	s.Reboot() // both have been started as often now
	a, err := ak.Boot(s)
	if err != nil {
		t.Fatal(err)
	}
	twin := provision(t, clone, blob)
	b, err := twin.Boot(clone)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Same(b) {
		t.Errorf("boots %+v and %+v, expected no difference", a, b)
	}
	attest, signature, err := twin.Quote(clone, []byte("nonce"), selection(t, "sha256:14"))
	if err != nil {
		t.Fatal(err)
	}
	checkQuote(t, ak, attest, signature, []byte("nonce"))
}

func TestOtherTPM(t *testing.T) {
	blob := stored(t, provision(t, swtpm.Start(t), nil))
	t.Run("another", func(t *testing.T) {
		for _, used := range []bool{false, true} {
			s := swtpm.Start(t)
			if used {
				provision(t, s, nil).Flush(s)
			}
			if _, err := keys.Provision(s, blob, none); !errors.Is(err, keys.ErrOtherTPM) {
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
		if _, err := keys.Provision(s, stored(t, ak), none); !errors.Is(err, keys.ErrOtherTPM) {
			t.Errorf("got %v, want ErrOtherTPM", err)
		}
		if _, _, err := ak.Quote(s, nil, selection(t, "sha256:14")); !errors.Is(err, keys.ErrOtherTPM) {
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

func transients(t *testing.T, s transport.TPM) int {
	t.Helper()
	return len(listTransients(t, s))
}

func flushTransients(t *testing.T, s transport.TPM) {
	t.Helper()
	for _, h := range listTransients(t, s) {
		if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(s); err != nil {
			t.Fatal(err)
		}
	}
}

func listTransients(t *testing.T, s transport.TPM) []tpm2.TPMHandle {
	t.Helper()
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: 0x80000000, PropertyCount: 100}.Execute(s)
	if err != nil {
		t.Fatal(err)
	}
	h, err := rsp.CapabilityData.Data.Handles()
	if err != nil {
		t.Fatal(err)
	}
	return h.Handle
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

// Whatever stands at 0x81000001 already, there is a key afterwards, it survives a
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
			_, err := keys.Provision(s, nil, keys.Auths{Owner: wrong})
			var auth *keys.AuthError
			if !errors.As(err, &auth) || auth.Hierarchy != "owner" || auth.Given != (wrong != nil) || !strings.Contains(err.Error(), "tpm.owner_auth_file") {
				t.Errorf("with %q: got %v, want an AuthError that names tpm.owner_auth_file", wrong, err)
			}
			if bytes.Contains([]byte(err.Error()), []byte("wrong\"")) {
				t.Errorf("the error shows the value: %v", err)
			}
		}
		ak, err := keys.Provision(s, nil, keys.Auths{Owner: secret})
		if err != nil {
			t.Fatal(err)
		}
		// The storage root key is kept now: nothing needs the owner any more.
		provision(t, s, stored(t, ak))
	}
}

// With the key's handle flushed by somebody, or taken by another object, the key is
// loaded again, and nothing else ever signs.
func TestHandleLost(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	quote := func() {
		t.Helper()
		attest, signature, err := ak.Quote(s, []byte("nonce"), selection(t, "sha256:14"))
		if err != nil {
			t.Fatal(err)
		}
		checkQuote(t, ak, attest, signature, []byte("nonce"))
	}
	quote()
	flushTransients(t, s)
	quote()
	flushTransients(t, s)
	foreign := provision(t, s, nil) // another attestation key, at the same handle
	quote()
	if err := foreign.Flush(s); err != nil {
		t.Fatal(err)
	}
	quote()
}

// case 36: killed ten times while the slots are full, the eleventh start works and has
// the same key.
func TestKilledTenTimes(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	var blob *keys.Blob
	for round := range 11 {
		d, err := tpm.Open(t.Context(), p.Address(), tpm.Options{})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		err = d.Do(t.Context(), func(c transport.TPM) error {
			ak, err := keys.Provision(c, blob, none)
			if err != nil {
				return err
			}
			if blob != nil && !blob.Name().Equal(ak.Name()) {
				t.Errorf("round %d: key %s, want %s", round, ak.Name(), blob.Name())
			}
			blob = ak.Blob()
			if _, _, err := ak.Quote(c, nil, selection(t, "sha256:14")); err != nil {
				return err
			}
			for range 2 { // fill the other slots, and the sessions
				if _, err := (tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}).Execute(c); err != nil {
					return err
				}
			}
			for range 3 {
				if _, _, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16); err != nil {
					return err
				}
			}
			if n := transients(t, c); n != 3 {
				t.Errorf("round %d: %d transient objects, want all three slots taken", round, n)
			}
			return nil
		})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		p.Disconnect()
		d.Close()
	}
}

// The authorization value never appears on the wire: not when the key is made, not
// when it quotes, not when it answers a challenge.
func TestAuthorizationIsNotSent(t *testing.T) {
	s := swtpm.Start(t)
	tap := &tap{tpm: s}
	ak := provision(t, tap, nil)
	if _, _, err := ak.Quote(tap, nil, selection(t, "sha256:14")); err != nil {
		t.Fatal(err)
	}
	challenge, expected, answer := challenge(t, tap, ak, keys.EKECC256)
	if err := expected.Check(answer); err != nil {
		t.Fatal(err)
	}
	_ = challenge
	auth := keys.BlobAuth(ak.Blob())
	if len(auth) != 32 || tap.all.Len() < 1000 {
		t.Fatalf("%d bytes of authorization, %d bytes on the wire: the test does not test", len(auth), tap.all.Len())
	}
	for i := range len(auth) - 7 {
		if bytes.Contains(tap.all.Bytes(), auth[i:i+8]) {
			t.Fatal("eight bytes of the authorization value are on the wire")
		}
	}
	if bytes.Contains(tap.all.Bytes(), answer) {
		t.Error("the answer to the challenge is on the wire in the clear")
	}
}

// tap keeps all that passes.
type tap struct {
	tpm transport.TPM
	all bytes.Buffer
}

func (p *tap) Send(command []byte) ([]byte, error) {
	p.all.Write(command)
	rsp, err := p.tpm.Send(command)
	p.all.Write(rsp)
	return rsp, err
}

func TestParseBlob(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	good, err := ak.Blob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	for name, bad := range map[string]string{
		"empty":         "",
		"null":          "null",
		"cut":           text[:len(text)-1],
		"trailing":      text + "x",
		"other version": strings.Replace(text, "agentd/ak/1", "agentd/ak/2", 1),
		"unknown":       strings.Replace(text, `"type"`, `"extra":1,"type"`, 1),
		"case":          strings.Replace(text, `"auth"`, `"Auth"`, 1),
		"no auth":       text[:strings.Index(text, `,"auth"`)] + "}",
		"zero in auth":  text[:strings.Index(text, `"auth"`)] + `"auth":"` + strings.Repeat("A", 43) + `="}`,
		"short parent":  strings.Replace(text, `"parent":"000b`, `"parent":"0b`, 1),
		"upper parent":  strings.Replace(text, `"parent":"000b`, `"parent":"000B`, 1),
		"public area":   strings.Replace(text, `"public":"`, `"public":"AAAA`, 1),
		"large":         text + strings.Repeat(" ", 20000),
	} {
		if _, err := keys.ParseBlob([]byte(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	// A private part that was changed is the TPM's to find.
	i := strings.Index(text, `"private":"`) + 60
	flipped := []byte(text)
	if flipped[i]++; flipped[i] > 'y' {
		flipped[i] = 'a'
	}
	blob, err := keys.ParseBlob(flipped)
	if err != nil {
		t.Skipf("the flip hit the encoding: %v", err)
	}
	if _, err := keys.Provision(s, blob, none); !errors.Is(err, keys.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}
