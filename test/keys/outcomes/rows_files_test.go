// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"os"
	"path/filepath"
)

// fileRows are what happens to the file of a blob.
func fileRows() []outcome {
	swapped := func(what string, tags ...uint16) outcome {
		return outcome{what: what + " of another blob", do: func(b *bed) { b.swap(tags...) }, code: "altered", exit: closed}
	}
	return []outcome{
		{what: "blob of an older generation put in the place", do: func(b *bed) {
			_, old := b.file("billing", "token")
			b.seal(billing, "token", "hunter2")
			b.put(func([]byte) []byte { return old })
		}, code: "old-generation", exit: closed, field: "generation"},
		{what: "blob of another secret of the app in the place", do: func(b *bed) {
			b.seal(billing, "more", "x")
			_, more := b.file("billing", "more")
			b.put(func([]byte) []byte { return more })
		}, code: "renamed", exit: closed, field: "id"},
		{what: "blob of another app in the place", do: func(b *bed) {
			b.seal(ledger, "token", "x")
			_, theirs := b.file("ledger", "token")
			b.put(func([]byte) []byte { return theirs })
		}, code: "other-app", exit: refused, field: "app"},
		{what: "blob deleted", do: func(b *bed) {
			file, _ := b.file("billing", "token")
			must(b.t, os.Remove(filepath.Join(b.sealed(), file)))
		}, code: "missing", exit: closed},
		{what: "blob truncated by a byte", do: func(b *bed) { b.put(func(old []byte) []byte { return old[:len(old)-1] }) }, code: "truncated", exit: closed},
		{what: "blob truncated to nothing", do: func(b *bed) { b.put(func([]byte) []byte { return nil }) }, code: "truncated", exit: closed},
		{what: "bytes after the end", do: func(b *bed) { b.put(func(old []byte) []byte { return append(old, 0) }) },
			code: "damaged", exit: closed, field: "end"},
		swapped("wrapped key", 18),
		swapped("slots and wrapped key", 17, 18),
		swapped("slots, wrapped keys and id", 1, 17, 18),
		swapped("payload", 19),
	}
}
