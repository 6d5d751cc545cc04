// SPDX-License-Identifier: Apache-2.0

package luks

import (
	"cmp"
	"maps"
	"slices"
	"strconv"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// metadata is the JSON of a header (LUKS2 specification, section 3). A member that is not here is
// refused: this package cannot tell what cryptsetup makes of it.
type metadata struct {
	Keyslots map[string]keyslot `json:"keyslots"`
	Tokens   map[string]struct {
		Type string `json:"type"`
	} `json:"tokens"`
	Segments map[string]segment `json:"segments"`
	Digests  map[string]digest  `json:"digests"`
	Config   settings           `json:"config"`
}

type keyslot struct {
	Type     string `json:"type"`
	KeySize  int    `json:"key_size"` // bytes of the volume's key
	Priority *int   `json:"priority,omitempty"`
	AF       struct {
		Type    string `json:"type"`
		Stripes int    `json:"stripes"`
		Hash    string `json:"hash"`
	} `json:"af"`
	Area struct {
		Type       string `json:"type"`
		Offset     string `json:"offset"` // bytes from the beginning of the header
		Size       string `json:"size"`
		Encryption string `json:"encryption"`
		KeySize    int    `json:"key_size"` // bytes of the key that encrypts the area
	} `json:"area"`
	KDF struct {
		Type       string `json:"type"`
		Hash       string `json:"hash,omitempty"`
		Iterations int64  `json:"iterations,omitempty"`
		Time       int64  `json:"time,omitempty"`
		Memory     int64  `json:"memory,omitempty"` // KiB
		CPUs       int64  `json:"cpus,omitempty"`
		Salt       string `json:"salt"`
	} `json:"kdf"`
}

type segment struct {
	Type       string     `json:"type"`
	Offset     string     `json:"offset"` // bytes from the beginning of the device
	Size       string     `json:"size"`   // "dynamic": to the end of the device
	IVTweak    string     `json:"iv_tweak"`
	Encryption string     `json:"encryption"`
	SectorSize int        `json:"sector_size"`
	Integrity  *integrity `json:"integrity,omitempty"`
	Flags      []string   `json:"flags,omitempty"`
}

type integrity struct {
	Type              string `json:"type"`
	JournalEncryption string `json:"journal_encryption"`
	JournalIntegrity  string `json:"journal_integrity"`
}

type digest struct {
	Type       string   `json:"type"`
	Keyslots   []string `json:"keyslots"`
	Segments   []string `json:"segments"`
	Hash       string   `json:"hash"`
	Iterations int64    `json:"iterations"`
	Salt       string   `json:"salt"`
	Digest     string   `json:"digest"`
}

type settings struct {
	JSONSize     string   `json:"json_size"`
	KeyslotsSize string   `json:"keyslots_size"`
	Flags        []string `json:"flags,omitempty"`
	Requirements struct {
		Mandatory []string `json:"mandatory,omitempty"`
	} `json:"requirements,omitzero"`
}

// parse reads the JSON of a header, and checks every rule that needs nothing else than size, that
// of the metadata area.
func parse(text []byte, size int64) (*metadata, error) {
	if len(text) > MaxJSON {
		return nil, refuse(api.CodeDiskHeader, "JSON of %d bytes, at most %d", len(text), MaxJSON)
	}
	if err := refuseKinds(text); err != nil {
		return nil, err
	}
	var m metadata
	if err := strictjson.Decode(text, MaxJSON, &m); err != nil {
		return nil, refuse(api.CodeDiskHeader, "JSON of the header: %v", err)
	}
	return &m, m.check(size)
}

// refuseKinds finds what has a code of its own in JSON that may have members which only such kinds
// have: another kind of key slot or segment, or a token. So the refusal names the kind and not the
// member.
func refuseKinds(text []byte) error {
	type kind struct {
		Type string `json:"type"`
	}
	var kinds struct {
		Keyslots map[string]kind `json:"keyslots"`
		Tokens   map[string]kind `json:"tokens"`
		Segments map[string]kind `json:"segments"`
		Digests  map[string]kind `json:"digests"`
	}
	if err := strictjson.DecodeForeign(text, MaxJSON, &kinds); err != nil {
		return refuse(api.CodeDiskHeader, "JSON of the header: %v", err)
	}
	for _, id := range slices.Sorted(maps.Keys(kinds.Tokens)) {
		return refuse(api.CodeDiskToken, "token %q of type %q: a token can open the volume without the agent", id, kinds.Tokens[id].Type)
	}
	for _, id := range slices.Sorted(maps.Keys(kinds.Keyslots)) {
		if k := kinds.Keyslots[id].Type; k != "luks2" {
			return refuse(api.CodeDiskSlot, "key slot %q of type %q, want \"luks2\"", id, k)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(kinds.Segments)) {
		if k := kinds.Segments[id].Type; k != "crypt" {
			return refuse(api.CodeDiskSegment, "segment %q of type %q, want \"crypt\": it is read or written without the cipher", id, k)
		}
	}
	return nil
}

// number parses a number of bytes as LUKS2 writes it: decimal text.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 62)
	return n, err == nil && n >= 0 && strconv.FormatInt(n, 10) == s
}

// numbers returns the keys of a map whose keys are numbers, in order.
func numbers[T any](m map[string]T) []int {
	var out []int
	for k := range m {
		n, _ := strconv.Atoi(k)
		out = append(out, n)
	}
	slices.SortFunc(out, cmp.Compare[int])
	return out
}
