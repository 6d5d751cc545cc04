// SPDX-License-Identifier: Apache-2.0

// Package delivery has the messages by which a relying party hands a secret to an application
// whose evidence it verified: docs/delivery.md specifies them. It keeps nothing, and knows neither
// files nor devices.
//
// The relying party makes a [Challenge]. The agent answers with a [Ticket], which contains evidence
// and the public half of a key that exists for this ticket alone. The relying party verifies it
// ([Request.Verify]), and encrypts the secret to that key: a [Sealed]. The agent stores the secret,
// and answers with a [Receipt]. Over a connection the relying party begins with an [Ask].
package delivery

import "github.com/cvm-agentd/agentd/sealing"

// Audience is that of evidence in a ticket. The agent refuses it to its clients.
const Audience = "agentd/delivery/1"

// Labels of the composite hashes. Each has one purpose.
const (
	labelTicket  = "agentd/delivery/ticket/1"  // user data of the evidence: what the ticket says
	labelVouch   = "agentd/delivery/vouch/1"   // what the agent key signs of a ticket: id, SHA-256 of the evidence
	labelHPKE    = "agentd/delivery/hpke/1"    // info of HPKE: id of the ticket
	labelSender  = "agentd/delivery/sender/1"  // what the sender signs: id of the ticket, SHA-256 of the message before the signature
	labelReceipt = "agentd/delivery/receipt/1" // what the agent key signs of a receipt: id of the ticket, SHA-256 of the message of the sender
)

// Caps on everything that a message may ask for.
const (
	MaxTicket   = 5 << 19                   // bytes of a ticket, most of them evidence
	MaxSealed   = sealing.MaxSecret + 4<<10 // bytes of an encrypted secret
	MaxReceipt  = 1 << 10                   // bytes of a receipt
	MaxAsk      = 1 << 10                   // bytes of a request for a ticket, and of a refusal
	MaxValidity = 24 * 60 * 60              // seconds that a ticket is valid
)

// Sizes in bytes.
const (
	ChallengeSize = 32
	lengthSize    = 4   // before the secret in what is encrypted
	maxCode       = 64  // of a code
	padding       = 256 // what is encrypted is a multiple of it, so that its size tells little of the secret's
)

// Application is the name of the protocol over an attested connection (package carrier).
const Application = "agentd/delivery/1"

// Unit is the unit that carries messages between relying parties and the agent. Evidence names it as the
// caller, and the agent lets it do nothing else.
const Unit = "agentd-secrets.service"

// A Challenge names one delivery: random, and used once.
type Challenge [ChallengeSize]byte
