// SPDX-License-Identifier: Apache-2.0

// Package node has what the two ends of the node attestation say to each other: docs/spire.md.
package node

import (
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Plugin is the name that the plugins must have in the configuration of SPIRE: agent ids contain it.
const Plugin = "agentd"

// Payload begins an attestation: it names the version of this exchange, and nothing else.
const Payload = "agentd/spire/1"

// UserData is in each evidence that is made for SPIRE, and in no other that a program of this project
// asks for.
const UserData = "agentd/spire/1"

// MaxDocument is the largest document that goes through SPIRE, whose messages have at most 4 MiB.
const MaxDocument = 4<<20 - 64<<10

// NonceSize is how many random bytes a challenge has.
const NonceSize = 32

// maxChallenge is how many bytes of a challenge are read.
const maxChallenge = 4 << 10

// A Challenge is what the server asks.
type Challenge struct {
	Type      string             `json:"type"`      // Payload
	Nonce     evidence.Bytes     `json:"nonce"`     // 32 random bytes, used once
	Freshness evidence.Freshness `json:"freshness"` // whether an earlier report will do
}

// Audience is the audience of evidence for a trust domain. Each end computes it by its own
// configuration: a server of another trust domain gets evidence that is of no use here.
func Audience(trustDomain string) string { return "spiffe://" + trustDomain }

// Encode returns the bytes of c.
func (c Challenge) Encode() ([]byte, error) { return strictjson.Encode(c) }

// ParseChallenge reads a challenge.
func ParseChallenge(b []byte) (Challenge, error) {
	var c Challenge
	if err := strictjson.Decode(b, maxChallenge, &c); err != nil {
		return c, fmt.Errorf("challenge: %w", err)
	}
	switch {
	case c.Type != Payload:
		return c, fmt.Errorf("challenge of type %q, want %q: the server has another version", c.Type, Payload)
	case len(c.Nonce) != NonceSize:
		return c, fmt.Errorf("challenge with a nonce of %d bytes, want %d", len(c.Nonce), NonceSize)
	case c.Freshness != evidence.Fresh && c.Freshness != evidence.Anchored:
		return c, errors.New("challenge asks neither for fresh nor for anchored evidence")
	}
	return c, nil
}
