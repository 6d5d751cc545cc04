// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

// A verifier enrols the attestation key of a machine once: it sends a challenge that only
// the TPM with that endorsement key can answer, and only for that attestation key.
func ExampleNewChallenge() {
	ek, ak := publicAreas() // from the machine: the TPMT_PUBLICs of its two keys
	challenge, expected, err := keys.NewChallenge(ek, ak)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer := activate(challenge, expected) // on the machine: TPM2_ActivateCredential

	enrolment, err := keys.NewEnrolment(expected, answer, keys.NoIssuer, time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("endorsement key", enrolment.EK)
	fmt.Println("attestation key", enrolment.AK)

	answer[0] ^= 1
	_, err = keys.NewEnrolment(expected, answer, keys.NoIssuer, time.Now())
	fmt.Println(err)
	// Output:
	// endorsement key 000b3bce5a926de0c524a68283e7634877db87572a0ac4d26be76852e80c7032a871
	// attestation key 000b64e1c2a3074c21219fbc5ea933318154e4dbe50d90cf50f6c29986e20985c08e
	// enrol: answer of 32 bytes for attestation key 000b64e1c2a3074c21219fbc5ea933318154e4dbe50d90cf50f6c29986e20985c08e: the challenge is not for this TPM and attestation key
}

// publicAreas returns the public areas of an endorsement key of template L-2 and of an
// attestation key, both on P-256.
func publicAreas() (ek, ak []byte) {
	ek, _ = hex.DecodeString("" +
		"0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa000600800043" +
		"0010000300100020f1695a9716f72ae5981e2749e61947c2062e3d8a1ab834dc72b5d1150a667ebf00208f352e99d50d" +
		"f27b03a440a6c878d38b2a9c5843e33a6b0bc80c6e6d72a54348")
	ak, _ = hex.DecodeString("" +
		"0023000b00050072000000100018000b000300100020cfaa2b2e911cda7d3f10d6eb0463e4613576055073c71ed1efac" +
		"8a73f04adc7a002069e6998fe0bd0c99284b3f435bc043ada6a841f1a2aaa4a487e6dd342638667c")
	return ek, ak
}

// activate stands in for the TPM, which would decrypt the challenge: it reads the answer in
// what the verifier keeps.
func activate(_ *keys.Challenge, expected *keys.Expected) []byte {
	kept, err := expected.Encode()
	if err != nil {
		panic(err)
	}
	var document struct {
		Secret []byte `json:"secret"`
	}
	if err := json.Unmarshal(kept, &document); err != nil {
		panic(err)
	}
	return document.Secret
}
