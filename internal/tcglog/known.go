// SPDX-License-Identifier: Apache-2.0

package tcglog

import (
	"bytes"
	"encoding/hex"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/pcr"
)

// Zero is the name of a PCR that nothing extended.
const Zero = "zero"

// separated names what a separator of systemd adds to a value.
const separated = "one os-separator of systemd"

// osSeparator is what systemd 261 and later extend once, in the initial file system of a
// measured unified kernel image, into separatorPCRs (systemd, TPM2_PCR_MEASUREMENTS).
const osSeparator = "os-separator"

var separatorPCRs = []uint32{0, 1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14}

// shimPCR is the PCR that shim extends by its lists: MokList, MokListX and, since version
// 15.5, MokListTrusted.
const shimPCR = 14

// A list is the content of a variable of shim. Its digests are in hexadecimal: the content
// of most has a certificate of a vendor, which is not kept here.
type list map[pcr.Algorithm]string

// A shim is a build of shim with no key of the machine's owner (MOK) enrolled: MokList has
// the vendor's certificate alone.
type shim struct {
	name     string
	allowed  list // MokList
	refused  list // MokListX
	trusting bool // there is a MokListTrusted, of one byte that is 1
}

var shims = []shim{
	{"shim of Ubuntu", canonicalList, emptyList, true},
	{"shim of Debian 13", debianList, debianRefused, true},
	{"shim of Red Hat Enterprise Linux 8", redHatList, emptyList, false},
	{"shim of CentOS 8", centOSList, emptyList, false},
	{"shim of Container-Optimized OS", emptyList, emptyList, true},
	{"shim of Container-Optimized OS 101", emptyList, emptyList, false},
}

// A KnownValue is a value that boot software leaves in a PCR.
type KnownValue struct {
	Name  string
	PCRs  []uint32 // PCRs that can have it; nil: all
	Value []byte
}

// KnownValues returns the values that boot software leaves, in one bank. For each, all that
// was extended since the TPM's reset is known: digests of boot software, and none of an
// event of the agent. So no measurement log of the agent was in the PCR before, or two
// contents would have one digest.
func KnownValues(bank pcr.Algorithm) []KnownValue {
	zero := make([]byte, bank.Size())
	if len(zero) == 0 {
		return nil
	}
	out := []KnownValue{{Zero, nil, zero}, {"after " + separated, separatorPCRs, separate(bank, zero)}}
	for _, s := range shims {
		if left := s.extend(bank, zero); left != nil {
			name, only := "after "+s.name+" without MOKs", []uint32{shimPCR}
			out = append(out, KnownValue{name, only, left}, KnownValue{name + ", and " + separated, only, separate(bank, left)})
		}
	}
	return out
}

// knownValues has the values of each bank, which are computed once.
var knownValues = sync.OnceValue(func() map[pcr.Algorithm][]KnownValue {
	out := make(map[pcr.Algorithm][]KnownValue)
	for _, bank := range []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384, pcr.SHA512} {
		out[bank] = KnownValues(bank)
	}
	return out
})

// Known returns the name of a value that boot software leaves in a PCR, empty for any other
// value.
func Known(bank pcr.Algorithm, index uint32, value []byte) string {
	if n := len(value); n > 0 && n == bank.Size() && !slices.ContainsFunc(value, func(b byte) bool { return b != 0 }) {
		return Zero // of most logs
	}
	for _, k := range knownValues()[bank] {
		if bytes.Equal(k.Value, value) && (k.PCRs == nil || slices.Contains(k.PCRs, index)) {
			return k.Name
		}
	}
	return ""
}

// separate returns a value after systemd's separator.
func separate(bank pcr.Algorithm, value []byte) []byte {
	return bank.Sum(value, bank.Sum([]byte(osSeparator)))
}

// extend returns a value after this shim, nil if its digests in a bank are not known.
func (s *shim) extend(bank pcr.Algorithm, value []byte) []byte {
	for _, l := range []list{s.allowed, s.refused} {
		digest, err := hex.DecodeString(l[bank])
		if err != nil || len(digest) == 0 {
			return nil
		}
		value = bank.Sum(value, digest)
	}
	if s.trusting {
		value = bank.Sum(value, bank.Sum([]byte{1}))
	}
	return value
}

// Leads reports whether a PCR has the value that a replayed log leads to, and how: empty if
// it does not. What the log leaves out and is known here is a separator of systemd, which
// is extended after the firmware's log ends.
func Leads(replayed pcr.Values, bank pcr.Algorithm, index uint32, value []byte) string {
	to, ok := replayed[bank][index]
	switch {
	case !ok:
		return ""
	case bytes.Equal(value, to):
		return "the firmware's log leads to it"
	case slices.Contains(separatorPCRs, index) && bytes.Equal(value, separate(bank, to)):
		return "the firmware's log leads to it, with " + separated
	}
	return ""
}
