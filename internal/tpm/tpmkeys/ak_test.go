// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var none tpmkeys.Auths

func provision(t *testing.T, s transport.TPM, blob *tpmkeys.Blob) *tpmkeys.AK {
	t.Helper()
	ak, err := tpmkeys.Provision(s, blob, none)
	if err != nil {
		t.Fatal(err)
	}
	return ak
}

// stored is what comes back of a blob that was written to disk.
func stored(t *testing.T, ak *tpmkeys.AK) *tpmkeys.Blob {
	t.Helper()
	b, err := ak.Blob().Encode()
	if err != nil {
		t.Fatal(err)
	}
	blob, err := tpmkeys.ParseBlob(b)
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
func checkQuote(t *testing.T, ak *tpmkeys.AK, attest, signature, data []byte) {
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
		t.Errorf("the quote %x does not contain the data %x", attest, data)
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
	for _, n := range []int{0, 1, 32, tpmkeys.MaxQualifyingData} {
		data := bytes.Repeat([]byte{0xa5}, n)
		attest, signature, err := ak.Quote(s, data, selection(t, "sha256:0-15+sha384:14"))
		if err != nil {
			t.Fatalf("%d bytes of data: %v", n, err)
		}
		checkQuote(t, ak, attest, signature, data)
	}
	if _, _, err := ak.Quote(s, make([]byte, tpmkeys.MaxQualifyingData+1), selection(t, "sha256:14")); err == nil {
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
	boot := func(ak *tpmkeys.AK) tpmkeys.Boot {
		t.Helper()
		b, err := ak.Boot(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	first := boot(ak)
	if err := registers.Extend(s, 14, pcr.Digests([]pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512}, nil)); err != nil {
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
	if (tpmkeys.Boot{}).Same(tpmkeys.Boot{}) {
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

// An attestation key of RSA is kept as one of ECC is, quotes and certifies. A stored key of the other
// kind is not taken for it.
func TestOwnRSA(t *testing.T) {
	s := swtpm.Start(t)
	ak, err := tpmkeys.ProvisionAs(s, tpmkeys.AKOwnRSA, nil, none)
	if err != nil {
		t.Fatal(err)
	}
	public, err := keys.ParsePublic(ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	if key, err := public.Key(); err != nil || key.(*rsa.PublicKey).N.BitLen() != 2048 || public.CheckAttestation() != nil {
		t.Fatalf("%T, %v", key, err)
	}
	blob := stored(t, ak)
	s.Reboot()
	again, err := tpmkeys.ProvisionAs(s, tpmkeys.AKOwnRSA, blob, none)
	if err != nil || !again.Name().Equal(ak.Name()) {
		t.Fatalf("after a reboot: %v", err)
	}
	attest, _, err := again.Quote(s, []byte("nonce"), selection(t, "sha256:14"))
	if err == nil {
		_, err = tpmkeys.ParseQuote(attest, []byte("nonce"))
	}
	if err != nil {
		t.Error(err)
	}
	var a tpmkeys.AppKeys
	c, err := certifyApp(s, &a, again, material(1), []byte("nonce"))
	if err == nil {
		_, err = c.Check(ak.Public(), []byte("nonce"))
	}
	if err != nil {
		t.Error(err)
	}
	if err := again.Flush(s); err != nil {
		t.Fatal(err)
	}
	if _, err := tpmkeys.Provision(s, blob, none); !errors.Is(err, tpmkeys.ErrDamaged) {
		t.Errorf("a key of RSA in the place of one of ECC: %v", err)
	}
	ecc := provision(t, s, nil)
	if _, err := tpmkeys.ProvisionAs(s, tpmkeys.AKOwnRSA, stored(t, ecc), none); !errors.Is(err, tpmkeys.ErrDamaged) {
		t.Errorf("a key of ECC in the place of one of RSA: %v", err)
	}
}
