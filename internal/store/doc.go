// SPDX-License-Identifier: Apache-2.0

// Package store keeps the sealed blobs of one machine: it derives the keys that slots rest
// on, writes and opens blobs, and counts its writings against a rollback. Package sealing
// has the format of the blobs.
//
// A [Store] has one blob for each app, with the versions of the app's root secret, and one
// for each secret that an app stored. A sealed manifest lists them all. Each change writes
// new files, then the manifest, and then the counter in the TPM follows. After a crash at
// any step the store opens in the state before the change or after it.
//
// What a store cannot open it does not delete. It stays locked and says why, and a recovery
// identity opens it on any machine.
package store
