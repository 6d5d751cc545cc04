// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"encoding/base64"
	"maps"
	"slices"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
)

// cipher is the only cipher of data and of key slots. With "cipher_null-ecb" data is not
// encrypted, and any passphrase opens a key slot.
const cipher = "aes-xts-plain64"

// Values that a header may have.
var (
	hashes      = []string{"sha256", "sha512"}
	keySizes    = []int{32, 64} // AES-128 and AES-256, in XTS
	sectorSizes = []int{512, 1024, 2048, 4096}
	// flags change how fast a volume is, and with allow-discards what its free space tells the
	// host. None changes what is encrypted.
	flags = []string{"allow-discards", "same-cpu-crypt", "submit-from-crypt-cpus", "no-read-workqueue", "no-write-workqueue"}
)

// check refuses metadata of another shape than one segment to the end of the device, encrypted
// with one key, which up to MaxSlots key slots contain.
func (m *metadata) check(size int64) error {
	for _, rule := range []func(*metadata, int64) error{
		(*metadata).checkConfig, (*metadata).checkSegments, (*metadata).checkKeyslots, (*metadata).checkDigests,
	} {
		if err := rule(m, size); err != nil {
			return err
		}
	}
	return nil
}

func (m *metadata) checkConfig(size int64) error {
	c := &m.Config
	if len(c.Requirements.Mandatory) > 0 {
		return refuse(api.CodeDiskRequirement, "requirements %q: a volume that is being encrypted anew, or that needs more than this reader knows", c.Requirements.Mandatory)
	}
	for _, f := range c.Flags {
		if !slices.Contains(flags, f) {
			return refuse(api.CodeDiskRequirement, "flag %q, want one of %q", f, flags)
		}
	}
	if n, ok := number(c.JSONSize); !ok || n != size-binarySize {
		return refuse(api.CodeDiskHeader, "json_size %q, the metadata area has %d bytes for it", c.JSONSize, size-binarySize)
	}
	if n, ok := number(c.KeyslotsSize); !ok || n == 0 || n%4096 != 0 || n > MaxHeader-2*size {
		return refuse(api.CodeDiskHeader, "keyslots_size %q, want a multiple of 4096 and at most %d", c.KeyslotsSize, MaxHeader-2*size)
	}
	return nil
}

// end returns the offset after the area of key slots. The metadata is checked.
func (m *metadata) end(size int64) int64 {
	n, _ := number(m.Config.KeyslotsSize)
	return 2*size + n
}

func (m *metadata) checkSegments(size int64) error {
	s, ok := m.Segments["0"]
	if !ok || len(m.Segments) != 1 {
		return refuse(api.CodeDiskSegment, "segments %q, want only \"0\"", slices.Sorted(maps.Keys(m.Segments)))
	}
	if s.Integrity != nil {
		return refuse(api.CodeDiskSegment, "a segment with integrity %q, which is not supported: nothing checks the metadata of dm-integrity", s.Integrity.Type)
	}
	if s.Encryption != cipher {
		return refuse(api.CodeDiskCipher, "the data is encrypted with %q, want %q", s.Encryption, cipher)
	}
	if offset, ok := number(s.Offset); !ok || offset%4096 != 0 || offset < m.end(size) || offset > MaxHeader {
		return refuse(api.CodeDiskSegment, "the data begins at %q, want a multiple of 4096 from %d to %d", s.Offset, m.end(size), MaxHeader)
	}
	switch {
	case s.Size != "dynamic":
		return refuse(api.CodeDiskSegment, "a segment of size %q, want one to the end of the device", s.Size)
	case s.IVTweak != "0":
		return refuse(api.CodeDiskSegment, "iv_tweak %q, want \"0\"", s.IVTweak)
	case !slices.Contains(sectorSizes, s.SectorSize):
		return refuse(api.CodeDiskSegment, "sectors of %d bytes, want one of %v", s.SectorSize, sectorSizes)
	case len(s.Flags) > 0:
		return refuse(api.CodeDiskSegment, "a segment with flags %q, want none", s.Flags)
	}
	return nil
}

func (m *metadata) checkKeyslots(size int64) error {
	if len(m.Keyslots) == 0 || len(m.Keyslots) > MaxSlots {
		return refuse(api.CodeDiskSlot, "%d key slots, want 1 to %d", len(m.Keyslots), MaxSlots)
	}
	type span struct{ from, to int64 }
	var spans []span
	keySize := 0
	for id, k := range m.Keyslots {
		if n, err := strconv.Atoi(id); err != nil || n < 0 || n > 31 || strconv.Itoa(n) != id {
			return refuse(api.CodeDiskSlot, "a key slot with number %q, want 0 to 31", id)
		}
		if err := k.check(id); err != nil {
			return err
		}
		if keySize != 0 && k.KeySize != keySize {
			return refuse(api.CodeDiskSlot, "key slots for keys of %d and of %d bytes", keySize, k.KeySize)
		}
		keySize = k.KeySize
		from, ok := number(k.Area.Offset)
		length, ok2 := number(k.Area.Size)
		if !ok || !ok2 || from%4096 != 0 || length%4096 != 0 || from < 2*size || length < int64(k.KeySize)*stripes || length > MaxArea || from > m.end(size)-length {
			return refuse(api.CodeDiskSlot, "the area of key slot %s is at %q and has %q bytes: not in the room for key slots", id, k.Area.Offset, k.Area.Size)
		}
		spans = append(spans, span{from, from + length})
	}
	slices.SortFunc(spans, func(a, b span) int { return int(a.from - b.from) })
	for i := 1; i < len(spans); i++ {
		if spans[i].from < spans[i-1].to {
			return refuse(api.CodeDiskSlot, "areas of two key slots overlap")
		}
	}
	return nil
}

// stripes is the number of stripes of the anti-forensic splitter (LUKS2 specification, section 4).
const stripes = 4000

func (k *keyslot) check(id string) error {
	switch {
	case k.Area.Encryption != cipher:
		return refuse(api.CodeDiskCipher, "key slot %s is encrypted with %q, want %q", id, k.Area.Encryption, cipher)
	case !slices.Contains(keySizes, k.KeySize) || !slices.Contains(keySizes, k.Area.KeySize):
		return refuse(api.CodeDiskCipher, "key slot %s has a key of %d bytes, encrypted with one of %d, want %v", id, k.KeySize, k.Area.KeySize, keySizes)
	case k.Area.Type != "raw":
		return refuse(api.CodeDiskSlot, "key slot %s has an area of type %q, want \"raw\"", id, k.Area.Type)
	case k.AF.Type != "luks1" || k.AF.Stripes != stripes || !slices.Contains(hashes, k.AF.Hash):
		return refuse(api.CodeDiskSlot, "key slot %s is split by %q, %d stripes, %q; want \"luks1\", %d and one of %q", id, k.AF.Type, k.AF.Stripes, k.AF.Hash, stripes, hashes)
	case k.Priority != nil && (*k.Priority < 0 || *k.Priority > 2):
		return refuse(api.CodeDiskSlot, "key slot %s has priority %d, want 0 to 2", id, *k.Priority)
	}
	d := &k.KDF
	if !salted(d.Salt) {
		return refuse(api.CodeDiskSlot, "key slot %s has a salt of another size than 32 bytes", id)
	}
	switch d.Type {
	case "pbkdf2":
		if slices.Contains(hashes, d.Hash) && d.Iterations >= minRounds && d.Iterations <= maxRounds && d.Time == 0 && d.Memory == 0 && d.CPUs == 0 {
			return nil
		}
	case "argon2i", "argon2id":
		if d.Time >= 1 && d.Time <= maxKDFTime && d.Memory >= 32 && d.Memory <= maxKDFCost && d.CPUs >= 1 && d.CPUs <= maxCPUs && d.Hash == "" && d.Iterations == 0 {
			return nil
		}
	}
	return refuse(api.CodeDiskSlot, "key slot %s derives its key by %q with values that are not allowed", id, d.Type)
}

func (m *metadata) checkDigests(int64) error {
	d, ok := m.Digests["0"]
	if !ok || len(m.Digests) != 1 {
		return refuse(api.CodeDiskDigest, "digests %q, want only \"0\"", slices.Sorted(maps.Keys(m.Digests)))
	}
	if d.Type != "pbkdf2" || !slices.Contains(hashes, d.Hash) || d.Iterations < minRounds || d.Iterations > maxRounds || !salted(d.Salt) {
		return refuse(api.CodeDiskDigest, "a digest of type %q, %q, %d iterations: not allowed", d.Type, d.Hash, d.Iterations)
	}
	if b, err := base64.StdEncoding.Strict().DecodeString(d.Digest); err != nil || len(b) < 20 || len(b) > 64 {
		return refuse(api.CodeDiskDigest, "a digest that does not have 20 to 64 bytes")
	}
	slots := slices.Sorted(maps.Keys(m.Keyslots))
	if given := slices.Sorted(slices.Values(d.Keyslots)); !slices.Equal(given, slots) {
		return refuse(api.CodeDiskDigest, "the digest is for key slots %q, there are %q", given, slots)
	}
	if !slices.Equal(d.Segments, []string{"0"}) {
		return refuse(api.CodeDiskDigest, "the digest is for segments %q, there is \"0\"", d.Segments)
	}
	return nil
}

// salted reports whether s is a salt of 32 bytes, as cryptsetup makes them.
func salted(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 32
}
