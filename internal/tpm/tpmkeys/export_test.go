// SPDX-License-Identifier: Apache-2.0

package tpmkeys

// BlobAuth is the authorization value in b.
func BlobAuth(b *Blob) []byte { return b.auth }
