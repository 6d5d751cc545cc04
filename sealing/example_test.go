// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"os"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/sealing"
)

// The header of a blob says without any key what the blob is and what it rests on.
func ExampleParseBlob() {
	file, err := os.ReadFile("testdata/worked-example.sealed")
	if err != nil {
		fmt.Println(err)
		return
	}
	blob, err := sealing.ParseBlob(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	claimed := blob.Claimed
	fmt.Printf("%s of app %s, unit %s, generation %d\n", claimed.Kind, claimed.App.Name, claimed.App.Unit, claimed.Generation)
	for _, slot := range claimed.Slots {
		fmt.Println("slot", slot.Kind)
	}
	contract := claimed.Contract()
	for _, change := range []sealing.Change{sealing.ChangeRestart, sealing.ChangeChip, sealing.ChangeAppUpgrade} {
		fmt.Printf("%s: %s\n", change, contract.WhatIf(change))
	}
	// Output:
	// app root of app billing, unit billing.service, generation 7
	// slot snp+tpm
	// slot recovery
	// restart: opens
	// other-chip: refused (other-chip); the recovery identity opens it, with the store key; opens again on the old chip
	// app-upgrade: refused (digest-not-authorised); opens once root authorises the digest, before the upgrade or after
}

// A recovery tool needs the blob, the recovery identity and the store key, and no agent.
// The store key tells first whether the machine wrote the blob: any party can seal to a
// recovery recipient. Then the identity opens the wrapped key of its slot, and that key
// opens the payload.
func ExampleBlob_PayloadData() {
	identity, err := age.ParseX25519Identity("AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZ9K4CN")
	if err != nil {
		fmt.Println(err)
		return
	}
	file, err := os.ReadFile("testdata/worked-example.sealed")
	if err != nil {
		fmt.Println(err)
		return
	}
	blob, err := sealing.ParseBlob(file)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := sealing.ParseStoreKey("agentd-store-key:dde3bccec7f3a66a1115f45d720f4dc135c3ae7c4e22dca38fdb1efd6a495ff8c78c4543")
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := blob.CheckSender(key); err != nil {
		fmt.Println(err)
		return
	}
	for i, slot := range blob.Claimed.Slots {
		if slot.Kind != sealing.SlotRecovery {
			continue
		}
		payload, err := recoverPayload(blob, i, identity)
		fmt.Printf("%s of app %s: %d bytes, %v\n", blob.Claimed.Kind, blob.Claimed.App.Name, len(payload), err)
	}
	// Output:
	// app root of app billing: 38 bytes, <nil>
}

// recoverPayload opens blob by its recovery slot i.
func recoverPayload(blob *sealing.Blob, i int, identity age.Identity) ([]byte, error) {
	r, err := age.Decrypt(bytes.NewReader(blob.Wrapped[i]), identity)
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r) // header digest and data key
	if err != nil {
		return nil, err
	}
	header := blob.HeaderDigest()
	key, ok := bytes.CutPrefix(plain, header[:])
	if !ok || len(key) != sealing.KeySize {
		return nil, errors.New("the wrapped key belongs to another blob")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return aead.Open(nil, nil, blob.Payload, blob.PayloadData())
}
