// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"crypto/ed25519"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/sealing"
)

// TestStoreKeyText checks that a store key has one spelling, and that no mistyped digit
// gives another key.
func TestStoreKeyText(t *testing.T) {
	k := sealing.StoreKey(ed25519.NewKeyFromSeed(make([]byte, 32))[32:])
	text := k.String()
	if got, err := sealing.ParseStoreKey(text); err != nil || got != k || got.IsZero() || !(sealing.StoreKey{}).IsZero() {
		t.Errorf("%s: %v, %v", text, got, err)
	}
	for i := range text {
		for _, c := range "0123456789abcdefAx \n" {
			if other := text[:i] + string(c) + text[i+1:]; other != text {
				if _, err := sealing.ParseStoreKey(other); err == nil {
					t.Errorf("%q was accepted", other)
				}
			}
		}
	}
	for _, bad := range []string{"", text + "\n", " " + text, strings.ToUpper(text), text[:len(text)-2], text + "00", strings.TrimPrefix(text, "agentd-store-key:"),
		"AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN"} {
		_, err := sealing.ParseStoreKey(bad)
		if err == nil || strings.Contains(err.Error(), "QYQSZ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestStoreKeyOfSmallOrder checks that a key under which any party can sign is not taken as that
// of a store, in any of its encodings.
func TestStoreKeyOfSmallOrder(t *testing.T) {
	for name, f := range evidencetest.Forgers() {
		if _, err := sealing.ParseStoreKey(sealing.StoreKey(f.Public).String()); !errors.Is(err, keys.ErrSmallOrder) && !errors.Is(err, keys.ErrEncoding) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckSender: case 96. Every byte of a blob is signed, by this key and no other.
func TestCheckSender(t *testing.T) {
	raw, err := os.ReadFile("testdata/worked-example.sealed")
	if err != nil {
		t.Fatal(err)
	}
	parse := func(change func(*sealing.Blob)) *sealing.Blob {
		b, err := sealing.ParseBlob(raw)
		if err != nil {
			t.Fatal(err)
		}
		change(b)
		return b
	}
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = 0xc0 + byte(i)
	}
	key := sealing.StoreKey(ed25519.NewKeyFromSeed(seed)[32:])
	other := key
	other[0] ^= 1
	for name, c := range map[string]struct {
		change func(*sealing.Blob)
		key    sealing.StoreKey
		want   error
	}{
		"as it is":         {func(*sealing.Blob) {}, key, nil},
		"another key":      {func(*sealing.Blob) {}, other, api.CodeOtherStoreKey},
		"names another":    {func(b *sealing.Blob) { b.Sender.Key = other }, key, api.CodeOtherStoreKey},
		"signature":        {func(b *sealing.Blob) { b.Sender.Signature[3] ^= 1 }, key, api.CodeBadSignature},
		"wrapped key":      {func(b *sealing.Blob) { b.Wrapped[1][9] ^= 1 }, key, api.CodeBadSignature},
		"payload":          {func(b *sealing.Blob) { b.Payload[0] ^= 1 }, key, api.CodeBadSignature},
		"version":          {func(b *sealing.Blob) { b.Version = 1 }, key, api.CodeNoSender},
		"a slot less":      {func(b *sealing.Blob) { b.Wrapped = b.Wrapped[:1] }, key, api.CodeBadSignature},
		"key of all zeros": {func(b *sealing.Blob) { b.Sender = sealing.Sender{} }, sealing.StoreKey{}, api.CodeBadSignature},
	} {
		if err := parse(c.change).CheckSender(c.key); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestExplanationsProveNothing checks that no explanation of a machine that differs speaks
// of recovery: it repeats what the file says, and an attacker can write the file.
func TestExplanationsProveNothing(t *testing.T) {
	was := sealing.Reading{TCB: sealing.TCB{1}}
	for _, is := range []sealing.Reading{
		{TCB: was.TCB, ChipID: [64]byte{1}}, {TCB: was.TCB, Measurement: [48]byte{1}}, {TCB: was.TCB, GuestPolicy: 1}, {TCB: was.TCB, VMPL: 1}, {},
	} {
		e := was.Explain(is)
		if e == nil || !strings.Contains(e.Detail, "the file says") || strings.Contains(e.Detail, "recover") {
			t.Errorf("%v", e)
		}
	}
}
