// SPDX-License-Identifier: Apache-2.0

package api

import "github.com/cvm-agentd/agentd/evidence"

// TicketRequest is the body of POST /v1/secrets/ticket. It has exactly one of sender and anySender.
type TicketRequest struct {
	App       string         `json:"app"`                // name of the app that the secret is for
	Name      string         `json:"name"`               // name of the secret: 1 to 200 letters, digits and _.-+@
	Challenge evidence.Bytes `json:"challenge"`          // of the relying party, 32 bytes
	ValidFor  uint32         `json:"validFor"`           // seconds that the ticket is valid, at most 86400 (a day)
	Replace   bool           `json:"replace,omitzero"`   // the secret replaces the one of that name; otherwise there must be none
	Sender    evidence.Bytes `json:"sender,omitzero"`    // Ed25519 public key, 32 bytes, whose private half must sign the encrypted secret
	AnySender bool           `json:"anySender,omitzero"` // any party that has the ticket may choose the secret: only the receipt tells the relying party
}

// DeliveryTicket is the answer of POST /v1/secrets/ticket.
type DeliveryTicket struct {
	Ticket   evidence.Bytes  `json:"ticket"`   // message for the relying party, with fresh evidence; it is not secret
	ID       evidence.Digest `json:"id"`       // what names the ticket in messages and in the log of the agent
	App      string          `json:"app"`      // name of the app
	Name     string          `json:"name"`     // name of the secret
	Digest   evidence.Digest `json:"digest"`   // manifest digest of the app: it must have the same when the secret arrives
	ValidFor uint32          `json:"validFor"` // seconds that the ticket is valid
}

// ReceiveRequest is the body of POST /v1/secrets/receive.
type ReceiveRequest struct {
	Sealed evidence.Bytes `json:"sealed"` // message of the relying party: the secret, encrypted to the key of a ticket
}

// ReceivedSecret is the answer of POST /v1/secrets/receive: the secret is stored.
type ReceivedSecret struct {
	Receipt  evidence.Bytes  `json:"receipt"`  // message for the relying party; it is not secret
	ID       evidence.Digest `json:"id"`       // of the ticket
	App      string          `json:"app"`      // name of the app
	Name     string          `json:"name"`     // name of the secret
	Replaced bool            `json:"replaced"` // it replaced one of that name
	Again    bool            `json:"again"`    // the same message was received before: this is its receipt, and nothing was stored
}
