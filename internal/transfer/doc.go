// SPDX-License-Identifier: Apache-2.0

// Package transfer has the messages by which a store of sealed blobs goes over to an agent
// under another launch measurement: docs/upgrades.md specifies them. It knows neither files
// nor devices, and keeps nothing.
//
// Three messages are exchanged, over any carrier. The old agent makes an [Offer], the
// successor answers it with a [Request], which contains evidence, and the old agent seals its
// roots to the key of the request: an [Answer]. A [Release] says which successors there are,
// under the key of the party that publishes images.
package transfer

import "github.com/cvm-agentd/agentd/internal/secret"

// Audience is that of evidence in a request. The agent refuses it to its clients, so only a
// request for an upgrade has such evidence.
const Audience = "agentd/upgrade/1"

// Labels of the composite hashes. Each has one purpose.
const (
	labelRequest = "agentd/upgrade/request/1" // user data of the evidence: challenge, store key, HPKE key
	labelHPKE    = "agentd/upgrade/hpke/1"    // info of HPKE: challenge, store key, HPKE key
	labelAnswer  = "agentd/upgrade/answer/1"  // what the store key signs: id of the request, SHA-256 of the message before the signature
)

// Caps on everything that a message may ask for.
const (
	MaxOffer   = 256      // bytes of an offer
	MaxRequest = 5 << 19  // bytes of a request, most of them evidence
	MaxAnswer  = 5 << 19  // bytes of an answer
	MaxContent = 2 << 20  // bytes of all entries of an answer together
	MaxRelease = 64 << 10 // bytes of a release statement
	MaxKeyFile = 4 << 10  // bytes of a file with a release key, or with a signature
	maxEntry   = secret.MaxSize
	maxEntries = 10000
	maxPastIDs = 20000
)

// ChallengeSize is the size of a challenge in bytes.
const ChallengeSize = 32

// Challenge names one preparation: random, and used once.
type Challenge [ChallengeSize]byte
