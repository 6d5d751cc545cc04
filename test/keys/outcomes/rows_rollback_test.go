// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"os"

	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
)

// rollbackRows are older states that are put back.
func rollbackRows() []outcome {
	again := func(b *bed) { b.seal(billing, "token", "hunter2"); b.off() }
	return []outcome{
		{what: "all files rolled back", change: "files-rolled-back", do: func(b *bed) { back := b.files(); again(b); back() },
			code: "rolled-back", exit: closed, after: "accepted by root", then: accepted},
		{what: "manifest alone rolled back", change: "files-rolled-back", do: func(b *bed) {
			old := b.read()["manifest.sealed"]
			b.seal(billing, "more", "x")
			b.off()
			b.write("manifest.sealed", old)
		}, code: "rolled-back", exit: closed, after: "accepted by root", then: accepted},
		{what: "accepted, then the newer files put back", do: func(b *bed) {
			back := b.files()
			again(b)
			forward := b.files()
			back()
			accepted(b)
			forward()
		}, code: "counter-lost", exit: closed, after: "accepted by root", then: accepted},
		{what: "recovered on another chip, then chip and files put back", do: func(b *bed) {
			back := b.files()
			chip(2)(b)
			recovered(b)
			oldChip(b)
			back()
		}, code: "counter-lost", exit: closed, after: "accepted by root", then: accepted},
		{what: "counter ahead by one: another program counted", do: func(b *bed) {
			b.counter(func(root *tpmroot.TPM, record []byte) error {
				_, err := root.Increment(b.t.Context(), record)
				return err
			})
		}, code: "rolled-back", exit: closed, after: "accepted by root", then: accepted},
		{what: "counter removed from the TPM", do: func(b *bed) {
			b.counter(func(root *tpmroot.TPM, record []byte) error { return root.RemoveCounter(b.t.Context(), record) })
		}, code: "counter-lost", exit: closed, after: "accepted by root", then: accepted},
		{what: "TPM rolled back, files not", do: func(b *bed) { back := b.folder("tpm"); again(b); again(b); back() },
			code: "counter-behind", exit: closed, after: "accepted by root", then: accepted},
		{what: "TPM rolled back by one, files not", do: func(b *bed) { back := b.folder("tpm"); again(b); back() }},
		{what: "TPM and files rolled back together: not noticed", do: func(b *bed) {
			tpm, files := b.folder("tpm"), b.files()
			again(b)
			tpm()
			files()
		}},
		{what: "clone of files and TPM on the same chip: not noticed", do: func(b *bed) {
			original := &bed{t: b.t, dir: b.dir, raise: b.raise}
			b.dir += "2"
			must(b.t, os.CopyFS(b.dir, os.DirFS(original.dir)))
			must(b.t, private(b.dir))
			must(b.t, b.install("billing", "ledger"))
			original.on()
			b.t.Cleanup(original.off)
			original.seal(billing, "token", "hunter2")
		}},
		{what: "manifest deleted", do: func(b *bed) { b.remove("manifest") }, code: "manifest-lost", exit: closed,
			after: "salvaged by root, without an identity", then: salvaged},
		{what: "manifest damaged", do: func(b *bed) { m := b.read()["manifest.sealed"]; m[99] ^= 1; b.write("manifest.sealed", m) },
			code: "damaged", exit: closed, field: "name", after: "salvaged by root, without an identity", then: salvaged},
	}
}
