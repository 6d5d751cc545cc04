// SPDX-License-Identifier: Apache-2.0

// Package attestedtls tests attested TLS between simulated machines: whole agents, a relay that
// owns a copy of the leaf's key, and a client in Python that was written from
// docs/attested-tls.md alone.
package attestedtls
