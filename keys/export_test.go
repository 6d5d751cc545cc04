// SPDX-License-Identifier: Apache-2.0

package keys

// BlobAuth is the authorization value in b.
func BlobAuth(b *Blob) []byte { return b.auth }

// MakeCredential is makeCredential without the checks of NewChallenge.
func MakeCredential(ek *Public, name Name, secret []byte) (*Challenge, error) {
	return makeCredential(ek, name, secret)
}
