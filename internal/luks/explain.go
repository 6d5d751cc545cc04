// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
)

// same reports whether two key slots are made alike. How soon each is tried does not matter.
func (k keyslot) same(o keyslot) bool {
	return k.Type == o.Type && k.KeySize == o.KeySize && k.AF == o.AF && k.Area == o.Area && k.KDF == o.KDF
}

// Explain says how h differs from the header that was recorded, with the code of the first
// difference. Both met every rule.
func (h *Header) Explain(recorded *Header) error {
	a, b := &recorded.metadata, &h.metadata
	switch was, is := recorded.Slots(), h.Slots(); {
	case h.UUID != recorded.UUID:
		return refuse(api.CodeDiskOther, "this is volume %s, recorded is %s", h.UUID, recorded.UUID)
	case h.Sequence < recorded.Sequence:
		return refuse(api.CodeDiskOlder, "the header has sequence number %d, recorded is %d: an older header was put back", h.Sequence, recorded.Sequence)
	case !slices.Equal(was, is):
		return refuse(api.CodeDiskSlot, "the header has key slots %v, recorded are %v", is, was)
	}
	changed := func(what string, before, now any) error {
		return refuse(api.CodeDiskChanged, "%s: recorded %v, found %v", what, before, now)
	}
	if x, y := a.Segments["0"], b.Segments["0"]; x.Offset != y.Offset || x.SectorSize != y.SectorSize {
		return changed("begin of the data, size of a sector", []any{x.Offset, x.SectorSize}, []any{y.Offset, y.SectorSize})
	}
	for _, n := range h.Slots() {
		id := fmt.Sprint(n)
		if x, y := a.Keyslots[id], b.Keyslots[id]; !x.same(y) {
			return changed("key slot "+id, fmt.Sprintf("%s, %d bytes, %s", x.KDF.Type, x.KeySize, x.Area.Offset), fmt.Sprintf("%s, %d bytes, %s, or another salt", y.KDF.Type, y.KeySize, y.Area.Offset))
		}
		if recorded.Areas[n] != h.Areas[n] {
			return refuse(api.CodeDiskChanged, "the area of key slot %d is another one than recorded", n)
		}
	}
	if x, y := a.Digests["0"], b.Digests["0"]; x.Digest != y.Digest || x.Salt != y.Salt || x.Hash != y.Hash || x.Iterations != y.Iterations {
		return refuse(api.CodeDiskDigest, "the digest of the volume's key is another one than recorded")
	}
	if !bytes.Equal(recorded.JSON, h.JSON) {
		return refuse(api.CodeDiskChanged, "the JSON of the header is not the recorded one")
	}
	return refuse(api.CodeDiskChanged, "label, subsystem or sequence number of the header are not the recorded ones")
}
