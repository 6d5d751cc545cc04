// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"

	"github.com/cvm-agentd/agentd/pcr"
)

// IMAEntry returns an entry of IMA's list in PCR 10, with these fields.
func IMAEntry(template string, fields ...[]byte) []byte {
	data := imaFields(fields)
	hash := sha1.Sum(data)
	return imaEntry(hash[:], template, data)
}

// IMAViolation returns an entry of a file that was written while it was measured.
func IMAViolation(path string) []byte {
	return imaEntry(make([]byte, 20), "ima-ng", imaFields([][]byte{IMADigest("sha256", make([]byte, 32)), IMAName(path)}))
}

// IMAFile returns an entry for a file of this content.
func IMAFile(path, content string) []byte {
	return IMAEntry("ima-ng", IMADigest("sha256", pcr.SHA256.Sum([]byte(content))), IMAName(path))
}

// IMAOld returns an entry of the template "ima", whose data has no length.
func IMAOld(digest [20]byte, path string) []byte {
	hashed := make([]byte, 276)
	copy(hashed, digest[:])
	copy(hashed[20:], path)
	hash := sha1.Sum(hashed)
	b := append(binary.LittleEndian.AppendUint32(nil, 10), hash[:]...)
	b = append(appendIMA(b, []byte("ima")), digest[:]...)
	return appendIMA(b, []byte(path))
}

// IMADigest returns the field d-ng.
func IMADigest(algorithm string, value []byte) []byte {
	return append([]byte(algorithm+":\x00"), value...)
}

// IMAName returns the field n-ng.
func IMAName(path string) []byte { return append([]byte(path), 0) }

// IMAValue returns what replaying these entries gives in a bank, where they are extended as
// ones or as the bank's own hash of their data, which follows their head of 24 bytes, the name
// and a length. There must be no entry of the template "ima".
func IMAValue(bank pcr.Algorithm, entries ...[]byte) []byte {
	value := make([]byte, bank.Size())
	for _, e := range entries {
		digest := bytes.Repeat([]byte{0xff}, bank.Size())
		if !bytes.Equal(e[4:24], make([]byte, 20)) {
			digest = bank.Sum(e[28+binary.LittleEndian.Uint32(e[24:])+4:])
		}
		value = bank.Sum(value, digest)
	}
	return value
}

// IMAAggregate returns the first entry of a list for these PCRs of bank SHA-256.
func IMAAggregate(values pcr.Values) []byte {
	var all []byte
	for i := range uint32(10) {
		all = append(all, values[pcr.SHA256][i]...)
	}
	return IMAEntry("ima-ng", IMADigest("sha256", pcr.SHA256.Sum(all)), IMAName("boot_aggregate"))
}

func imaEntry(hash []byte, template string, data []byte) []byte {
	b := append(binary.LittleEndian.AppendUint32(nil, 10), hash...)
	return appendIMA(appendIMA(b, []byte(template)), data)
}

func imaFields(fields [][]byte) (b []byte) {
	for _, f := range fields {
		b = appendIMA(b, f)
	}
	return b
}

// appendIMA appends the length of part, and part.
func appendIMA(b, part []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(part))), part...)
}
