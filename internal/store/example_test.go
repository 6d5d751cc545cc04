// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/cryptotest"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// The inputs of the worked example.
var (
	exampleSNPKey    = count(32, 0x10)
	exampleTPMSecret = count(32, 0x40)
	exampleTPMName   = append([]byte{0, 11}, count(32, 0x70)...)
	exampleSeed      = count(32, 0xc0)
	exampleAppRoot   = append([]byte{0, 1, 0, 0, 0, 1}, count(32, 0xa0)...)
)

const exampleIdentity = "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN"

func count(n int, first byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// exampleMachine answers with the inputs.
type exampleMachine struct {
	*memoryTPM
	*memoryFiles
}

func (exampleMachine) Reading(context.Context) (sealing.Reading, error) {
	r := sealing.Reading{GuestPolicy: 0x30000, TCB: sealing.TCB{3, 0, 0, 0, 0, 0, 20, 209}}
	copy(r.ChipID[:], count(64, 0))
	copy(r.Measurement[:], count(48, 0x80))
	return r, nil
}

func (exampleMachine) DeriveKey(context.Context, sealing.TCB) (*secret.Secret, error) {
	return secret.Take(bytes.Clone(exampleSNPKey))
}

func (exampleMachine) Unseal(context.Context, []byte) (*secret.Secret, error) {
	return secret.Take(bytes.Clone(exampleTPMSecret))
}

func (exampleMachine) Name([]byte) ([]byte, error) { return exampleTPMName, nil }

func newExampleMachine() exampleMachine {
	m := exampleMachine{newTPM(), newFiles()}
	m.files[store.SecretFile(exampleTPMName)] = []byte("record")
	return m
}

func sealExample(t *testing.T, id *age.X25519Identity) []byte {
	t.Helper()
	cryptotest.SetGlobalRandom(t, 1)
	payload, err := secret.Take(bytes.Clone(exampleAppRoot))
	must(t, err)
	h := sealing.Header{Kind: sealing.KindAppRoot, App: billing.App, Generation: 7, Digests: []evidence.Digest{sha256.Sum256([]byte("billing 1.0"))}}
	m := newExampleMachine()
	b, err := store.SealFor(t.Context(), m, m, m, h, exampleTPMName, []string{id.Recipient().String()}, exampleSeed, payload)
	must(t, err)
	return b
}

// TestWorkedExample reads testdata/worked-example.sealed with nothing but what
// docs/sealing.md says, and compares the example there with what it finds.
func TestWorkedExample(t *testing.T) {
	id, err := age.ParseX25519Identity(exampleIdentity)
	must(t, err)
	path := filepath.Join("..", "..", "sealing", "testdata", "worked-example.sealed")
	if *update {
		must(t, os.WriteFile(path, sealExample(t, id), 0o644))
	}
	raw, err := os.ReadFile(path)
	must(t, err)
	var text strings.Builder
	text.WriteString("```\n")
	say := func(what string, b []byte) { fmt.Fprintf(&text, "%s\n    %s\n", what, hex.EncodeToString(b)) }

	list := fields(t, raw)
	fieldsEnd := list[16].end
	value := func(tag uint16) []byte { return list[tag-1].value(raw) }
	wrapped, recovery, payload, sender := list[17].value(raw), list[18].value(raw), list[19].value(raw), list[20].value(raw)

	say("prelude", raw[:24])
	for i := range 17 {
		say("field "+fieldNames[i], raw[list[i].start:list[i].end])
	}
	say("SNP derived key", exampleSNPKey)
	say("TPM secret", exampleTPMSecret)
	root, err := hkdf.Extract(sha256.New, evidence.Preimage("agentd/seal/roots/1", []byte("snp+tpm"), exampleSNPKey, exampleTPMSecret), nil)
	must(t, err)
	say("root snp+tpm", root)
	slots := value(17)
	salt, check := slots[2:34], slots[34:50]
	okm, err := hkdf.Expand(sha256.New, root, string(evidence.Preimage("agentd/seal/slot/1", []byte("snp+tpm"), salt)), 48)
	must(t, err)
	say("slot key", okm[:32])
	say("key check", okm[32:])
	if !bytes.Equal(okm[32:], check) {
		t.Error("the key check in the slot is another one")
	}
	header := evidence.Sum256("agentd/seal/header/2", raw[24:fieldsEnd])
	say("header digest", header[:])
	say("wrapped key snp+tpm", wrapped)
	dataKey := gcm(t, okm[:32], wrapped, header[:])
	say("data key", dataKey)
	say("wrapped key recovery", recovery)
	r, err := age.Decrypt(bytes.NewReader(recovery), id)
	must(t, err)
	plain, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(plain, append(header[:], dataKey...)) {
		t.Error("the recovery slot contains another key")
	}
	fmt.Fprintf(&text, "recovery identity\n    %s\n", exampleIdentity)
	data := evidence.Sum256("agentd/seal/payload/1", header[:], wrapped, recovery)
	say("associated data of the payload", data[:])
	say("payload field", payload)
	opened := gcm(t, dataKey, payload, data[:])
	say("payload", opened)
	if !bytes.Equal(opened, exampleAppRoot) {
		t.Error("the payload is not the app root of the example")
	}
	say("store key, private half", exampleSeed)
	private := ed25519.NewKeyFromSeed(exampleSeed)
	say("signature field", sender)
	if !bytes.Equal(sender[:32], private[32:]) {
		t.Error("the blob names another store key")
	}
	upToPayload := sha256.Sum256(raw[:list[19].end])
	message := evidence.Preimage("agentd/seal/signature/1", sender[:32], upToPayload[:])
	say("SHA-256 of the file up to the payload", upToPayload[:])
	if !ed25519.Verify(sender[:32], message, sender[32:96]) {
		t.Error("the signature is not that of the store key")
	}
	check, err = hkdf.Expand(sha256.New, dataKey, string(evidence.Preimage("agentd/seal/sender/1", sender[:32], sender[32:96])), 16)
	must(t, err)
	if !bytes.Equal(check, sender[96:]) {
		t.Error("the check of the sender is another one")
	}
	sum := evidence.Sum256("agentd/seal/store-key/1", sender[:32])
	fmt.Fprintf(&text, "store key in text\n    agentd-store-key:%x%x\n", sender[:32], sum[:4])
	info := evidence.Preimage("agentd/seal/derive/1", binary.BigEndian.AppendUint32(nil, 1),
		[]byte("billing"), []byte("billing.service"), []byte("billing"), []byte("disk"), binary.BigEndian.AppendUint32(nil, 32))
	derived, err := hkdf.Expand(sha256.New, opened[6:], string(info), 32)
	must(t, err)
	say("derived: version 1, label disk, length 32", derived)
	saySigningKeys(t, opened[6:], say)
	text.WriteString("```\n")
	checkDoc(t, "worked example", text.String())

	// The program reads the same.
	b, err := sealing.ParseBlob(raw)
	must(t, err)
	must(t, b.CheckSender(sealing.StoreKey(private[32:])))
	if want := fmt.Sprintf("agentd-store-key:%x%x", sender[:32], sum[:4]); b.Sender.Key.String() != want {
		t.Errorf("store key in text: %s, want %s", b.Sender.Key, want)
	}
	if !bytes.Equal(b.Encode(), raw) {
		t.Error("written again, the blob differs")
	}
	m := newExampleMachine()
	s, err := store.OpenBlob(t.Context(), m, m, m, b)
	must(t, err)
	same(t, s, exampleAppRoot)
	s, err = store.DeriveFrom(s, billing.App, 1, []byte("disk"), 32)
	must(t, err)
	same(t, s, derived)
}

// saySigningKeys derives the keys with label host, of each algorithm.
func saySigningKeys(t *testing.T, root []byte, say func(string, []byte)) {
	t.Helper()
	for _, x := range []struct {
		algorithm string
		length    int
		curve     elliptic.Curve
	}{{"ed25519", 32, nil}, {"ecdsa-p256", 48, elliptic.P256()}, {"ecdsa-p384", 64, elliptic.P384()}} {
		info := evidence.Preimage("agentd/seal/sign/1", binary.BigEndian.AppendUint32(nil, 1),
			[]byte("billing"), []byte("billing.service"), []byte("billing"), []byte(x.algorithm), []byte("host"))
		private, err := hkdf.Expand(sha256.New, root, string(info), x.length)
		must(t, err)
		var public any
		if x.curve == nil {
			public = ed25519.NewKeyFromSeed(private).Public()
		} else {
			one, n := big.NewInt(1), x.curve.Params().N
			d := new(big.Int).Mod(new(big.Int).SetBytes(private), new(big.Int).Sub(n, one))
			private = d.Add(d, one).FillBytes(make([]byte, len(n.Bytes())))
			key, err := ecdsa.ParseRawPrivateKey(x.curve, private)
			must(t, err)
			public = key.Public()
		}
		der, err := x509.MarshalPKIXPublicKey(public)
		must(t, err)
		say("signing key: version 1, label host, "+x.algorithm+", private half", private)
		say("its public half", der)
	}
}

func same(t *testing.T, s *secret.Secret, want []byte) {
	t.Helper()
	must(t, s.Use(func(b []byte) error {
		if !bytes.Equal(b, want) {
			t.Errorf("got %x, want %x", b, want)
		}
		return nil
	}))
}

func gcm(t *testing.T, key, sealed, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	must(t, err)
	a, err := cipher.NewGCM(block)
	must(t, err)
	out, err := a.Open(nil, sealed[:12], sealed[12:], data)
	must(t, err)
	return out
}
