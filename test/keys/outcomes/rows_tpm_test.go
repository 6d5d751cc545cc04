// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"os"
	"path/filepath"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/test/swtpm"
)

// tpmRows are what happens to the TPM.
func tpmRows() []outcome {
	return []outcome{
		{what: "TPM cleared, its attestation key left in place", do: (*bed).clear, code: "ak-unusable", exit: unavailable,
			after: "attestation key replaced, recovered with the right identity", then: func(b *bed) { b.newKey(); recovered(b) }},
		{what: "TPM cleared", change: "tpm-cleared", do: func(b *bed) { b.clear(); b.newKey() }, code: "tpm-cleared", exit: closed,
			after: "recovered with the right identity (a wrong one: `wrong-identity`)", then: recovered},
		{what: "other TPM", change: "other-tpm", do: func(b *bed) {
			must(b.t, os.RemoveAll(filepath.Join(b.dir, "tpm")))
			b.newKey()
		}, code: "other-tpm", exit: closed, after: "recovered with the right identity", then: recovered},
		{what: "no TPM any more", do: func(b *bed) { b.tpm = "unix:" + filepath.Join(b.dir, "none") }, code: "tpm-unavailable", exit: unavailable,
			after: "TPM is back", then: undo(func(b *bed) { b.tpm = "" })},
		{what: "file with the TPM's sealed secret deleted", do: func(b *bed) { b.remove("tpmsecret-") }, code: "tpm-secret-missing", exit: closed,
			after: "recovered with the right identity", then: recovered},
	}
}

// clear replaces the owner's seed of the TPM.
func (b *bed) clear() {
	b.t.Helper()
	b.withTPM(func(tpm *swtpm.TPM) {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHLockout, Auth: tpm2.PasswordAuth(nil)}}.Execute(tpm)
		must(b.t, err)
	})
}

// newKey has root accept that the old attestation key is lost.
func (b *bed) newKey() {
	b.t.Helper()
	b.on()
	b.do(root, "", "key", "replace-ak")
}
