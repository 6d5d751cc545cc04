// SPDX-License-Identifier: Apache-2.0

// Package sealing keeps secrets of apps so that they open in this VM on this chip,
// and says in advance what would lock them out.
//
// A secret is stored in a sealed blob, docs/sealing.md is the specification. Its
// header, readable and authenticated, names the app, the machine as it was and the
// slots; each slot wraps the blob's random key by one root: the key that the SNP
// firmware derives for this guest on this chip together with a secret in the TPM,
// one of the two alone, or a recovery recipient (age) whose identity lies elsewhere.
//
// [Open] opens the [Store] of one machine over three interfaces: [Platform] derives
// keys and reads the report, [TPM] keeps a secret and a counter, [Files] writes
// durably. A store that cannot be opened stays closed, says why through
// [Store.State], and lets root recover; nothing that cannot be opened is ever deleted.
//
// Who is asking is established by the caller of this package, which passes a
// [Caller]. No method gives root the secret of an app.
package sealing
