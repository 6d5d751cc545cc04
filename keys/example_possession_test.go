// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// A key of small order passes ed25519.Verify for signatures that any party can make.
func ExampleCheckEd25519() {
	good := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	neutral := append([]byte{1}, make([]byte, 31)...)
	forged := append(append([]byte{1}, make([]byte, 31)...), make([]byte, 32)...)
	again := append([]byte{0xee}, neutral[1:]...) // the same point, with y not reduced
	for i := 1; i < 31; i++ {
		again[i] = 0xff
	}
	again[31] = 0x7f

	fmt.Println(keys.CheckEd25519(good))
	fmt.Println(ed25519.Verify(neutral, []byte("anything"), forged), errors.Is(keys.CheckEd25519(neutral), keys.ErrSmallOrder))
	fmt.Println(ed25519.Verify(again, []byte("anything"), forged), errors.Is(keys.CheckEd25519(again), keys.ErrEncoding))
	// Output:
	// <nil>
	// true true
	// true true
}

// A caller signs its request with the key that it wants vouched for.
func ExampleCheckPossession() {
	key := ed25519.NewKeyFromSeed(make([]byte, 32))
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		fmt.Println(err)
		return
	}
	request := evidence.Statement{Nonce: []byte("sixteen bytes or more"), Caller: evidence.Caller{UID: 990, PID: 4321, Started: 12340}}
	agentKey := ed25519.NewKeyFromSeed([]byte("thirty-two bytes of an agent key")).Public().(ed25519.PublicKey)
	message := evidence.KeyProofMessage(&request, agentKey)
	proof := ed25519.Sign(key, message)
	fmt.Println(keys.CheckPossession(public, message, proof))

	request.Caller.PID++ // of another process
	err = keys.CheckPossession(public, evidence.KeyProofMessage(&request, agentKey), proof)
	fmt.Println(errors.Is(err, keys.ErrPossession))
	fmt.Println(errors.Is(keys.CheckPossession([]byte("a key"), message, proof), keys.ErrKeyKind))
	// Output:
	// <nil>
	// true
	// true
}
