// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/keys"
)

// BlobAuth is the authorization value in b.
func BlobAuth(b *Blob) []byte { return b.auth }

// AppSecret returns what k is made from, which shares memory with k.
func AppSecret(k *AppKey) [][]byte {
	return [][]byte{k.secret.unique.X.Buffer, k.secret.unique.Y.Buffer, k.secret.auth}
}

// RunAuthorized has the TPM do a command, authorized by the value of the object at h.
func RunAuthorized(t transport.TPM, code tpm2.TPMCC, h tpm2.TPMHandle, name keys.Name, auth, parameters []byte) ([]byte, error) {
	c := authorized{code: code, handle: h, name: name, auth: auth, parameters: parameters}
	return c.run(t)
}
