// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

const (
	uuid = "6b1d35f6-1b0e-4b6f-9b39-5d0c3bb9d5d3"
	salt = "zoG69aVe0V+AcditGYRiFp19VZjJUhqjPyDuDY/x1qU="

	keyslotText = `{"type":"luks2","key_size":64,"af":{"type":"luks1","stripes":4000,"hash":"sha256"},` +
		`"area":{"type":"raw","offset":"OFFSET","size":"258048","encryption":"aes-xts-plain64","key_size":64},` +
		`"kdf":{"type":"argon2id","time":4,"memory":1048576,"cpus":4,"salt":"` + salt + `"}}`
	configText  = `{"json_size":"12288","keyslots_size":"16744448"}`
	segmentText = `{"type":"crypt","offset":"16777216","size":"dynamic","iv_tweak":"0","encryption":"aes-xts-plain64","sector_size":4096}`
)

// jsonText is the JSON of a header with two key slots, as cryptsetup writes it.
var jsonText = `{"keyslots":{"0":` + strings.Replace(keyslotText, "OFFSET", "32768", 1) + `,"1":` + strings.Replace(keyslotText, "OFFSET", "290816", 1) + `},` +
	`"tokens":{},"segments":{"0":` + segmentText + `},` +
	`"digests":{"0":{"type":"pbkdf2","keyslots":["0","1"],"segments":["0"],"hash":"sha256","iterations":336513,"salt":"` + salt + `","digest":"` + salt + `"}},` +
	`"config":` + configText + `}`

// device is the beginning of a device with that JSON in both copies.
func device(text string) []byte {
	b := make([]byte, 600<<10) // to the end of the second area
	for n := range 2 {
		at := 32768 + n*258048
		for i := range 258048 {
			b[at+i] = byte(i*7 + n)
		}
	}
	put(b, text)
	return b
}

// put gives both copies of a device other JSON, with a right checksum: what the owner of the disk
// can do.
func put(b []byte, text string) {
	h := Header{Sequence: 3, Size: 16384, UUID: uuid, JSON: []byte(text)}
	for which := range 2 {
		copy(b[which*16384:], h.area(which))
	}
}

// sum corrects the checksum of a copy.
func sum(b []byte, which int) {
	area := b[which*16384 : (which+1)*16384]
	s := checksum(area)
	copy(area[atChecksum:], s[:])
}

func read(t testing.TB, b []byte) [2]Copy {
	t.Helper()
	c, err := Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// header returns the header of a device, of which both copies are right.
func header(t testing.TB, b []byte) *Header {
	t.Helper()
	c := read(t, b)
	for _, x := range c {
		if x.Err != nil {
			t.Fatal(x.Err)
		}
	}
	if c[0].Header.Digest() != c[1].Header.Digest() {
		t.Fatal("the two copies of one header have two digests")
	}
	return c[0].Header
}

// TestForged: a header that an attacker wrote, checksums and all, is refused with the code of what it
// would have cryptsetup do. The names before the colon are those of published attacks.
func TestForged(t *testing.T) {
	extraSlot := `"2":` + strings.Replace(keyslotText, "OFFSET", "548864", 1) + `},"tokens"`
	for _, x := range []struct {
		name     string
		old, new string
		code     api.Code
	}{
		{"CVE-2025-59054: data is not encrypted", segmentText, strings.Replace(segmentText, "aes-xts-plain64", "cipher_null-ecb", 1), api.CodeDiskCipher},
		{"CVE-2025-59054: key slot opens with any passphrase", `"encryption":"aes-xts-plain64","key_size":64},"kdf"`, `"encryption":"cipher_null-ecb","key_size":64},"kdf"`, api.CodeDiskCipher},
		{"CVE-2025-58356: linear segment", segmentText, `{"type":"linear","offset":"16777216","size":"dynamic"}`, api.CodeDiskSegment},
		{"CVE-2025-58356: null cipher with a mode", segmentText, strings.Replace(segmentText, "aes-xts-plain64", "cipher_null", 1), api.CodeDiskCipher},
		{"CVE-2025-58356: null cipher of the kernel API", segmentText, strings.Replace(segmentText, "aes-xts-plain64", "capi:ecb(cipher_null)-plain64", 1), api.CodeDiskCipher},
		{"weaker cipher", segmentText, strings.Replace(segmentText, "aes-xts-plain64", "aes-ecb", 1), api.CodeDiskCipher},
		{"short key", `"key_size":64,"af"`, `"key_size":1,"af"`, api.CodeDiskCipher},
		{"two segments", segmentText, segmentText + `,"1":` + segmentText, api.CodeDiskSegment},
		{"second segment in the clear", segmentText, segmentText + `,"1":{"type":"linear","offset":"16777216","size":"dynamic"}`, api.CodeDiskSegment},
		{"other segment number", `"segments":{"0"`, `"segments":{"1"`, api.CodeDiskSegment},
		{"no segment", `"0":` + segmentText, ``, api.CodeDiskSegment},
		{"segment of fixed size", `"size":"dynamic"`, `"size":"4096"`, api.CodeDiskSegment},
		{"data in the header", `"offset":"16777216"`, `"offset":"0"`, api.CodeDiskSegment},
		{"data far away", `"offset":"16777216"`, `"offset":"1099511627776"`, api.CodeDiskSegment},
		{"data at a negative offset", `"offset":"16777216"`, `"offset":"-4096"`, api.CodeDiskSegment},
		{"other iv", `"iv_tweak":"0"`, `"iv_tweak":"1"`, api.CodeDiskSegment},
		{"other sector", `"sector_size":4096`, `"sector_size":8192`, api.CodeDiskSegment},
		{"segment of a re-encryption", `"sector_size":4096`, `"sector_size":4096,"flags":["backup-final"]`, api.CodeDiskSegment},
		{"integrity without a key", `"sector_size":4096`, `"sector_size":4096,"integrity":{"type":"none","journal_encryption":"none","journal_integrity":"none"}`, api.CodeDiskSegment},
		{"token", `"tokens":{}`, `"tokens":{"0":{"type":"systemd-tpm2","keyslots":["1"]}}`, api.CodeDiskToken},
		{"token with a passphrase in a keyring", `"tokens":{}`, `"tokens":{"0":{"type":"luks2-keyring","keyslots":["1"],"key_description":"x"}}`, api.CodeDiskToken},
		{"key slot outside the digest", `},"tokens"`, "," + extraSlot, api.CodeDiskDigest},
		{"key slot of a re-encryption", `"1":{"type":"luks2"`, `"1":{"type":"reencrypt"`, api.CodeDiskSlot},
		{"key slot without keys", `"keyslots":{`, `"keyslots":{},"x":{`, api.CodeDiskHeader},
		{"key slot number 32", `"1":{"type":"luks2"`, `"32":{"type":"luks2"`, api.CodeDiskSlot},
		{"key slot number 01", `"1":{"type":"luks2"`, `"01":{"type":"luks2"`, api.CodeDiskSlot},
		{"areas overlap", `"offset":"290816"`, `"offset":"36864"`, api.CodeDiskSlot},
		{"area in the metadata", `"offset":"290816"`, `"offset":"0"`, api.CodeDiskSlot},
		{"area in the data", `"offset":"290816"`, `"offset":"16773120"`, api.CodeDiskSlot},
		{"area of no bytes", `"size":"258048"`, `"size":"0"`, api.CodeDiskSlot},
		{"area of another kind", `"type":"raw"`, `"type":"journal"`, api.CodeDiskSlot},
		{"no stripes", `"stripes":4000`, `"stripes":1`, api.CodeDiskSlot},
		{"no derivation", `"time":4,"memory":1048576`, `"time":0,"memory":0`, api.CodeDiskSlot},
		{"all memory", `"memory":1048576`, `"memory":1073741824`, api.CodeDiskSlot},
		{"weak derivation", `"type":"argon2id","time":4,"memory":1048576,"cpus":4`, `"type":"pbkdf2","hash":"sha256","iterations":1`, api.CodeDiskSlot},
		{"other derivation", `"type":"argon2id"`, `"type":"none"`, api.CodeDiskSlot},
		{"empty salt", `"cpus":4,"salt":"` + salt + `"`, `"cpus":4,"salt":""`, api.CodeDiskSlot},
		{"priority", `"key_size":64,"af"`, `"key_size":64,"priority":3,"af"`, api.CodeDiskSlot},
		{"digest for another segment", `"segments":["0"]`, `"segments":["1"]`, api.CodeDiskDigest},
		{"digest of no bytes", `"digest":"` + salt + `"`, `"digest":""`, api.CodeDiskDigest},
		{"digest of another kind", `"type":"pbkdf2","keyslots"`, `"type":"none","keyslots"`, api.CodeDiskDigest},
		{"second digest", `"digests":{`, `"digests":{"1":{"type":"pbkdf2","keyslots":["0","1"],"segments":["0"],"hash":"sha256","iterations":1000,"salt":"` + salt + `","digest":"` + salt + `"},`, api.CodeDiskDigest},
		{"re-encryption under way", configText, `{"json_size":"12288","keyslots_size":"16744448","requirements":{"mandatory":["online-reencrypt-v2"]}}`, api.CodeDiskRequirement},
		{"unknown flag", configText, `{"json_size":"12288","keyslots_size":"16744448","flags":["no-journal"]}`, api.CodeDiskRequirement},
		{"other json_size", `"12288"`, `"12289"`, api.CodeDiskHeader},
		{"huge room", `"16744448"`, `"1099511627776"`, api.CodeDiskHeader},
		{"room of no bytes", `"16744448"`, `"0"`, api.CodeDiskHeader},
		{"member twice", `"tokens":{},`, `"tokens":{},"tokens":{},`, api.CodeDiskHeader},
		{"unknown member", `"tokens":{},`, `"tokens":{},"more":{},`, api.CodeDiskHeader},
		{"member in another case", `"tokens":{},`, `"Tokens":{},`, api.CodeDiskHeader},
		{"null", `"tokens":{}`, `"tokens":null`, api.CodeDiskHeader},
		{"something after", configText + "}", configText + "}{}", api.CodeDiskHeader},
		{"not JSON", `{"keyslots"`, `["keyslots"`, api.CodeDiskHeader},
	} {
		t.Run(x.name, func(t *testing.T) {
			text := strings.Replace(jsonText, x.old, x.new, 1)
			if text == jsonText {
				t.Fatal("the attack changes nothing")
			}
			for _, c := range read(t, device(text)) {
				if CodeOf(c.Err) != x.code || c.Torn || c.Header != nil {
					t.Errorf("got %v (%s), want %s", c.Err, CodeOf(c.Err), x.code)
				}
			}
		})
	}
	header(t, device(jsonText))
}

// TestBinary: the binary header is read as strictly.
func TestBinary(t *testing.T) {
	for name, x := range map[string]struct {
		at   int
		b    []byte
		torn bool
	}{
		"magic":              {0, []byte("LUKX"), true},
		"version":            {atVersion, []byte{0, 1}, true},
		"size":               {atSize, binary.BigEndian.AppendUint64(nil, 12345), true},
		"size that is huge":  {atSize, bytes.Repeat([]byte{0xff}, 8), true},
		"offset":             {atOffset, binary.BigEndian.AppendUint64(nil, 4096), false},
		"algorithm":          {atAlgorithm, []byte("sha1\x00\x00\x00"), false},
		"UUID":               {atUUID, []byte("../../x"), false},
		"label without end":  {atLabel, bytes.Repeat([]byte("a"), 48), false},
		"label with more":    {atLabel, []byte("a\x00b"), false},
		"label with escapes": {atLabel, []byte("\x1b[2J"), false},
		"padding":            {atPadding, []byte{1}, false},
		"more padding":       {afterSum, []byte{1}, false},
		"after the checksum": {atChecksum + 32, []byte{1}, false},
		"after the JSON":     {16383, []byte{1}, false},
	} {
		b := device(jsonText)
		copy(b[x.at:], x.b)
		area := b[:16384]
		s := checksum(area)
		if name != "after the checksum" {
			copy(area[atChecksum:], s[:])
		} else {
			clear(area[atChecksum:afterSum])
			s = sha256.Sum256(area)
			copy(area[atChecksum:], s[:])
			area[atChecksum+32] = 1
		}
		c := read(t, b)
		if CodeOf(c[0].Err) != api.CodeDiskHeader || c[0].Torn != x.torn {
			t.Errorf("%s: %v, torn %v", name, c[0].Err, c[0].Torn)
		}
		if c[1].Err != nil {
			t.Errorf("%s: the second copy: %v", name, c[1].Err)
		}
	}
}

// TestSecondCopyOnly: another JSON in the second copy alone is seen in that copy.
func TestSecondCopyOnly(t *testing.T) {
	b := device(jsonText)
	h := Header{Sequence: 9, Size: 16384, UUID: uuid, JSON: []byte(strings.Replace(jsonText, "aes-xts-plain64", "cipher_null-ecb", 1))}
	copy(b[16384:], h.area(1))
	c := read(t, b)
	if c[0].Err != nil || CodeOf(c[1].Err) != api.CodeDiskCipher {
		t.Errorf("%v, %v", c[0].Err, c[1].Err)
	}
}

// TestDigestCoversEverything flips each byte that cryptsetup uses, with the checksums made right: the
// copy is refused, or it has another digest.
func TestDigestCoversEverything(t *testing.T) {
	b := device(jsonText)
	h := header(t, b)
	want := h.Digest()
	seen := 0
	differs := func(at int, x *Header, err error) {
		if err == nil && x.Digest() == want {
			t.Errorf("byte %d can be changed", at)
		}
		seen++
	}
	for at := range binarySize + len(jsonText) + 1 {
		if at >= atSalt && at < atUUID || at >= atChecksum && at < atChecksum+32 {
			continue // they only make the checksum; WriteImage writes its own
		}
		b[at] ^= 1
		sum(b, 0)
		area := bytes.Clone(b[:16384])
		b[at] ^= 1
		if at < atSequence {
			sum(b, 0)
			x := bytes.Clone(b[:40000])
			copy(x, area)
			c := read(t, x)
			differs(at, c[0].Header, c[0].Err)
			continue
		}
		x, err := parseArea(area, 0, 0)
		if err == nil {
			x.Areas = h.Areas
		}
		differs(at, x, err)
	}
	sum(b, 0)
	for _, slot := range []int{32768, 290816} {
		for _, at := range []int{0, 1, 4095, 4096, 129024, 258047} {
			b[slot+at] ^= 1
			c := read(t, b)
			b[slot+at] ^= 1
			differs(slot+at, c[0].Header, c[0].Err)
		}
	}
	t.Logf("%d bytes", seen)
}

// TestImage: the image of a header is read as that header, has nothing else in it, and an area that
// changed after the check does not get into it.
func TestImage(t *testing.T) {
	b := device(jsonText)
	h := header(t, b)
	path := filepath.Join(t.TempDir(), "image")
	image := func() (*os.File, error) {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(h.ImageSize()); err != nil {
			t.Fatal(err)
		}
		return f, h.WriteImage(f, bytes.NewReader(b))
	}
	if _, err := image(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got = got[:len(b)]
	if header(t, got).Digest() != h.Digest() {
		t.Error("the image has another digest")
	}
	if !bytes.Equal(got[32768:], b[32768:len(got)]) {
		t.Error("the areas are not those of the device")
	}
	b[32768+77] ^= 1
	if _, err := image(); !errors.Is(err, api.CodeDiskChanged) {
		t.Errorf("an area that changed: %v", err)
	}
}

// TestNew: what another program read is checked as well.
func TestNew(t *testing.T) {
	h := header(t, device(jsonText))
	again := Header{Sequence: h.Sequence, Size: h.Size, UUID: h.UUID, JSON: h.JSON, Areas: h.Areas}
	x, err := New(again)
	if err != nil || x.Digest() != h.Digest() {
		t.Fatalf("%v", err)
	}
	for name, change := range map[string]func(*Header){
		"size":          func(h *Header) { h.Size = 8192 },
		"UUID":          func(h *Header) { h.UUID = "x" },
		"label":         func(h *Header) { h.Label = strings.Repeat("a", 49) },
		"JSON":          func(h *Header) { h.JSON = nil },
		"long JSON":     func(h *Header) { h.JSON = bytes.Repeat([]byte(" "), MaxJSON+1) },
		"area missing":  func(h *Header) { h.Areas = map[int]evidence.Digest{0: {}} },
		"area too much": func(h *Header) { h.Areas = map[int]evidence.Digest{0: {}, 1: {}, 2: {}} },
		"other area":    func(h *Header) { h.Areas = map[int]evidence.Digest{0: {}, 2: {}} },
	} {
		y := again
		change(&y)
		if _, err := New(y); CodeOf(err) != api.CodeDiskHeader {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCryptsetup: a header that cryptsetup made is accepted, and it opens the volume by our image.
func TestCryptsetup(t *testing.T) {
	if _, err := exec.LookPath("cryptsetup"); err != nil {
		t.Skip("cryptsetup is not installed: scripts/setup.sh installs it")
	}
	dir := t.TempDir()
	for i, more := range [][]string{
		{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"},
		{"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "1024"},
		{"--pbkdf", "argon2i", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "1024", "--key-size", "256", "--hash", "sha512", "--label", "data", "--subsystem", "x"},
		{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", "512", "--offset", "65536"},
	} {
		path := filepath.Join(dir, fmt.Sprint(i))
		tool(t, "truncate", "--size", "40M", path)
		tool(t, "cryptsetup", append([]string{"luksFormat", "--batch-mode", "--type", "luks2", path}, more...)...)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		h := header(t, b)
		image := path + ".image"
		f, err := os.Create(image)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(h.DataOffset()+4096), h.WriteImage(f, bytes.NewReader(b)), f.Close()); err != nil {
			t.Fatal(err)
		}
		tool(t, "cryptsetup", "open", "--test-passphrase", "--header", image, path)
	}
}

// tool runs a program with a passphrase on standard input.
func tool(t *testing.T, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader("passphrase")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
}

// FuzzRead: whatever a device begins with, reading ends, and what it accepts can be written and read
// again.
func FuzzRead(f *testing.F) {
	f.Add([]byte(jsonText), true)
	f.Add([]byte(`{}`), true)
	f.Add(device(jsonText)[:40000], false)
	f.Fuzz(func(t *testing.T, b []byte, whole bool) {
		if whole && len(b) <= 12288 {
			b = device(string(b))
		}
		c, err := Read(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range c {
			if (x.Header == nil) == (x.Err == nil) {
				t.Fatalf("%+v", x)
			}
			if x.Header == nil {
				continue
			}
			again, err := New(*x.Header)
			if err != nil || again.Digest() != x.Header.Digest() {
				t.Fatalf("%v", err)
			}
		}
	})
}
