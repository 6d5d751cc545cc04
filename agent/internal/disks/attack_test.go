// SPDX-License-Identifier: Apache-2.0

package disks

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/crypttab"
)

// forge gives copies of the header on a device other JSON, with right checksums, as the owner of the
// disk can.
func forge(t *testing.T, device []byte, copies []int, old, new string) {
	t.Helper()
	for _, which := range copies {
		area := device[which*16384 : (which+1)*16384]
		text, _, _ := bytes.Cut(area[4096:], []byte{0})
		changed := strings.Replace(string(text), old, new, -1)
		if changed == string(text) {
			t.Fatalf("the attack %q -> %q changes nothing", old, new)
		}
		clear(area[4096:])
		copy(area[4096:], changed)
		resum(area)
	}
}

// resum corrects the checksum of a metadata area (LUKS2 specification, section 2.1).
func resum(area []byte) {
	clear(area[448:512])
	sum := sha256.Sum256(area)
	copy(area[448:], sum[:])
}

// TestAttacks: the host forges the header of an enrolled volume. Whether it does so before the header
// is checked or in the copy in memory, which it cannot reach: no key leaves the agent.
func TestAttacks(t *testing.T) {
	b := newBed(t, formatted(t))
	older := bytes.Clone(b.disk.durable)
	b.enroll()
	enrolled := bytes.Clone(b.disk.durable)
	b.opens()
	both := []int{0, 1}
	for name, x := range map[string]struct {
		change func(device []byte)
		code   api.Code
	}{
		"data in the clear (CVE-2025-59054)": {func(d []byte) {
			forge(t, d, both, `"encryption":"aes-xts-plain64","sector_size"`, `"encryption":"cipher_null-ecb","sector_size"`)
		}, api.CodeDiskCipher},
		"key slots that open with anything (CVE-2025-59054)": {func(d []byte) {
			forge(t, d, both, `"encryption":"aes-xts-plain64","key_size"`, `"encryption":"cipher_null-ecb","key_size"`)
		}, api.CodeDiskCipher},
		"everything null (CVE-2025-58356)": {func(d []byte) { forge(t, d, both, "aes-xts-plain64", "cipher_null-ecb") }, api.CodeDiskCipher},
		"linear segment (CVE-2025-58356)": {func(d []byte) {
			forge(t, d, both, `"segments":{"0":{"type":"crypt"`, `"segments":{"0":{"type":"linear"`)
		}, api.CodeDiskSegment},
		"second copy alone": {func(d []byte) { forge(t, d, []int{1}, "aes-xts-plain64", "cipher_null-ecb") }, api.CodeDiskCipher},
		"first copy alone":  {func(d []byte) { forge(t, d, []int{0}, "aes-xts-plain64", "cipher_null-ecb") }, api.CodeDiskCipher},
		"token": {func(d []byte) {
			forge(t, d, both, `"tokens":{}`, `"tokens":{"0":{"type":"systemd-tpm2","keyslots":[]}}`)
		}, api.CodeDiskToken},
		"sectors":           {func(d []byte) { forge(t, d, both, `"sector_size":4096`, `"sector_size":512`) }, api.CodeDiskChanged},
		"begin of the data": {func(d []byte) { forge(t, d, both, `"offset":"16777216"`, `"offset":"16781312"`) }, api.CodeDiskChanged},
		"hash of the digest": {func(d []byte) {
			forge(t, d, both, `"segments":["0"],"hash":"sha256"`, `"segments":["0"],"hash":"sha512"`)
		}, api.CodeDiskDigest},
		"flags": {func(d []byte) { forge(t, d, both, `"config":{`, `"config":{"flags":["allow-discards"],`) }, api.CodeDiskChanged},
		"re-encryption": {func(d []byte) {
			forge(t, d, both, `"config":{`, `"config":{"requirements":{"mandatory":["online-reencrypt-v2"]},`)
		}, api.CodeDiskRequirement},
		"priority":               {func(d []byte) { forge(t, d, both, `"key_size":64,"af"`, `"key_size":64,"priority":2,"af"`) }, api.CodeDiskChanged},
		"area of a key slot":     {func(d []byte) { d[32768+4711] ^= 1 }, api.CodeDiskChanged},
		"area of the agent's":    {func(d []byte) { d[290816+4711] ^= 1 }, api.CodeDiskChanged},
		"header of before":       {func(d []byte) { copy(d, older[:16<<20]) }, api.CodeDiskOlder},
		"header of another disk": {func(d []byte) { copy(d, formatted(t)[:16<<20]) }, api.CodeDiskOther},
		"label": {func(d []byte) {
			for _, which := range both {
				copy(d[which*16384+24:], "x")
				resum(d[which*16384 : (which+1)*16384])
			}
		}, api.CodeDiskChanged},
		"sequence number": {func(d []byte) {
			for _, which := range both {
				binary.BigEndian.PutUint64(d[which*16384+16:], 1<<40)
				resum(d[which*16384 : (which+1)*16384])
			}
		}, api.CodeDiskChanged},
		"no header":       {func(d []byte) { clear(d[:32768]) }, ""},
		"foreign slot":    {func(d []byte) { copy(d, withSlot(t, d)) }, api.CodeDiskSlot},
		"recovery missed": {func(d []byte) { copy(d, withoutRecovery(t, b, d)) }, api.CodeDiskSlot},
	} {
		b.disk.durable = bytes.Clone(enrolled)
		x.change(b.disk.durable)
		key, err := b.key()
		if err == nil || key != nil || x.code != "" && codeOf(err) != x.code && !errors.Is(err, x.code) {
			t.Errorf("%s: %v, want %s", name, err, x.code)
		}
		if _, err := os.Stat(crypttab.HeaderFile(b.disks.Folder, "data")); err == nil {
			t.Errorf("%s: there is a copy of the header in memory", name)
		}
		// And if root's part were deceived, so that the forged header is the copy: no key either.
		must(t, os.WriteFile(crypttab.HeaderFile(b.disks.Folder, "data"), b.disk.durable[:16<<20], 0o600))
		k, err := b.disks.VolumeKey(t.Context(), "data", b.command())
		if err == nil {
			k.Wipe()
			t.Errorf("%s: the agent gives the key for a forged copy", name)
		}
		if x.code != "" && codeOf(err) != x.code {
			t.Errorf("%s: the copy: %v, want %s", name, err, x.code)
		}
	}
	b.disk.durable = enrolled
	b.opens()
}

// withSlot returns the header of a device with one more key slot.
func withSlot(t *testing.T, d []byte) []byte {
	path := filepath.Join(t.TempDir(), "device")
	must(t, os.WriteFile(path, d, 0o600))
	other := path + ".key"
	must(t, os.WriteFile(other, []byte("of another party"), 0o600))
	run(t, recoveryKey, "cryptsetup", "luksAddKey", "--batch-mode", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", "-", path, other)
	b, err := os.ReadFile(path)
	must(t, err)
	return b[:16<<20]
}

// withoutRecovery returns the header of a device without the recovery key slot.
func withoutRecovery(t *testing.T, b *bed, d []byte) []byte {
	path := filepath.Join(t.TempDir(), "device")
	must(t, os.WriteFile(path, d, 0o600))
	run(t, nil, "cryptsetup", "luksKillSlot", "--batch-mode", path, "0")
	out, err := os.ReadFile(path)
	must(t, err)
	return out[:16<<20]
}

// TestSwapAfterTheCheck: the host changes the header after it was checked. The copy from which the
// volume opens stays what it was.
func TestSwapAfterTheCheck(t *testing.T) {
	b := newBed(t, formatted(t))
	b.enroll()
	vk := b.opens()
	must(t, b.volume.Prepare(t.Context()))
	forge(t, b.disk.durable, []int{0, 1}, "aes-xts-plain64", "cipher_null-ecb")
	k, err := b.disks.VolumeKey(t.Context(), "data", b.command())
	must(t, err)
	defer k.Wipe()
	must(t, k.Use(func(key []byte) error {
		if !bytes.Equal(volumeKey(t, crypttab.HeaderFile(b.disks.Folder, "data"), key), vk) {
			t.Error("another key of the volume")
		}
		return nil
	}))
}

// TestOneCopyTorn: a copy without a right checksum may come from a power cut, and rotate mends it.
func TestOneCopyTorn(t *testing.T) {
	for which := range 2 {
		b := newBed(t, formatted(t))
		b.enroll()
		vk := b.opens()
		b.disk.durable[which*16384+5000] ^= 1
		if c, err := b.volume.Check(t.Context()); err != nil || !c.Torn {
			t.Fatalf("copy %d: %v", which, err)
		}
		if !bytes.Equal(b.opens(), vk) {
			t.Errorf("copy %d: another key of the volume", which)
		}
		_, err := b.volume.Rotate(t.Context())
		must(t, err)
		if c, err := b.volume.Check(t.Context()); err != nil || c.Torn {
			t.Errorf("copy %d: after a rotation: %v", which, err)
		}
	}
}

// TestUnprepared: without a copy in memory that is root's, and a systemd-cryptsetup that reads it,
// there is no key.
func TestUnprepared(t *testing.T) {
	b := newBed(t, formatted(t))
	b.enroll()
	file := crypttab.HeaderFile(b.disks.Folder, "data")
	refused := func(name string, command []string) {
		t.Helper()
		if k, err := b.disks.VolumeKey(t.Context(), "data", command); !errors.Is(err, api.CodeDiskUnprepared) || k != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("no copy", b.command())
	must(t, b.volume.Prepare(t.Context()))
	good := b.command()
	options := func(o string) []string { return append(append([]string{}, good[:5]...), o) }
	for name, command := range map[string][]string{
		"nothing":              nil,
		"no options":           good[:5],
		"another verb":         append([]string{good[0], "detach"}, good[2:]...),
		"another volume":       append([]string{good[0], "attach", "other"}, good[3:]...),
		"no header":            options("luks,headless=true"),
		"header of the device": options("luks,header=/dev/vdb"),
		"two headers":          options("luks,header=" + file + ",header=/dev/vdb"),
		"header and device":    options("luks,header=" + file + ":/dev/vdb"),
		"no luks":              options("header=" + file),
		"plain after luks":     options("luks,header=" + file + ",plain"),
		"tcrypt after luks":    options("luks,header=" + file + ",tcrypt-veracrypt"),
		"veracrypt after luks": options("luks,header=" + file + ",veracrypt"),
		"bitlk after luks":     options("luks,header=" + file + ",bitlk"),
		"escaped comma":        options(`luks,x-other\,header=` + file),
		"swap":                 options("luks,header=" + file + ",swap"),
		"tmp":                  options("luks,header=" + file + ",tmp=ext4"),
		"more words":           append(append([]string{}, good...), "x"),
	} {
		refused(name, command)
	}
	must(t, os.Chmod(file, 0o620))
	refused("writable by a group", good)
	must(t, os.Chmod(file, 0o600))
	b.disks.Owners = []uint32{4711}
	refused("owner", good)
	b.disks.Owners = []uint32{uint32(os.Geteuid())}
	b.disks.Memory = func(*os.File) (bool, error) { return false, nil }
	refused("on a disk", good)
	b.disks.Memory = func(*os.File) (bool, error) { return true, nil }
	must(t, os.Rename(file, file+".away"))
	must(t, os.Symlink(file+".away", file))
	refused("a link", good)
	must(t, os.Remove(file))
	must(t, os.Mkdir(file, 0o700))
	refused("a folder", good)
	must(t, os.Remove(file))
	must(t, unix.Mkfifo(file, 0o600)) // as a node of a device would, it has no file system of its own
	if _, err := b.disks.VolumeKey(t.Context(), "data", good); !errors.Is(err, api.CodeDiskUnprepared) || !strings.Contains(err.Error(), "want a file of root") {
		t.Errorf("a pipe: %v", err)
	}
	must(t, os.Remove(file))
	must(t, os.Rename(file+".away", file))
	k, err := b.disks.VolumeKey(t.Context(), "data", good)
	must(t, err)
	k.Wipe()

	b.records.unproven = true
	if k, err := b.disks.VolumeKey(t.Context(), "data", good); !errors.Is(err, api.CodeDiskUnproven) || k != nil {
		t.Errorf("a record of which nothing tells who wrote it: %v", err)
	}
	b.records.unproven = false
	if k, err := b.disks.VolumeKey(t.Context(), "other", good); !errors.Is(err, api.CodeNoSuchDisk) || k != nil {
		t.Errorf("a volume that is not enrolled: %v", err)
	}
}
