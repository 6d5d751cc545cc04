// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"os"
	"path/filepath"
)

// foreignRows are stores that another party made (case 96): it needs nothing but the public
// recipient, and the identity of the victim opens them.
func foreignRows() []outcome {
	const after = "recovery with the store key refused (`other-store-key`), own files put back"
	return []outcome{
		{what: "store that another machine made for the same recipient in the place", do: func(b *bed) { b.foreign(true) },
			code: "other-chip", exit: closed, field: "chip-id", after: after, then: refusedAndRestored},
		{what: "store that another TPM on this chip made for the same recipient in the place", do: func(b *bed) { b.foreign(false) },
			code: "other-tpm", exit: closed, after: after, then: refusedAndRestored},
	}
}

// foreign has another machine make a store, and puts it in the place of this one's. The own
// files go to a folder beside it.
func (b *bed) foreign(otherChip bool) {
	b.t.Helper()
	b.off()
	other := &bed{t: b.t, dir: b.dir + "2", raise: b.raise}
	must(b.t, os.CopyFS(other.dir, os.DirFS(b.dir)))
	for _, gone := range []string{"tpm", "state"} {
		must(b.t, os.RemoveAll(filepath.Join(other.dir, gone)))
	}
	must(b.t, private(other.dir))
	must(b.t, other.install("billing", "ledger"))
	if otherChip {
		chip(3)(other)
	}
	b.t.Cleanup(other.off)
	other.seal(billing, "token", "of an attacker")
	other.off()
	must(b.t, os.Rename(b.sealed(), b.dir+"-own"))
	must(b.t, os.CopyFS(b.sealed(), os.DirFS(other.sealed())))
	must(b.t, private(b.sealed()))
}

// refusedAndRestored recovers with all that root kept, which must not take the store of
// another party, and puts the own files back.
func refusedAndRestored(b *bed) {
	b.t.Helper()
	before := b.read()
	b.on()
	if r := b.try(root, "", "key", "recover", "--identity", inShared(rightIdentity), "--store-key", shared.storeKey, "--recipient", shared.recipient); r.exit != closed || r.code != "other-store-key" {
		b.t.Errorf("recovery with the store key: %v", r)
	}
	b.off()
	after := b.read()
	for name, content := range before {
		if string(after[name]) != string(content) {
			b.t.Errorf("%s was changed", name)
		}
	}
	must(b.t, os.RemoveAll(b.sealed()))
	must(b.t, os.Rename(b.dir+"-own", b.sealed()))
}
