// SPDX-License-Identifier: Apache-2.0

package tpmkeys

// BlobAuth is the authorization value in b.
func BlobAuth(b *Blob) []byte { return b.auth }

// AppSecret returns what k is made from, which shares memory with k.
func AppSecret(k *AppKey) [][]byte {
	return [][]byte{k.secret.unique.X.Buffer, k.secret.unique.Y.Buffer, k.secret.auth}
}
