// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/verify"
)

// policySignature is what commands that show a policy say of its signatures.
type policySignature struct {
	Verified bool      `json:"verified"`         // whether the named keys signed it as demanded; false if no keys were named, and then an attacker may have written all of this
	Keys     []string  `json:"keys"`             // SHA-256 of the SubjectPublicKeyInfo of each named key that signed; if not verified, the hint of each signature
	Number   uint64    `json:"number,omitzero"`  // 0 if it has none
	Expires  time.Time `json:"expires,omitzero"` // absent if it does not expire
}

// readShownPolicy reads a policy to show it, signed or not. If keys are named, they must have signed
// it. Otherwise nothing of a signature is verified, and the caller says so.
func (t *terminal) readShownPolicy(name string, f *policyKeyFlags) (*verify.Policy, *policySignature, error) {
	if err := f.check(); err != nil {
		return nil, nil, misuse(err)
	}
	if f.keys != "" {
		s, err := t.readSignedPolicy(name, f, time.Now())
		if err != nil {
			return nil, nil, err
		}
		return s.Policy, &policySignature{true, s.Signers, s.Label.Number, s.Label.Expires}, nil
	}
	var claimed *policySignature
	p, err := readAs(t, name, verify.MaxSignedPolicy, func(b []byte) (*verify.Policy, error) {
		if !dsse.Is(b) {
			return verify.ParsePolicy(b)
		}
		u, label, p, err := readEnvelope(b)
		if err == nil {
			claimed = &policySignature{false, u.KeyIDs(), label.Number, label.Expires}
		}
		return p, err
	})
	return p, claimed, err
}

// readEnvelope reads an envelope with a policy, and verifies no signature.
func readEnvelope(b []byte) (*dsse.Unverified, verify.PolicyLabel, *verify.Policy, error) {
	u, err := dsse.Read(b, verify.MaxPolicy)
	if err != nil {
		return nil, verify.PolicyLabel{}, nil, err
	}
	label, err := verify.ParsePolicyLabel(u.Type)
	if err != nil {
		return nil, label, nil, err
	}
	p, err := verify.ParsePolicy(u.Payload)
	return u, label, p, err
}

// saySignature says how a policy is signed, and nothing of one that is not.
func (t *terminal) saySignature(s *policySignature) {
	if s == nil {
		return
	}
	says, key := "Signed, and verified:", "key "
	if !s.Verified {
		says, key = "Signed, NOT VERIFIED, since no keys are named (--policy-keys FILE): an attacker may have written the policy and all of this:", "a signature that says it is by key "
	}
	t.say(unmarked(""), says, 2)
	for _, k := range s.Keys {
		t.say(unmarked("  "), key+cmp.Or(k, "(not said)"), 4)
	}
	if s.Number != 0 {
		t.say(unmarked("  "), fmt.Sprintf("number %d", s.Number), 4)
	}
	if !s.Expires.IsZero() {
		word := "expires"
		if !time.Now().Before(s.Expires) {
			word = "EXPIRED"
		}
		t.say(unmarked("  "), word+" "+s.Expires.Format(time.RFC3339), 4)
	}
	fmt.Fprintln(t.out)
}
