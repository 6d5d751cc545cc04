// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/sealing"
)

// What an attacker does who can write the disk of a machine that is off.

// read is every file of the store.
func (b *bed) read() map[string][]byte {
	b.t.Helper()
	entries, err := os.ReadDir(b.sealed())
	must(b.t, err)
	out := map[string][]byte{}
	for _, e := range entries {
		out[e.Name()], err = os.ReadFile(filepath.Join(b.sealed(), e.Name()))
		must(b.t, err)
	}
	return out
}

func (b *bed) write(name string, content []byte) {
	b.t.Helper()
	must(b.t, os.WriteFile(filepath.Join(b.sealed(), name), content, 0o600))
}

func (b *bed) remove(prefix string) {
	b.t.Helper()
	n := 0
	for name := range b.read() {
		if strings.HasPrefix(name, prefix) {
			must(b.t, os.Remove(filepath.Join(b.sealed(), name)))
			n++
		}
	}
	if n == 0 {
		b.t.Fatalf("no file %s…", prefix)
	}
}

// files remembers the store's files; the result puts them back and takes away what
// came since.
func (b *bed) files() (restore func()) {
	kept := b.read()
	return func() {
		b.off()
		for name := range b.read() {
			must(b.t, os.Remove(filepath.Join(b.sealed(), name)))
		}
		for name, content := range kept {
			b.write(name, content)
		}
	}
}

// folder remembers a folder of the machine; the result puts it back.
func (b *bed) folder(name string) (restore func()) {
	b.t.Helper()
	b.off()
	copied := filepath.Join(b.t.TempDir(), "copy")
	must(b.t, os.CopyFS(copied, os.DirFS(filepath.Join(b.dir, name))))
	return func() {
		b.off()
		must(b.t, os.RemoveAll(filepath.Join(b.dir, name)))
		must(b.t, os.CopyFS(filepath.Join(b.dir, name), os.DirFS(copied)))
		must(b.t, private(filepath.Join(b.dir, name)))
	}
}

// file finds the blob of a secret, or with an empty name that of an app's root, by what
// its header claims.
func (b *bed) file(app, name string) (string, []byte) {
	b.t.Helper()
	for file, content := range b.read() {
		blob, err := sealing.ParseBlob(content)
		if err == nil && strings.HasPrefix(file, "blob-") && blob.Claimed.App.Name == app && blob.Claimed.Name == name {
			return file, content
		}
	}
	b.t.Fatalf("no blob of app %s and name %q", app, name)
	return "", nil
}

// put replaces the blob of "token" on a machine that is off.
func (b *bed) put(f func(old []byte) []byte) {
	b.t.Helper()
	b.off()
	file, content := b.file("billing", "token")
	b.write(file, f(content))
}

// fieldNames are the fields of a blob in their order (docs/sealing.md, section 3).
var fieldNames = []string{"id", "kind", "app", "unit", "user", "name", "generation", "associated-data", "digests", "chip-id",
	"measurement", "guest-policy", "tcb", "vmpl", "tpm-secret", "loss-acknowledged", "slots", "wrapped-key", "wrapped-key", "payload", "signature"}

// field is one field of a blob: tag (2), length (4), value, checksum (4).
type field struct {
	tag   uint16
	start int // of the tag
	value []byte
}

// fields walks a blob as docs/sealing.md describes it.
func fields(t *testing.T, b []byte) (out []field) {
	t.Helper()
	for at := 24; at < len(b); {
		size := int(binary.BigEndian.Uint32(b[at+2:]))
		if at+size+10 > len(b) {
			t.Fatalf("the field at byte %d goes past the end", at)
		}
		out = append(out, field{tag: binary.BigEndian.Uint16(b[at:]), start: at, value: slices.Clone(b[at+6 : at+6+size])})
		at += size + 10
	}
	if len(out) != len(fieldNames) {
		t.Fatalf("%d fields, want %d", len(out), len(fieldNames))
	}
	return out
}

// checked appends the checksum of b.
func checked(b []byte) []byte {
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

// rebuilt puts fields together, every checksum and length right.
func rebuilt(magic string, list []field) []byte {
	var rest []byte
	for _, f := range list {
		b := binary.BigEndian.AppendUint16(nil, f.tag)
		b = binary.BigEndian.AppendUint32(b, uint32(len(f.value)))
		rest = append(rest, checked(append(b, f.value...))...)
	}
	return append(checked(binary.BigEndian.AppendUint32([]byte(magic), uint32(24+len(rest)))), rest...)
}

// Magic of a blob, and of one that a later version writes.
const (
	magic      = "agentd/sealed/2\n"
	laterMagic = "agentd/sealed/3\n"
)

// swap takes fields of another blob of the app, with every checksum right.
func (b *bed) swap(tags ...uint16) {
	b.t.Helper()
	b.seal(billing, "more", "another one")
	_, more := b.file("billing", "more")
	theirs := fields(b.t, more)
	b.put(func(old []byte) []byte {
		ours := fields(b.t, old)
		for i := range ours {
			if slices.Contains(tags, ours[i].tag) {
				ours[i].value = theirs[i].value
			}
		}
		return rebuilt(magic, ours)
	})
}
