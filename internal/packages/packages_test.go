// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/pcr"
)

// want compares digests with those of these contents, in any order.
func want(t *testing.T, d *Digests, contents ...string) {
	t.Helper()
	var all [][]byte
	for _, c := range contents {
		all = append(all, d.Algorithm.Sum([]byte(c)))
	}
	slices.SortFunc(all, bytes.Compare)
	slices.SortFunc(d.Values, bytes.Compare)
	if !slices.EqualFunc(d.Values, all, bytes.Equal) {
		t.Errorf("%d digests, want those of %q", len(d.Values), contents)
	}
}

// TestTree: every regular file below a folder counts, and nothing that a link or a pipe leads to.
func TestTree(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	for name, content := range map[string]string{filepath.Join(dir, "a"): "one", filepath.Join(dir, "b", "c"): "two", filepath.Join(dir, "b", "d"): "", outside: "evil"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"file": outside, "folder": filepath.Dir(outside), "loop": ".", "broken": "nowhere"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		d := &Digests{Algorithm: a}
		if err := d.Tree(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		want(t, d, "one", "two", "")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, err := range map[string]error{
		"no folder": (&Digests{Algorithm: pcr.SHA256}).Tree(t.Context(), filepath.Join(dir, "nowhere")), "a file": (&Digests{Algorithm: pcr.SHA256}).Tree(t.Context(), outside),
		"ended": (&Digests{Algorithm: pcr.SHA256}).Tree(ended, dir), "no algorithm": (&Digests{}).Tree(t.Context(), dir),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestTreeOfManyFiles: a small file takes little memory, since there may be hundreds of thousands.
func TestTreeOfManyFiles(t *testing.T) {
	const files, each = 500, 8 << 10
	dir := t.TempDir()
	for i := range files {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("small"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &Digests{Algorithm: pcr.SHA256}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := d.Tree(t.Context(), dir); err != nil || len(d.Values) != files {
		t.Fatalf("%d digests: %v", len(d.Values), err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > files*each {
		t.Errorf("%d files took %d bytes in all, want at most %d", files, took, files*each)
	}
}

// texts are texts with a zero byte each.
func texts(list ...string) []byte { return []byte(strings.Join(list, "\x00") + "\x00") }

// headerOf returns a header with these entries: tag, type, count and data each.
func headerOf(entries ...any) []byte {
	var index, data []byte
	for i := 0; i < len(entries); i += 4 {
		for _, v := range []int{entries[i].(int), entries[i+1].(int), len(data), entries[i+2].(int)} {
			index = binary.BigEndian.AppendUint32(index, uint32(v))
		}
		data = append(data, entries[i+3].([]byte)...)
	}
	b := append(bytes.Clone(headerMagic), 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(index)/entrySize))
	b = binary.BigEndian.AppendUint32(b, uint32(len(data)))
	return append(append(b, index...), data...)
}

// rpmOf returns a package with this header.
func rpmOf(header []byte) []byte {
	signatures := headerOf(1000, typeInteger, 1, []byte{0, 0, 0, 0, 0})
	b := append(append(bytes.Clone(rpmLead), make([]byte, leadSize-4)...), signatures...)
	b = append(b, 0, 0, 0) // to a multiple of 8 after 5 bytes of data
	return append(append(b, header...), "payload"...)
}

func hexOf(content string) string { return hex.EncodeToString(pcr.SHA256.Sum([]byte(content))) }

// TestRPM: the digests in the header of a package are those of its files.
func TestRPM(t *testing.T) {
	number := func(n byte) []byte { return []byte{0, 0, 0, n} }
	files := texts(hexOf("one"), "", hexOf("two"))
	good := rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(8), tagFileDigests, typeTexts, 3, files))
	read := func(b []byte) (*Digests, error) {
		d := &Digests{Algorithm: pcr.SHA256}
		name := filepath.Join(t.TempDir(), "p.rpm")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return d, d.Package(t.Context(), name)
	}
	d, err := read(good)
	if err != nil {
		t.Fatal(err)
	}
	want(t, d, "one", "two")
	if d, err = read(rpmOf(headerOf(1000, typeTexts, 1, texts("name")))); err != nil || len(d.Values) != 0 {
		t.Errorf("without files: %v, %d", err, len(d.Values))
	}
	for name, b := range map[string][]byte{
		"nothing": nil, "text": []byte("a package"), "its lead": good[:96], "cut in the signatures": good[:110], "cut in the header": good[:len(good)-len("payload")-10],
		"MD5":                 rpmOf(headerOf(tagFileDigests, typeTexts, 3, files)),
		"SHA-1":               rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(2), tagFileDigests, typeTexts, 3, files)),
		"fewer digests":       rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(8), tagFileDigests, typeTexts, 4, files)),
		"4,294,967,295":       rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(8), tagFileDigests, typeTexts, 0xffffffff, files)),
		"short digest":        rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(8), tagFileDigests, typeTexts, 1, texts("00"))),
		"no hexadecimal":      rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, number(8), tagFileDigests, typeTexts, 1, texts(strings.Repeat("x", 64)))),
		"a header of 4 GiB":   rpmOf(append(append(bytes.Clone(headerMagic), 0, 0, 0, 0), 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)),
		"many entries":        rpmOf(append(append(bytes.Clone(headerMagic), 0, 0, 0, 0), 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1)),
		"another header":      rpmOf(append([]byte("garbage"), make([]byte, 100)...)),
		"no algorithm's data": rpmOf(headerOf(tagFileDigests, typeTexts, 3, files, tagFileDigestAlgo, typeInteger, 1, []byte{})),
	} {
		if d, err := read(b); err == nil {
			t.Errorf("%s: %d digests", name, len(d.Values))
		}
	}
}

// TestDeb: the files of a package of Debian are those that dpkg-deb unpacks; if it fails, none count.
func TestDeb(t *testing.T) {
	dir := t.TempDir()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "./usr/", Typeflag: tar.TypeDir}, {Name: "./usr/x", Typeflag: tar.TypeReg, Size: 3}, {Name: "./usr/y", Typeflag: tar.TypeSymlink, Linkname: "x"}, {Name: "./usr/z", Typeflag: tar.TypeReg, Size: 3},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(map[string]string{"./usr/x": "one", "./usr/z": "two"}[h.Name])); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("files.tar", b.String())
	write("p.deb", "!<arch>\nthe rest is for dpkg-deb")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	for name, c := range map[string]struct {
		script, says string
	}{
		"unpacked": {"[ \"$1\" = --fsys-tarfile ] && cat " + dir + "/files.tar", ""},
		"refused":  {"echo it is damaged >&2; exit 2", "it is damaged"},
		"cut":      {"head -c 700 " + dir + "/files.tar", "unexpected EOF"},
		"garbage":  {"yes garbage", "invalid tar header"},
		"failed":   {"cat " + dir + "/files.tar; exit 2", "exit status 2"},
	} {
		t.Run(name, func(t *testing.T) {
			write("dpkg-deb", "#!/bin/sh\n"+c.script+"\n")
			d := &Digests{Algorithm: pcr.SHA256}
			err := d.Package(t.Context(), filepath.Join(dir, "p.deb"))
			switch {
			case c.says == "" && err != nil:
				t.Fatal(err)
			case c.says == "":
				want(t, d, "one", "two")
			case err == nil || !strings.Contains(err.Error(), c.says):
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// TestManyFiles: there is a cap on files, in whatever they come.
func TestManyFiles(t *testing.T) {
	full := func() *Digests { return &Digests{Algorithm: pcr.SHA256, Values: make([][]byte, maxFiles)} }
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one"), []byte("one"), 0o600); err != nil {
		t.Fatal(err)
	}
	rpm := rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, []byte{0, 0, 0, 8}, tagFileDigests, typeTexts, 1, texts(hexOf("one"))))
	for name, err := range map[string]error{"a folder": full().Tree(t.Context(), dir), "a package": full().rpm(bytes.NewReader(rpm))} {
		if err == nil || !strings.Contains(err.Error(), "more than 4194304 files") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEndlessFile: a file of an archive whose size is 8 EiB, and that has no bytes, is read until the
// caller ends it.
func TestEndlessFile(t *testing.T) {
	const extended = "GNU.sparse.major=1\nGNU.sparse.minor=0\nGNU.sparse.name=zeros\nGNU.sparse.realsize=9000000000000000000\n"
	var records strings.Builder
	for line := range strings.Lines(extended) {
		for n := len(line); ; n++ {
			if r := fmt.Sprintf("%d %s", n, line); len(r) == n {
				records.WriteString(r)
				break
			}
		}
	}
	var b bytes.Buffer
	block := func(kind byte, name, content string) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x0000000000000\x00        %c", len(content), kind))
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, x := range h {
			sum += int(x)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
		b.WriteString(content + strings.Repeat("\x00", -len(content)&511))
	}
	block('x', "extended", records.String())
	block('0', "zeros", "0\n"+strings.Repeat("\x00", 510))
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	d := &Digests{Algorithm: pcr.SHA256}
	if err := d.tar(ctx, &b); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %d files", err, len(d.Values))
	}
}

// FuzzRPM: a package of any bytes is read or refused, and gives no more than it has.
func FuzzRPM(f *testing.F) {
	f.Add(rpmOf(headerOf(tagFileDigestAlgo, typeInteger, 1, []byte{0, 0, 0, 8}, tagFileDigests, typeTexts, 1, texts(hexOf("one")))))
	f.Fuzz(func(t *testing.T, b []byte) {
		d := &Digests{Algorithm: pcr.SHA256}
		if err := d.rpm(bytes.NewReader(b)); err == nil && len(d.Values)*64 > len(b) {
			t.Errorf("%d digests in %d bytes", len(d.Values), len(b))
		}
	})
}
