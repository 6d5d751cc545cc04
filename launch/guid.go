// SPDX-License-Identifier: Apache-2.0

package launch

import "encoding/hex"

// guid is a GUID as it stands in memory (UEFI Specification, appendix A): the first three
// groups of its text are numbers in little-endian order, the others bytes.
type guid [16]byte

// mustGUID parses the text of a constant of this package.
func mustGUID(text string) (g guid) {
	b, err := hex.DecodeString(text[0:8] + text[9:13] + text[14:18] + text[19:23] + text[24:36])
	if err != nil || len(text) != 36 {
		panic("launch: " + text + " is not a GUID")
	}
	for i, at := range [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		g[i] = b[at]
	}
	return g
}

// String returns the text of a GUID, for errors.
func (g guid) String() string {
	var b [16]byte
	for i, at := range [16]int{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15} {
		b[at] = g[i]
	}
	t := hex.EncodeToString(b[:])
	return t[:8] + "-" + t[8:12] + "-" + t[12:16] + "-" + t[16:20] + "-" + t[20:]
}
