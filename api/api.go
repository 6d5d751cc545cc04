// SPDX-License-Identifier: Apache-2.0

// Package api has the types that travel over the agent's sockets, its endpoints
// (endpoints.go) and the codes of its errors (codes.go). It has no server code, so that
// clients can import it. Other languages find the same in openapi.json, and people in
// docs/api.md; both are generated from this package.
//
// # Encoding
//
// The protocol is HTTP/1.1 over unix sockets. Bodies are JSON, read strictly: unknown,
// duplicate or differently-cased members and anything after the value are errors. Byte
// strings are standard base64 with padding, in its one canonical spelling. The header
// Content-Type of a request is ignored.
//
// # Evolution
//
// Within /v1 an answer may gain members, a list of words (a state, a problem code)
// may gain words, and a request may gain optional members; clients must ignore
// members that they do not know. Nothing is renamed, removed, or given another
// meaning: that takes /v2. The evidence document has a version of its own in its
// member "type". A server refuses a request member that it does not know, so a
// client learns at once that it asked for something this version cannot do.
package api

// Paths of the agent's sockets, and the variables that tell clients of another path.
const (
	Socket      = "/run/agentd/agentd.sock" // for programs on the VM, 0660
	AdminSocket = "/run/agentd/admin.sock"  // for root, 0600
	SocketEnv   = "AGENTD_SOCKET"
	AdminEnv    = "AGENTD_ADMIN_SOCKET"
)
