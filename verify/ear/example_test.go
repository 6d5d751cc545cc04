// SPDX-License-Identifier: Apache-2.0

package ear_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// A verifier gives its result to a party that reads tokens.
func ExampleToken() {
	var tb testing.B // stands for the machine that was asked, and its test root
	document, nonce, now := evidencetest.New().Encode(&tb), evidencetest.Nonce, evidencetest.Time
	policy, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := verify.New(policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(&tb)}})
	if err != nil {
		fmt.Println(err)
		return
	}
	appraisal, err := v.Appraise(document, verify.Expect{Nonce: nonce}, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	key, err := ear.NewKey(evidencetest.Key('t')) // a crypto.Signer, which may be an HSM
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := ear.Token(key, policy, appraisal, ear.Options{Audience: "https://vault.example", Nonce: nonce, Build: "verifier 1.2"})
	if errors.Is(err, ear.ErrRefused) {
		fmt.Println("refused:", appraisal.Failed())
		return
	}
	fmt.Println(len(strings.Split(string(token), ".")), "parts,", err)
	// Output: 3 parts, <nil>
}
