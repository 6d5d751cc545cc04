// SPDX-License-Identifier: Apache-2.0

// Package tunnel carries the connections of programs that know nothing of attestation through
// attested TLS (package attestedtls). One end runs inside the machine and serves:
//
//	client → connect end → network → serve end → service
//
// Each connection that an end accepts becomes one connection of the other kind: nothing is shared
// between two. The end of a stream passes through in both directions, and a connection that breaks
// off is broken off on the other side too. So no program takes what an attacker cut short for
// whole.
//
// docs/tunnel.md has the design: which state each end has, what a crash leaves, and what an attacker
// gains who owns an input.
package tunnel
