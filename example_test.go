// SPDX-License-Identifier: Apache-2.0

package agentd_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/verify"
)

// Example shows both sides. An application asks its agent for evidence over the nonce of a
// relying party and over its own key. The relying party verifies the evidence offline.
func Example() {
	machine := simulated() // answers with the evidence in docs/example
	defer machine.Close()
	key, nonce := []byte("a public key"), machine.nonce

	document, err := ask(context.Background(), machine.socket, nonce, key)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, unit := range []string{"billing.service", "shop.service"} {
		policy := machine.policy + fmt.Sprintf("\n[caller]\nunit = %q\n", unit)
		claims, err := accept([]byte(policy), machine.config, document, nonce, key, machine.now)
		if refused := new(verify.RefusedError); errors.As(err, &refused) {
			fmt.Println("refused:", refused.Appraisal.Failed()[0].ID)
			continue
		}
		fmt.Printf("accepted: %q is the key of %s\n", key, claims.Statement.Caller.Unit)
	}
	// Output:
	// accepted: "a public key" is the key of billing.service
	// refused: policy.caller-unit
}

// accept is the relying party. The zero Config trusts AMD's roots.
func accept(text []byte, config verify.Config, document, nonce, key []byte, now time.Time) (*verify.Claims, error) {
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		return nil, err // it names line and column
	}
	verifier, err := verify.New(policy, config)
	if err != nil {
		return nil, err
	}
	expect := verify.Expect{Nonce: nonce, PublicKey: key}
	return verifier.Verify(document, expect, now) // a refusal is a *verify.RefusedError
}

// ask is the application. An empty socket means that of the agent on this machine.
func ask(ctx context.Context, socket string, nonce, key []byte) ([]byte, error) {
	agent := client.Client{Socket: socket}
	defer agent.Close()
	request := api.EvidenceRequest{Nonce: nonce, PublicKey: key}
	return agent.Evidence(ctx, request)
}
